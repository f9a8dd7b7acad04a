"""Sample data of the menu: the demo's light field, made on the spot; frames that ship."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from scopekit.napari.layers import LayerData
from serenet.demo import make_light_field
from serenet.napari.readers import stack_layer
from serenet.samples.files import sample_folder

_SEED = 0


@cache
def _folder() -> TemporaryDirectory[str]:
    """Return a folder of this session with the demo's files; it goes when napari ends."""
    folder = TemporaryDirectory(prefix="serenet_demo")
    make_light_field(Path(folder.name), torch.device("cpu"), seed=_SEED, overwrite=True)
    return folder


def demo_light_field() -> list[LayerData]:
    """Return the volume, hidden, and its simulated noisy views, which know their PSF file."""
    folder = Path(_folder().name)
    truth, views = (stack_layer(folder / f"{name}.tif") for name in ("truth", "views"))
    truth[1]["visible"] = False
    views[1]["metadata"]["serenet"]["optics"] = str(folder / "psf.h5")
    return [truth, views]


def vesicle_frames() -> list[LayerData]:
    """Return a recorded light-field frame and its flat frame, which know their microscope."""
    folder = sample_folder("guv")
    flat, raw = (
        stack_layer(folder / f"{name}.tif") for name in ("radiometry_frame", "light_field")
    )
    flat[1]["visible"] = False
    raw[1]["metadata"]["serenet"]["optics"] = str(folder / "guv.yaml")
    return [flat, raw]
