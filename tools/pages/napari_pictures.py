"""The pictures of ``docs/napari.md``: every widget in a real viewer, after a run.

    nox -s napari_pictures                  all of them
    nox -s napari_pictures -- rectify       one

A screen is needed, which may be one that nobody sees. Train and fine-tune take minutes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

from scopekit.settings import read_yaml, write_yaml
from serenet.napari import train as train_widget
from serenet.training.settings import shipped_settings
from tenet.array_kinds import to_array
from tenet.demo import make_image
from tenet.network.weights import load_model

DOCS = Path(__file__).resolve().parents[2] / "docs"
_SIZE = (1500, 950)
_WIDTH = 1200
_SETTLE_SECONDS = 1.0
Draw = Callable[[Any, Path], None]


def pump(seconds: float) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def press(widget: Any, text: str) -> None:
    """Press the button of that text, and wait until what it starts is done."""
    next(button for button in _buttons(widget) if button.text == text).native.click()
    worker = getattr(widget, "work", None) or widget.run
    while worker.busy:
        pump(0.1)
    pump(_SETTLE_SECONDS)


def _buttons(container: Any) -> Iterator[Any]:
    for one in container:
        if hasattr(one, "text"):
            yield one
        if hasattr(one, "margins"):
            yield from _buttons(one)


def dock(viewer: Any, plugin: str, name: str) -> Any:
    """Dock a widget."""
    return viewer.window.add_plugin_dock_widget(plugin, name)[1]


def microscope(viewer: Any, folder: Path) -> None:
    """Show the form, with a wavelength in nanometres."""
    widget = dock(viewer, "serenet", "Microscope")
    widget.target.value = folder / "mine.yaml"
    widget.fields["wavelength_um"].value = "525"


def rectify(viewer: Any, folder: Path) -> None:
    """Show the recorded vesicle, the lattice over its flat frame."""
    viewer.open_sample("serenet", "guv")
    widget = dock(viewer, "serenet", "Rectify")
    widget.raw.value = viewer.layers["light_field"]
    widget.flat.value = viewer.layers["radiometry_frame"]
    press(widget, "Rectify")
    pump(6)  # until what napari remarked has gone
    viewer.layers["light_field"].visible = False
    viewer.layers["radiometry_frame"].visible = True
    viewer.reset_view()
    viewer.scene.camera.zoom *= 4


def reconstruct(viewer: Any, folder: Path) -> None:
    """Show the demo's light field by the demo's network, beside the refocused views."""
    viewer.open_sample("serenet", "demo")
    widget = dock(viewer, "serenet", "Reconstruct")
    widget.weights.names.value = "demo"
    press(widget, "Reconstruct all")
    widget.beside.value = True
    viewer.reset_view()


def train(viewer: Any, folder: Path) -> None:
    """Show a short training of the demo's network."""
    settings = folder / "few_scenes.yaml"
    demo = read_yaml(shipped_settings()["demo"])
    few = {"data": {"simulated": 6}, "validation": {"simulated": 1}, "validate_every": 1}
    write_yaml(settings, demo | few, overwrite=False)
    train_widget.SETTINGS = str(settings)
    widget = dock(viewer, "serenet", "Train for this microscope")
    widget.minutes.value = 2
    widget.folder.value = folder / "run"
    press(widget, "Start")


def enhance(viewer: Any, folder: Path) -> None:
    """Show the demo's image, its objects and their table."""
    viewer.open_sample("tenet-microscopy", "demo")
    widget = dock(viewer, "tenet-microscopy", "Enhance")
    press(widget, "Enhance all")
    widget.threshold.value = 0.6
    press(widget, "Label and measure objects")
    viewer.reset_view()


def finetune(viewer: Any, folder: Path) -> None:
    """Show two images of the demo's microscope, one epoch."""
    model = load_model("demo_pretrain")
    widget = dock(viewer, "tenet-microscopy", "Fine-tune on these stacks")
    for seed in (1, 2):
        image = np.round(1000 * to_array(make_image(model, seed)[2][0, 0]))
        viewer.add_image(
            image, name=f"stack {seed}", scale=model.recorded_voxel_um, units=("um",) * 3
        )
    widget.stacks.value = list(viewer.layers)
    widget.epochs.value = 2
    widget.folder.value = folder / "tuning"
    press(widget, "Start")
    viewer.reset_view()


WIDGETS: dict[str, Draw] = {
    one.__name__: one for one in (microscope, rectify, reconstruct, train, enhance, finetune)
}


def take(name: str) -> Path:
    """Run a widget and keep a picture of the window."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        WIDGETS[name](viewer, Path(folder))
        pump(_SETTLE_SECONDS)
        shown = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    viewer.close()
    pump(_SETTLE_SECONDS)
    height = round(shown.height * _WIDTH / shown.width)
    path = DOCS / f"napari_{name}.png"
    small = shown.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    small.save(path, optimize=True)
    return path


def main() -> None:
    """Take the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*WIDGETS, []], help="default: all")
    for name in parser.parse_args().names or WIDGETS:
        path = take(name)
        print(f"{path}: {path.stat().st_size // 1024} KB", flush=True)


if __name__ == "__main__":
    main()
