"""Small moving scenes of tubes and bubbles, as a 3 x 3 scan records their central view."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from optics import LightFieldMicroscope, LightFieldOperator, add_camera_noise, sample_views
from scopekit.images.files import write_volume
from scopekit.progress import progress_bar
from serenet.simulation.moving_scan import scan_moving
from serenet.simulation.scenes import tubes_and_bubbles

# A scene is made of 3 x 3 parts, each with a motion of its own.
_PARTS = 3
# Lenses beyond a part's borders that its light, and its motion, may reach.
_MARGIN_LENSES = 4
_STILL_SHARE = 0.25
_FASTEST = 1.2  # view pixels per exposure
_BRIGHTEST_BACKGROUND = 0.5  # of the scene's brightest parts
_PEAK_QUANTILE = 0.999
_PHOTONS = (100.0, 3000.0)
_READ_NOISE = 2.0

Drift = tuple[float, float]


def draw_drifts(rng: np.random.Generator) -> list[Drift]:
    """Draw the motion of every part of a scene, (y, x) in view pixels per exposure.

    A quarter of them rests; the others have any direction and speeds of up to 1.2.
    """
    speeds = rng.uniform(0, _FASTEST, _PARTS**2)
    speeds[rng.random(_PARTS**2) < _STILL_SHARE] = 0
    angles = rng.uniform(0, 2 * math.pi, _PARTS**2)
    return [(v * math.sin(a), v * math.cos(a)) for v, a in zip(speeds, angles, strict=True)]


def moving_scene(
    seed: int, drifts: list[Drift], microscope: LightFieldMicroscope, operator: LightFieldOperator
) -> tuple[Tensor, Tensor]:
    """Make a scene of 36 x 36 lenses and record it, at rest and moving.

    Parameters
    ----------
    seed
        Of its tubes and bubbles.
    drifts
        Of its nine parts in raster order, (y, x) in view pixels per exposure.
    microscope
        The microscope, which scans 3 x 3 positions.
    operator
        Projection onto the views wanted.

    Returns
    -------
    Tensor, Tensor
        Interlaced views (A, h, w) of the scene as it is at the middle exposure, and as it moves;
        without noise.
    """
    scale = microscope.lateral_scale
    border = _MARGIN_LENSES * microscope.n_num
    at_rest, moving = [], []
    for part, (y, x) in enumerate(drifts):
        volume = torch.from_numpy(tubes_and_bubbles(_PARTS**2 * seed + part, microscope))
        volume = F.pad(volume, (border,) * 4).to(operator.psf.device)
        projected = operator.forward(volume)
        at_rest.append(sample_views(projected, scale).cpu())
        moving.append(scan_moving(projected, (scale * y, scale * x), scale))
    margin = _MARGIN_LENSES * microscope.scanning
    return _assemble(at_rest, margin), _assemble(moving, margin)


def _assemble(parts: list[Tensor], margin: int) -> Tensor:
    """Lay parts (A, h, w) side by side, their margins on each other."""
    n_views, height, width = parts[0].shape
    rows, columns = height - 2 * margin, width - 2 * margin
    whole = torch.zeros(n_views, _PARTS * rows + 2 * margin, _PARTS * columns + 2 * margin)
    for number, part in enumerate(parts):
        y, x = (number // _PARTS) * rows, (number % _PARTS) * columns
        whole[:, y : y + height, x : x + width] += part
    # Resizing overshoots a little.
    return whole[:, margin:-margin, margin:-margin].clamp(min=0)


def write_moving_scenes(
    folder: Path, seeds: range, microscope: LightFieldMicroscope, operator: LightFieldOperator
) -> None:
    """Write ``views/sceneNNNN.tif``, noisy, and ``still/sceneNNNN.tif``, for every seed.

    Each has a background of its own, of up to half its peak, and 100 to 3000 photons in its
    brightest pixel; the still one has no noise.

    Parameters
    ----------
    folder
        Where to; files of an earlier call are replaced.
    seeds
        One scene each.
    microscope
        The microscope, which scans 3 x 3 positions.
    operator
        Projection onto the views wanted.
    """
    step_um = microscope.view_pixel_um
    with progress_bar("simulating moving scenes", len(seeds)) as advance:
        for seed in seeds:
            rng = np.random.default_rng(seed)
            still, moving = moving_scene(seed, draw_drifts(rng), microscope, operator)
            peak = torch.quantile(moving, _PEAK_QUANTILE)
            background = peak * rng.uniform(0, _BRIGHTEST_BACKGROUND)
            photons = math.exp(rng.uniform(*np.log(_PHOTONS)))
            still, moving = still + background, moving + background
            recorded = add_camera_noise(
                moving,
                photons=photons,
                read_noise=_READ_NOISE,
                generator=torch.Generator().manual_seed(seed),
            )
            expected = still * (photons / float(moving.max()))
            for name, views in (("views", recorded), ("still", expected)):
                path = folder / name / f"scene{seed:04d}.tif"
                write_volume(path, views.numpy(), (1.0, step_um, step_um), overwrite=True)
            advance()
