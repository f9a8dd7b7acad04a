"""Simulated light fields: the views of a volume, and files of them."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from optics import (
    LightFieldMicroscope,
    LightFieldOperator,
    PSFFile,
    add_camera_noise,
    sample_views,
    sampled_size,
)
from scopekit.errors import UserError
from scopekit.images.files import (
    WHOLE_FILE,
    PartialVoxelSize,
    Selection,
    StackFile,
    open_stack,
    write_volume,
)
from scopekit.outputs import require_new
from scopekit.progress import progress_bar, say
from serenet.simulation.moving_scan import scan_moving
from serenet.views.files import require_tiff
from serenet.views.microscope import microscope_for_model, open_psf_file
from serenet.views.scan import SIDE, check_scanned

# Views projected together: they share the volume's transforms.
_VIEWS_AT_ONCE = 13


@dataclass(frozen=True)
class Noise:
    """Camera noise: expected photons in the brightest pixel, and read noise in electrons."""

    photons: float
    read_noise: float
    seed: int


def project_file(
    volume: Path,
    psf: Path,
    out: Path,
    noise: Noise | None,
    device: torch.device,
    *,
    drift_um: tuple[float, float] | None = None,
    selection: Selection = WHOLE_FILE,
    overwrite: bool,
) -> Tensor:
    """Simulate the views of a volume on the scanned grid and write them as TIFF (A, h, w).

    Without noise the views have the volume's units; with noise they are photon counts. If the
    volume drifts, by (y, x) um per exposure of a 3 x 3 scan, the views of the volume at rest
    where it is at the middle exposure, without noise, are written to ``<out>_still.tif``.
    """
    require_tiff(out)
    require_new(out, overwrite=overwrite, inputs=(volume, psf))
    still_out = out.with_name(f"{out.stem}_still.tif")
    if drift_um is not None:
        require_new(still_out, overwrite=overwrite, inputs=(volume, psf))
    file = open_psf_file(psf)
    microscope = file.microscope or microscope_for_model(file.n_views)
    stack = open_stack(volume, selection)
    if len(stack.shape) != 3 or stack.shape[0] != file.n_depths:
        raise UserError(
            f"{volume}: shape {stack.shape}; the PSF has {file.n_depths} depths, so (Z, Y, X) "
            f"with Z = {file.n_depths} is needed. Crop the volume or make a PSF with fewer depths"
        )
    _check_voxel(stack, microscope)
    drift = None
    if drift_um is not None:
        if microscope.scanning != SIDE:
            raise UserError(f"`drift`: {psf} is of a microscope that does not scan 3 x 3 positions")
        if not all(math.isfinite(step) for step in drift_um):
            raise UserError(f"`drift={drift_um[0]} {drift_um[1]}`: give numbers of um")
        view_yx = (sampled_size(n, microscope.lateral_scale) for n in stack.shape[1:])
        check_scanned((file.n_views, *view_yx), f"views of {volume}")
        drift = (drift_um[0] / microscope.pixel_um, drift_um[1] / microscope.pixel_um)
        travelled = [abs(step) * (SIDE**2 - 1) for step in drift]
        if any(far > n for far, n in zip(travelled, stack.shape[1:], strict=True)):
            say(f"warning: `drift={drift_um[0]:g} {drift_um[1]:g}`: beyond the field in one scan")
    scene = torch.from_numpy(stack.read()).to(device)
    still, views = project_volume(scene, file, microscope.lateral_scale, drift)
    if noise is not None:
        peak = float(views.max())
        views = add_camera_noise(
            views.clamp(min=0),
            photons=noise.photons,
            read_noise=noise.read_noise,
            generator=torch.Generator().manual_seed(noise.seed),
        )
        still = still * (noise.photons / peak if peak > 0 else 1.0)
    step = microscope.view_pixel_um
    size_um = (None, step, step)
    if drift_um is not None:
        write_volume(still_out, still.numpy(), size_um, overwrite=overwrite)
    write_volume(out, views.numpy(), size_um, overwrite=overwrite)
    return views


def _check_voxel(stack: StackFile, microscope: LightFieldMicroscope) -> None:
    steps = (stack.steps.z_um, stack.steps.y_um, stack.steps.x_um)
    expected = microscope.voxel_um
    if any(a and abs(a - b) > 0.05 * b for a, b in zip(steps, expected, strict=True)):
        say(
            f"warning: {stack.path} has voxels of {_um(steps)}, the PSF is made for "
            f"{_um(expected)} (z, y, x)"
        )


def _um(voxel: PartialVoxelSize) -> str:
    return " x ".join("?" if n is None else f"{n:.4g}" for n in voxel) + " um"


def project_volume(
    volume: Tensor,
    file: PSFFile,
    lateral_scale: float,
    drift: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the views of a volume (D, H, W) on the recorded grid, (A, h, w) on the CPU.

    Parameters
    ----------
    volume
        At the middle exposure.
    file
        The PSF.
    lateral_scale
        Volume pixels per view pixel.
    drift
        (y, x) pixels of the volume per exposure of a 3 x 3 scan.

    Returns
    -------
    Tensor, Tensor
        Of the volume at rest, and as it drifts; the same if it does not.
    """
    still, moving = [], []
    with progress_bar("projecting", file.n_views) as advance:
        for first in range(0, file.n_views, _VIEWS_AT_ONCE):
            channels = range(first, min(first + _VIEWS_AT_ONCE, file.n_views))
            operator = LightFieldOperator(file.read(channels).to(volume.device))
            projected = operator.forward(volume)
            still.append(sample_views(projected, lateral_scale).cpu())
            if drift is not None:
                moving.append(scan_moving(projected, drift, lateral_scale))
            advance(len(channels))
    at_rest = torch.cat(still)
    return at_rest, torch.cat(moving) if moving else at_rest
