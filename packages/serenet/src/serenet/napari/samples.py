"""Sample data of the menu: the demo's light field and volume, made on the spot."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from scopekit.napari.layers import LayerData
from serenet.demo import make_light_field
from serenet.napari.readers import reader_of_stacks

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
    layers: list[LayerData] = []
    for name in ("truth", "views"):
        read = reader_of_stacks(str(folder / f"{name}.tif"))
        assert read is not None
        (layer,) = read(str(folder / f"{name}.tif"))
        layer[1]["metadata"] |= {"path": str(folder / f"{name}.tif")}
        layer[1]["visible"] = name == "views"
        layers.append(layer)
    layers[-1][1]["metadata"]["serenet"]["psf"] = str(folder / "psf.h5")
    return layers
