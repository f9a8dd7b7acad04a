"""Small volumes of tubes and bubbles and their light fields, made on the spot."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from optics import LightFieldMicroscope, LightFieldOperator, sample_views
from scopekit.images.files import write_volume
from scopekit.progress import progress_bar

_LENSES = 12
_TUBES = 12
_BUBBLES = 7


def scene_shape(microscope: LightFieldMicroscope) -> tuple[int, int, int]:
    """Return (D, H, W) of the scenes of a microscope: 12 lenses wide."""
    side = _LENSES * microscope.n_num
    return len(microscope.depths_um), side, side


def tubes_and_bubbles(seed: int, microscope: LightFieldMicroscope) -> NDArray[np.float32]:
    """Draw curved tubes and hollow bubbles: (D, H, W) voxels, brightness 0 to about 300."""
    rng = np.random.default_rng(seed)
    sides = scene_shape(microscope)
    shape = np.array(sides)
    volume = np.zeros(sides, dtype=np.float32)
    for _ in range(_TUBES):
        ends = rng.uniform(0.1, 0.9, (2, 3)) * shape
        bend = ends.mean(axis=0) + rng.uniform(-0.25, 0.25, 3) * shape
        t = np.linspace(0, 1, 2000)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
        z, y, x = np.clip(np.rint(curve), 0, shape - 1).astype(int).T
        volume[z, y, x] = rng.uniform(100, 400)
    grid = np.indices(sides, dtype=np.float32)
    for _ in range(_BUBBLES):
        centre = rng.uniform((0.35, 0.15, 0.15), (0.65, 0.85, 0.85)) * shape
        radius = rng.uniform(6, 13)
        stretch = radius * (microscope.pixel_um / np.array(microscope.voxel_um))  # a sphere
        offsets = (grid - centre[:, None, None, None]) / stretch[:, None, None, None]
        distance = np.sqrt(np.square(offsets).sum(axis=0))
        volume[np.abs(distance - 1) < 0.8 / radius] = rng.uniform(40, 150)
    blurred: NDArray[np.float32] = gaussian_filter(volume, (0.5, 0.8, 0.8))
    return blurred


def write_scenes(folder: Path, seeds: range, microscope: LightFieldMicroscope, psf: Tensor) -> None:
    """Write ``views/sceneNNNN.tif`` and ``volumes/sceneNNNN.tif`` for every seed.

    Parameters
    ----------
    folder
        Where to; files of an earlier call are replaced.
    seeds
        One scene each.
    microscope
        The microscope.
    psf
        (A, D, h, w) of its views and depths.
    """
    operator = LightFieldOperator(psf)
    voxel_um = microscope.voxel_um
    step_um = microscope.view_pixel_um
    with progress_bar("simulating scenes", len(seeds)) as advance:
        for seed in seeds:
            volume = tubes_and_bubbles(seed, microscope)
            projected = operator.forward(torch.from_numpy(volume).to(psf.device))
            views = sample_views(projected, microscope.lateral_scale).clamp_(min=0).cpu().numpy()
            name = f"scene{seed:04d}.tif"
            write_volume(folder / "volumes" / name, volume, voxel_um, overwrite=True)
            size_um = (1.0, step_um, step_um)
            write_volume(folder / "views" / name, views, size_um, overwrite=True)
            advance()
