"""``serenet demo``: a small scanned light field, made and reconstructed on the spot."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from optics import LightFieldMicroscope, open_psf
from scopekit.images.files import open_stack, write_volume
from scopekit.metrics import correlation
from scopekit.preview import save_preview
from scopekit.settings import write_yaml
from serenet.deconvolution.files import DeconvolveOptions, deconvolve_files
from serenet.reconstruction.files import ReconstructOptions, reconstruct_files
from serenet.simulation.projection import Noise, project_file
from serenet.simulation.psf_files import make_psf
from serenet.simulation.scenes import tubes_and_bubbles
from serenet.views.refocusing import decompose

_DEPTHS = 41
_PSF_SIZE = 99
_ITERATIONS = 3
_PHOTONS = 500.0
_READ_NOISE = 3.0
WEIGHTS = ("demo", "demo_fserenet")


def run_demo(out: Path, device: torch.device, *, seed: int, overwrite: bool) -> dict[str, float]:
    """Make a volume and its noisy views, reconstruct it, and draw it beside the truth.

    Parameters
    ----------
    out
        Folder for ``truth.tif``, ``psf.h5``, ``views.tif``, the reconstruction and ``demo.png``.
    device
        Where to compute.
    seed
        Of the volume and the noise.
    overwrite
        Whether to replace the results of an earlier demo.

    Returns
    -------
    dict
        Correlation with the truth of the refocused views, of the volumes by the networks that
        ship, and of the deconvolved volume.
    """
    psf, truth, views = out / "psf.h5", out / "truth.tif", out / "views.tif"
    microscope = make_psf(
        "nnum13", psf, all_views=False, n_depths=_DEPTHS, size=_PSF_SIZE, overwrite=overwrite
    )
    voxel_um = microscope.voxel_um
    volume = tubes_and_bubbles(seed, microscope)
    write_volume(truth, volume, voxel_um, overwrite=overwrite)
    noise = Noise(_PHOTONS, _READ_NOISE, seed)
    project_file(truth, psf, views, noise, device, overwrite=overwrite)
    volumes = {"refocused views": refocused_mean(views, psf, microscope)}
    for weights in WEIGHTS:
        trained = ReconstructOptions(
            checkpoint=Path(weights), out=out, psf=psf, device=device.type, overwrite=overwrite
        )
        (result,) = reconstruct_files([views], trained)
        volumes[result.stem.removeprefix("views_")] = open_stack(result).read()
    options = DeconvolveOptions(
        out=out, psf=psf, iterations=_ITERATIONS, device=device.type, overwrite=overwrite
    )
    (result,) = deconvolve_files([views], options)
    volumes["deconvolved"] = open_stack(result).read()
    scores = {name: correlation(volume, v) for name, v in volumes.items()}
    captions = ["simulated"] + [f"correlation {score:.3f}" for score in scores.values()]
    save_preview(
        out / "demo.png",
        {"truth": volume, **volumes},
        voxel_um,
        overwrite=overwrite,
        captions=captions,
    )
    write_yaml(out / "demo.yaml", {"seed": seed, "correlation": scores}, overwrite=overwrite)
    return scores


def refocused_mean(views: Path, psf: Path, microscope: LightFieldMicroscope) -> NDArray[np.float32]:
    """Return the mean of the digitally refocused views on the volume's grid."""
    scale = microscope.lateral_scale
    stack = torch.from_numpy(open_stack(views).read())
    refocused = decompose(stack, open_psf(psf).read_shift() / scale).mean(dim=0)
    side = [round(n * scale) for n in stack.shape[-2:]]
    resized = torch.nn.functional.interpolate(refocused[None], size=side, mode="bilinear")
    return resized[0].numpy()
