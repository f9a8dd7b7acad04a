"""Sample data of the menu: the demo's image, made on the spot."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scopekit.images.files import open_stack, write_volume
from scopekit.napari.layers import LayerData, layer_of
from tenet.array_kinds import to_array
from tenet.demo import make_image
from tenet.network.weights import load_model

_SEED = 0


@cache
def _folder() -> TemporaryDirectory[str]:
    """Return a folder of this session with the demo's image; it goes when napari ends."""
    folder = TemporaryDirectory(prefix="tenet_demo")
    model = load_model("demo_pretrain")
    image = to_array(make_image(model, _SEED)[2][0, 0])
    write_volume(Path(folder.name) / "image.tif", image, model.recorded_voxel_um, overwrite=False)
    return folder


def demo_image() -> list[LayerData]:
    """Return the noisy image of a phantom, whose values 0 and 1 are those of the network."""
    path = Path(_folder().name) / "image.tif"
    stack = open_stack(path)
    about = {"path": str(path), "value_range": (0.0, 1.0)}
    return [layer_of(stack.read(), "demo image", stack.steps, metadata=about)]
