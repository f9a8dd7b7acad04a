"""``serenet demo``: a small scanned light field, made and reconstructed on the spot."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
from serenet.views.refocusing import refocus

_DEPTHS = 41
_PSF_SIZE = 99
_ITERATIONS = 3
_PHOTONS = 500.0
_READ_NOISE = 3.0
_UPDATES = 25
_RESULTS = {"demo": "serenet", "demo_fserenet": "fserenet"}
WEIGHTS = tuple(_RESULTS)


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
        ship, of one refined by physics, and of the deconvolved volume.
    """
    psf, views = out / "psf.h5", out / "views.tif"
    microscope, volume = make_light_field(out, device, seed=seed, overwrite=overwrite)
    volumes = {"refocused views": refocused_mean(views, psf, microscope)}
    seconds: dict[str, float] = {}

    def keep(name: str, made: Callable[[], list[Path]]) -> None:
        started = time.perf_counter()
        (result,) = made()
        seconds[name] = time.perf_counter() - started
        volumes[name] = open_stack(result).read()

    common: dict[str, Any] = {"psf": psf, "device": device.type, "overwrite": overwrite}
    for weights in WEIGHTS:
        trained = ReconstructOptions(checkpoint=Path(weights), out=out, **common)
        keep(_RESULTS[weights], partial(reconstruct_files, [views], trained))
    refined = ReconstructOptions(
        checkpoint=Path(WEIGHTS[0]), out=out / "refined", refine=_UPDATES, **common
    )
    keep("serenet, refined", partial(reconstruct_files, [views], refined))
    options = DeconvolveOptions(out=out, iterations=_ITERATIONS, **common)
    keep("deconvolved", partial(deconvolve_files, [views], options))
    scores = {name: correlation(volume, v) for name, v in volumes.items()}
    captions = ["simulated", f"correlation {scores['refocused views']:.3f}"]
    captions += [f"correlation {scores[n]:.3f}, {took:.1f} s" for n, took in seconds.items()]
    save_preview(
        out / "demo.png",
        {"truth": volume, **volumes},
        microscope.voxel_um,
        overwrite=overwrite,
        captions=captions,
    )
    about = {"seed": seed, "correlation": scores, "seconds": seconds}
    write_yaml(out / "demo.yaml", about, overwrite=overwrite)
    return scores


def make_light_field(
    out: Path, device: torch.device, *, seed: int, overwrite: bool
) -> tuple[LightFieldMicroscope, NDArray[np.float32]]:
    """Make a volume of tubes and bubbles and its noisy views.

    Parameters
    ----------
    out, device, seed, overwrite
        As in `run_demo`; written are ``truth.tif``, ``psf.h5`` and ``views.tif``.

    Returns
    -------
    LightFieldMicroscope, ndarray
        The microscope with the views and planes of the PSF; the volume, (Z, Y, X).
    """
    psf, truth = out / "psf.h5", out / "truth.tif"
    microscope = make_psf(
        "nnum13", psf, all_views=False, n_depths=_DEPTHS, size=_PSF_SIZE, overwrite=overwrite
    )
    volume = tubes_and_bubbles(seed, microscope)
    write_volume(truth, volume, microscope.voxel_um, overwrite=overwrite)
    noise = Noise(_PHOTONS, _READ_NOISE, seed)
    project_file(truth, psf, out / "views.tif", noise, device, overwrite=overwrite)
    return microscope, volume


def refocused_mean(views: Path, psf: Path, microscope: LightFieldMicroscope) -> NDArray[np.float32]:
    """Return the mean of the digitally refocused views on the volume's grid."""
    scale = microscope.lateral_scale
    stack = torch.from_numpy(open_stack(views).read())
    refocused = refocus(stack, open_psf(psf).read_shift() / scale)
    side = [round(n * scale) for n in stack.shape[-2:]]
    resized = torch.nn.functional.interpolate(refocused[None], size=side, mode="bilinear")
    return resized[0].numpy()
