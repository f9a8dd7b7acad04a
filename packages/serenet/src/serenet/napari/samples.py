"""Sample data of the menu: the demo's light field, made on the spot; frames that ship.

What takes long to import is imported in the thread that makes them.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scopekit.napari.layers import LayerData
from scopekit.napari.waiting import told_wait

_SEED = 0


@cache
def _folder() -> TemporaryDirectory[str]:
    """Return a folder of this session with the demo's files; it goes when napari ends."""
    import torch

    from serenet.demo import make_light_field

    folder = TemporaryDirectory(prefix="serenet_demo")
    make_light_field(Path(folder.name), torch.device("cpu"), seed=_SEED, overwrite=True)
    return folder


def demo_light_field() -> list[LayerData]:
    """Return the volume, hidden, and its simulated noisy views, which know their PSF file."""
    return told_wait("Making the demo's light field takes some seconds.", _demo_layers)


def _demo_layers() -> list[LayerData]:
    import serenet
    from serenet.napari.readers import stack_layer
    from serenet.napari.view_layers import slab

    folder = Path(_folder().name)
    (_, truth, _), (_, views, _) = layers = [
        stack_layer(folder / f"{name}.tif") for name in ("truth", "views")
    ]
    depths_um = serenet.load_microscope(folder / "psf.h5").depths_um
    truth |= {"visible": False, "translate": (depths_um[0], 0.0, 0.0)}
    views["metadata"]["serenet"]["optics"] = str(folder / "psf.h5")
    # Seen at each plane of the truth.
    thickness, middle_um = slab(depths_um[0], truth["scale"][0], len(depths_um))
    views["scale"] = (1.0, thickness, *views["scale"][-2:])
    views["translate"] = (0.0, middle_um, 0.0, 0.0)
    return layers


def vesicle_frames() -> list[LayerData]:
    """Return a recorded light-field frame and its flat frame, which know their microscope."""
    return told_wait("Opening the frames of the vesicle.", _vesicle_layers)


def _vesicle_layers() -> list[LayerData]:
    from serenet.napari.readers import stack_layer
    from serenet.samples.files import sample_folder

    folder = sample_folder("guv")
    flat, raw = (
        stack_layer(folder / f"{name}.tif") for name in ("radiometry_frame", "light_field")
    )
    flat[1]["visible"] = False
    raw[1]["metadata"]["serenet"]["optics"] = str(folder / "guv.yaml")
    return [flat, raw]
