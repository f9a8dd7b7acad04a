"""Sample data of the menu: the demo's image, made on the spot.

What takes long to import is imported in the thread that makes it.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scopekit.napari.layers import LayerData
from scopekit.napari.waiting import told_wait

_SEED = 0


@cache
def _folder() -> TemporaryDirectory[str]:
    """Return a folder of this session with the demo's image; it goes when napari ends."""
    from scopekit.images.files import write_volume
    from tenet.array_kinds import to_array
    from tenet.demo import make_image
    from tenet.network.weights import load_model

    folder = TemporaryDirectory(prefix="tenet_demo")
    model = load_model("demo_pretrain")
    image = to_array(make_image(model, _SEED)[2][0, 0])
    write_volume(Path(folder.name) / "image.tif", image, model.recorded_voxel_um, overwrite=False)
    return folder


def demo_image() -> list[LayerData]:
    """Return the noisy image of a phantom, whose values 0 and 1 are those of the network."""
    return told_wait("Making the demo's image takes some seconds.", _demo_layers)


def _demo_layers() -> list[LayerData]:
    from scopekit.images.files import open_stack
    from scopekit.napari.layers import layer_of

    path = Path(_folder().name) / "image.tif"
    stack = open_stack(path)
    about = {"path": str(path), "value_range": (0.0, 1.0)}
    return [layer_of(stack.read(), "demo image", stack.steps, metadata=about)]
