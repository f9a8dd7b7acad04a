"""``serenet demo``: a small scanned light field, made and reconstructed on the spot."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from optics import LightFieldPreset, open_psf
from scopekit.metrics import correlation
from scopekit.preview import save_preview
from scopekit.settings import write_yaml
from scopekit.volumes import open_stack, write_volume
from serenet.deconvolve_files import DeconvolveOptions, deconvolve_files
from serenet.simulate import Noise, make_psf, project_file
from serenet.views import decompose

_DEPTHS = 41
_SIDE = 156
_PSF_SIZE = 99
_ITERATIONS = 3
_PHOTONS = 500.0
_READ_NOISE = 3.0


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
        Correlation with the truth of ``refocused`` views and of the ``deconvolved`` volume.
    """
    psf, truth, views = out / "psf.h5", out / "truth.tif", out / "views.tif"
    preset = make_psf(
        "nnum13", psf, all_views=False, n_depths=_DEPTHS, size=_PSF_SIZE, overwrite=overwrite
    )
    voxel_um = (preset.depth_step_um, preset.pixel_um, preset.pixel_um)
    volume = tubes_and_bubbles(seed)
    write_volume(truth, volume, voxel_um, overwrite=overwrite)
    noise = Noise(_PHOTONS, _READ_NOISE, seed)
    project_file(truth, psf, views, noise, device, overwrite=overwrite)
    options = DeconvolveOptions(
        out=out, psf=psf, iterations=_ITERATIONS, device=device.type, overwrite=overwrite
    )
    (result,) = deconvolve_files([views], options)

    volumes = {
        "refocused views": refocused_mean(views, psf, preset),
        "deconvolved": open_stack(result).read(),
    }
    scores = {name.split()[0]: correlation(volume, v) for name, v in volumes.items()}
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


def tubes_and_bubbles(seed: int) -> NDArray[np.float32]:
    """Draw curved tubes and hollow bubbles: (41, 156, 156) voxels, brightness 0 to about 300."""
    rng = np.random.default_rng(seed)
    sides = (_DEPTHS, _SIDE, _SIDE)
    shape = np.array(sides)
    volume = np.zeros(sides, dtype=np.float32)
    for _ in range(12):
        ends = rng.uniform(0.1, 0.9, (2, 3)) * shape
        bend = ends.mean(axis=0) + rng.uniform(-0.25, 0.25, 3) * shape
        t = np.linspace(0, 1, 2000)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
        z, y, x = np.clip(np.rint(curve), 0, shape - 1).astype(int).T
        volume[z, y, x] = rng.uniform(100, 400)
    grid = np.indices(sides, dtype=np.float32)
    for _ in range(7):
        centre = rng.uniform((0.35, 0.15, 0.15), (0.65, 0.85, 0.85)) * shape
        radius = rng.uniform(6, 13)
        stretch = np.array((0.1221 / 0.2, 1, 1)) * radius  # a sphere, in voxels
        offsets = (grid - centre[:, None, None, None]) / stretch[:, None, None, None]
        distance = np.sqrt(np.square(offsets).sum(axis=0))
        volume[np.abs(distance - 1) < 0.8 / radius] = rng.uniform(40, 150)
    blurred: NDArray[np.float32] = gaussian_filter(volume, (0.5, 0.8, 0.8))
    return blurred


def refocused_mean(views: Path, psf: Path, preset: LightFieldPreset) -> NDArray[np.float32]:
    """Return the mean of the digitally refocused views on the volume's grid."""
    scale = preset.lateral_scale
    stack = torch.from_numpy(open_stack(views).read())
    refocused = decompose(stack, open_psf(psf).read_shift() / scale).mean(dim=0)
    side = [round(n * scale) for n in stack.shape[-2:]]
    resized = torch.nn.functional.interpolate(refocused[None], size=side, mode="bilinear")
    return resized[0].numpy()
