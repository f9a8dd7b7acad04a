"""The folder of a training run: settings, checkpoints, loss curves, pictures.

``settings.yaml``, ``log.csv``, ``loss.png``, ``tensorboard/``, ``pictures/epoch-0010.png``, and in
``checkpoints/`` ``last.pt`` (with all that resuming needs), ``best.pt`` and ``epoch-0100.pt``.
"""

import csv
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError
from scopekit.images.files import PartialVoxelSize
from scopekit.outputs import claimed, make_folder, require_writable, whole_file
from scopekit.preview import save_preview
from scopekit.progress import say
from scopekit.settings import read_yaml, write_yaml
from scopekit.training.processes import World

History = list[dict[str, float]]
_OWN_NAMES = {
    *("settings.yaml", "log.csv", "loss.png"),
    *("checkpoints", "pictures", "tensorboard", "simulated", "teacher"),
}
_RESULTS = ("checkpoints/*.pt", "tensorboard/events.*", "pictures/epoch-*.png")
# A resumed run may be made longer, or watched more closely.
_MAY_CHANGE = ("version", "epochs", "validate_every", "save_every")


class RunFolder:
    """Files of one training run.

    Parameters
    ----------
    path
        The folder; `begin` makes it.
    settings
        The resolved settings of the run, plain values.
    resume
        Go on with the run that the folder holds.
    overwrite
        Start anew where the folder holds a run.
    another
        What the user chooses for another folder.

    Raises
    ------
    UserError
        If the folder holds a run and neither is asked for, a run of other settings is to be
        resumed, or it holds other files.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        another: str = "another `out`",
    ) -> None:
        self.path = path
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"
        self._settings = settings
        self._kept = path / "settings.yaml"
        self._resumes = resume and self.last.exists()
        if self._resumes:
            _require_same(self._kept, read_yaml(self._kept), settings, another)
        elif self.last.exists() and not overwrite:
            raise UserError(
                f"{path} holds a training run: add `resume=True` to go on with it, "
                f"`overwrite=True` to start anew, or choose {another}"
            )
        found = {f.name for f in path.iterdir()} if path.is_dir() else set()
        if any(name not in _OWN_NAMES and not name.startswith(".") for name in found):
            raise UserError(f"{path} holds other files than a training run: choose {another}")
        require_writable(path)
        if resume and not self._resumes:
            say(f"{path} holds no run to go on with: starting one")
        self._has_begun = False
        self._writer: SummaryWriter | None = None

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Replace the settings by those with what the run chose by itself."""
        self._settings = settings
        if self._has_begun:
            write_yaml(self._kept, settings, overwrite=True)

    def begin(self) -> None:
        """Write the settings; remove what an earlier run left, unless it goes on."""
        make_folder(self.path)
        write_yaml(self._kept, self._settings, overwrite=True)
        self._has_begun = True
        if not self._resumes:
            old = [f for pattern in _RESULTS for f in self.path.glob(pattern)]
            for file in old:
                file.unlink()

    def write_epoch(self, epoch: int, content: dict[str, Any]) -> None:
        """Keep a checkpoint under its epoch's name."""
        path = self.path / "checkpoints" / f"epoch-{epoch:04d}.pt"
        write_checkpoint(path, content, overwrite=True)

    def write_history(self, history: History) -> None:
        """Write all epochs as ``log.csv``, and the last one to TensorBoard."""
        names = list(dict.fromkeys(name for row in history for name in row))
        with (
            whole_file(self.path / "log.csv", overwrite=True) as partial,
            partial.open("w", newline="", encoding="utf-8") as handle,
        ):
            writer = csv.DictWriter(handle, names)
            writer.writeheader()
            writer.writerows(history)
        row = history[-1]
        board = self._board(int(row["epoch"]))
        for name, value in row.items():
            board.add_scalar(name, value, int(row["epoch"]))

    def write_curves(self, history: History) -> None:
        """Draw all epochs as ``loss.png``."""
        with whole_file(self.path / "loss.png", overwrite=True) as partial:
            loss_curves(history).savefig(partial, format="png")

    def write_picture(
        self, epoch: int, volumes: Mapping[str, NDArray], voxel_um: PartialVoxelSize, caption: str
    ) -> None:
        """Draw orthogonal projections of the validation volumes, (Z, Y, X) of one shape."""
        path = self.path / "pictures" / f"epoch-{epoch:04d}.png"
        save_preview(path, volumes, voxel_um, overwrite=True, captions=[caption])
        image = torch.from_numpy(imread(path)[..., :3].copy())
        self._board(epoch).add_image("projections", image, epoch, dataformats="HWC")

    def _board(self, epoch: int) -> SummaryWriter:
        if self._writer is None:
            # What a killed run wrote after its last checkpoint is hidden.
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=epoch)
        return self._writer

    def close(self) -> None:
        """Finish the files of TensorBoard."""
        if self._writer is not None:
            self._writer.close()


def claimed_run(path: Path, world: World) -> AbstractContextManager[None]:
    """Keep other runs out of a run's folder while the block runs, see `claimed`."""
    return claimed(path / "run") if world.is_first else nullcontext()


def read_last(path: Path) -> dict[str, Any] | None:
    """Return the content of ``last.pt`` in a run's folder, ``None`` if there is none."""
    last = path / "checkpoints" / "last.pt"
    if not last.exists():
        return None
    content = read_checkpoint(last)
    if not isinstance(content, dict) or "training" not in content:
        raise UserError(
            f"{last}: not a checkpoint of a training run; start anew with `overwrite=True`"
        )
    return content


def _require_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any], another: str) -> None:
    # A key that is null is as good as none: such as one that came later.
    old, new = _without_nulls(old), _without_nulls(new)
    names = [n for n in {**old, **new} if n not in _MAY_CHANGE and old.get(n) != new.get(n)]
    if names:
        name = names[0]
        was, now = old.get(name), new.get(name)
        while isinstance(was, dict) and isinstance(now, dict):
            part = next(n for n in {**was, **now} if was.get(n) != now.get(n))
            name, was, now = f"{name}.{part}", was.get(part), now.get(part)
        raise UserError(
            f"{path}: this run was started with other settings ({', '.join(names)}): "
            f"{name} was {was}, is {now}; set it back, or choose {another}"
        )


def _without_nulls(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in content.items()
        if value is not None
    }


def loss_curves(history: History) -> Figure:
    """Draw loss, validation loss, each with its terms, and other scores over the epochs."""
    about = ("epoch", "step", "learning_rate", "seconds", "waiting_share")
    names = list(dict.fromkeys(n for row in history for n in row if n not in about))
    losses = [n for n in names if n == "loss" or n.startswith("loss_")]
    validated = [n for n in names if n.startswith("val_")]
    scores = [n for n in names if n not in losses and n not in validated]
    groups = [group for group in (losses, validated, *([n] for n in scores)) if group]
    figure = Figure(figsize=(7, 2.6 * len(groups)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        for name in group:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            marker = "." if len(points) < 60 else ""
            label = name.removeprefix("loss_").removeprefix("val_")
            axes.plot(*zip(*points, strict=True), label=label, marker=marker)
        axes.grid(alpha=0.3)
        if len(group) > 1:
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        label = {"loss": "loss", "val_loss": "validation loss"}.get(group[0], group[0])
        axes.set_ylabel(label)
        if group is losses or group is validated:
            _scale(axes, [row[name] for row in history for name in group if name in row])
    panels[-1].set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[-1].set_xlabel("epoch")
    return figure


def _scale(axes: Axes, values: list[float]) -> None:
    """Let an axis be logarithmic where values differ by decades."""
    sizes = np.abs([value for value in values if value])
    if not len(sizes) or sizes.max() <= 10 * sizes.min():
        return
    if min(values) > 0:
        axes.set_yscale("log")
    else:  # A likelihood may fall below zero, where there are no logarithms.
        axes.set_yscale("symlog", linthresh=float(np.median(sizes)))
