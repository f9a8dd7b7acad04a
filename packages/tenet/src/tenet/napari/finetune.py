"""The widget *Fine-tune on these stacks*: ``tenet finetune`` as a process, watched."""

import json
import shutil
from pathlib import Path
from typing import Any

from magicgui.widgets import Container, FileEdit, Select, SpinBox

from scopekit.errors import UserError
from scopekit.images.files import write_volume
from scopekit.napari.choices import NamedOrFile, is_image, shown_values
from scopekit.napari.runs import Run, RunPanel
from scopekit.napari.work import Scrolled
from scopekit.outputs import make_folder, whole_file
from scopekit.settings import find_config, read_json, shipped_configs
from tenet.config.files import load_config

_NAME = "tuned"


class Finetune(Scrolled):
    """Fine-tunes pre-trained weights on stacks of the viewer, without any truth.

    Parameters
    ----------
    napari_viewer
        The viewer.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self._viewer = napari_viewer
        self.stacks = Select(
            name="stacks", label="stacks", choices=self._recordings,
            tooltip="Two or more of one microscope: the last fifth of them validates.",
        )  # fmt: skip
        own = FileEdit(name="own_config", label="my file", mode="r", filter="*.json", nullable=True)
        self.config = NamedOrFile(
            "config", list(shipped_configs("tenet")), own, label="configuration",
            tooltip="The microscope and the network.",
            missing="no configuration is chosen: name its file (.json)",
        )  # fmt: skip
        self.weights = FileEdit(
            name="weights", label="its weights", mode="r", filter="*.pt", nullable=True,
            tooltip="Pre-trained weights of that configuration (.pt).",
        )  # fmt: skip
        self.epochs = SpinBox(name="epochs", label="epochs", min=1, max=10_000, value=20)
        self.folder = FileEdit(
            name="folder", label="folder", mode="d", nullable=True,
            tooltip="A new folder: for the stacks, the run, and model/tuned.pt.",
        )  # fmt: skip
        self.run = RunPanel(self._prepare)
        form = Container(
            widgets=[
                self.stacks, self.config.names, self.config.file, self.weights, self.epochs,
                self.folder,
            ]
        )  # fmt: skip
        super().__init__([form, self.run])
        self.config.names.changed.connect(self._show_own)
        for event in (napari_viewer.layers.events.inserted, napari_viewer.layers.events.removed):
            event.connect(self._renew)
        self.native.destroyed.connect(self._forget)
        self._show_own()
        self._renew()

    def _recordings(self, _: Any) -> list[Any]:
        return [layer for layer in self._viewer.layers if is_image(layer)]

    def _renew(self) -> None:
        self.stacks.reset_choices()

    def _forget(self) -> None:
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._renew)

    def _show_own(self) -> None:
        self.weights.visible = self.config.is_own

    def _prepare(self, resume: bool) -> Run:
        if not self.folder.value:
            raise UserError("no folder is named: choose a new one")
        folder = Path(self.folder.value)
        file = folder / f"{_NAME}.json"
        if not resume:
            self._write(folder, file)
        load_config(file)
        return Run("tenet", ["finetune", str(file), "--mode", "all"], folder / "train" / _NAME)

    def _write(self, folder: Path, file: Path) -> None:
        """Write the stacks and the configuration, and copy the weights."""
        layers = list(self.stacks.value)
        if len(layers) < 2:
            raise UserError("choose two stacks or more, some of which validate")
        base = find_config(self.config.source, "tenet")
        model = load_config(base)
        if file.exists():
            raise UserError(f"{file} exists: choose another folder, or resume")
        make_folder(folder / "stacks")
        for number, layer in enumerate(layers):
            in_um = str(layer.units[-1]) == "micrometer"
            z, y, x = (float(step) for step in layer.scale[-3:])
            voxel_um = (z, y, x) if in_um else (None, None, None)
            name = f"{number:02d}_{layer.name}.tif".replace("/", "_")
            volume = shown_values(layer, self._viewer)
            write_volume(folder / "stacks" / name, volume, voxel_um, overwrite=True)
        if self.config.is_own and self.weights.value:
            make_folder(folder / "model")
            shutil.copyfile(self.weights.value, folder / "model" / f"{model.pretrained_model}.pt")
        content = tuning_config(read_json(base), folder, int(self.epochs.value))
        with whole_file(file, overwrite=False) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def tuning_config(base: dict[str, Any], folder: Path, epochs: int) -> dict[str, Any]:
    """Return a configuration that learns from the stacks of a folder, and lands there.

    Parameters
    ----------
    base
        The configuration of the pre-trained network.
    folder
        Holds ``stacks``; gets ``model`` and ``train``.
    epochs
        How many.
    """
    content = dict(base)
    for name in ("train_dataset", "val_dataset"):
        content[name] = {**content.get(name, {}), "folderpath": str(folder / "stacks")}
    # Elastic weight consolidation would need the labels of the pre-training.
    labels = Path(base.get("pretrain_dataset", {}).get("folderpath", "no labels"))
    loop = content.get("train_loop", {})
    content["train_loop"] = {
        **loop,
        "n_epochs": epochs,
        "path": str(folder / "model"),
        "savefig_path": str(folder / "train"),
        "is_instantblur": False,
        "ewc": bool(loop.get("ewc")) and labels.is_dir(),
    }
    return content
