"""``tenet demo``: a phantom, its two-photon image, and what the network makes of it."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skimage.filters import threshold_otsu

from scopekit.images.files import write_volume
from scopekit.outputs import require_new
from scopekit.preview import save_preview
from scopekit.progress import say
from scopekit.settings import write_yaml
from tenet.array_kinds import Array, to_array
from tenet.config.files import SHIPPED
from tenet.data.small_phantom import tubes_and_solids
from tenet.enhancement.stack import enhance
from tenet.metrics import scores_of
from tenet.microscope.imaging import Microscope
from tenet.network.jnet import JNet
from tenet.network.weights import load_model

_SHAPE = (128, 128, 128)
_VOLUMES = ("truth", "image", "structure", "brightness")
NAME = "demo"


def run_demo(
    out: Path, device: torch.device, *, seed: int, overwrite: bool
) -> dict[str, dict[str, float]]:
    """Make a phantom, image it, enhance the image, and draw all beside the truth.

    Parameters
    ----------
    out
        Folder for ``truth.tif``, ``image.tif``, ``structure.tif``, ``brightness.tif``,
        ``demo.png`` and ``demo.yaml``.
    device
        Where to compute.
    seed
        Of the phantom and the noise.
    overwrite
        Whether to replace the results of an earlier demo.

    Returns
    -------
    dict
        For the image, interpolated and cut at Otsu's threshold, and for the enhanced structure:
        the intersection over union with the truth, and the error of the volume.
    """
    for name in (*(f"{volume}.tif" for volume in _VOLUMES), "demo.png", "demo.yaml"):
        require_new(out / name, overwrite=overwrite)
    model = load_model(SHIPPED / f"{NAME}_pretrain.pt").to(device)
    say("imaging a phantom")
    truth, brightness, image = make_image(model, seed)
    say("enhancing its image")
    found = enhance(model, _array(image))
    smooth = F.interpolate(image, size=_SHAPE, mode="trilinear")
    volumes = {"truth": truth, "structure": found.structure, "image": _array(image)}
    # In the unit of the image.
    volumes["brightness"] = found.brightness * np.float32(found.value_range[1])
    for name, volume in volumes.items():
        voxel_um = model.recorded_voxel_um if name == "image" else model.voxel_um
        write_volume(out / f"{name}.tif", volume, voxel_um, overwrite=overwrite)
    cut = float(threshold_otsu(_array(smooth)))
    results = {
        "image": scores_of(_array(smooth), truth, cut),
        "enhanced": scores_of(volumes["structure"], truth, model.params.threshold),
    }
    shown = {
        "image": _array(smooth),
        "enhanced": volumes["structure"] * volumes["brightness"],
        "truth": brightness,
    }
    captions = [
        f"IoU {score['iou']:.3f}, volume {100 * score['volume_error']:+.0f} %"
        for score in results.values()
    ]
    save_preview(
        out / "demo.png",
        shown,
        model.voxel_um,
        overwrite=overwrite,
        captions=[*captions, "simulated"],
    )
    write_yaml(out / "demo.yaml", {"seed": seed, **results}, overwrite=overwrite)
    return results


def make_image(model: JNet, seed: int) -> tuple[Array, Array, torch.Tensor]:
    """Return a phantom and its noisy image by the analytic PSF.

    Parameters
    ----------
    model
        Tells the microscope.
    seed
        Of the phantom and the noise.

    Returns
    -------
    truth, brightness : ndarray
        (Z, Y, X): 1 in objects; and how bright they are.
    image : Tensor
        (1, 1, Z / scale, Y, X).
    """
    truth, brightness = tubes_and_solids(seed, _SHAPE)
    return truth, brightness, image_of(brightness, model, seed)


def image_of(brightness: Array, model: JNet, seed: int) -> torch.Tensor:
    """Return the image (1, 1, Z / scale, Y, X) of a phantom (Z, Y, X) by the analytic PSF.

    With the noise of the model.
    """
    learnt = model.microscope()
    true = Microscope(learnt.image, model.image.analytic, learnt.a, learnt.sigma)
    return true.record(torch.from_numpy(brightness)[None, None].to(learnt.a.device), [seed])


def _array(volume: torch.Tensor) -> Array:
    return to_array(volume[0, 0])
