"""Lateral windows of a light field, so that large ones fit in memory."""

import math
from dataclasses import dataclass

from torch import Tensor

from optics import LightFieldMicroscope
from optics.convolution import padded_size
from optics.lightfield.octants import finer_voxels
from scopekit.errors import Page, UserError
from scopekit.memory import GB, MemoryBudget
from serenet.deconvolution.operators import transfer_copies
from serenet.views.psf import TOGETHER

# Volumes held at once: start, estimate, last one, update, sensitivity; with total variation.
_VOLUMES = 5
_VOLUMES_TV = 8
# Copies of one view's PSF: while it is made, perhaps of finer voxels; and those taken together.
_PSFS_MADE = 4
_PSFS = 4 + TOGETHER
_BUFFERS = 64e6
# The rest is for libraries that load later and for what the allocator keeps.
_PLANNED = 0.8


@dataclass(frozen=True)
class Window:
    """A lateral part of the field that is computed by itself.

    Attributes
    ----------
    views
        Rows and columns of the views, surround included.
    volume
        The same in the volume.
    core
        Rows and columns of the volume that are kept.
    core_views
        The same in the views.
    """

    views: tuple[slice, slice]
    volume: tuple[slice, slice]
    core: tuple[slice, slice]
    core_views: tuple[slice, slice]

    @property
    def volume_yx(self) -> tuple[int, int]:
        """Size of the volume, surround included."""
        rows, columns = self.volume
        return (rows.stop - rows.start, columns.stop - columns.start)

    def crop(self, part: Tensor) -> Tensor:
        """Return the kept part of a volume (D, *volume_yx)."""
        return part[(slice(None), *_inside(self.core, self.volume))]

    def crop_views(self, part: Tensor) -> Tensor:
        """Return the kept part of views (A, h, w) of the window."""
        return part[(slice(None), *_inside(self.core_views, self.views))]


def _inside(core: tuple[slice, slice], whole: tuple[slice, slice]) -> tuple[slice, ...]:
    return tuple(
        slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, whole, strict=True)
    )


def plan_windows(
    field: tuple[int, int],
    microscope: LightFieldMicroscope,
    psf_size: int,
    budget: MemoryBudget,
    *,
    tv: bool,
) -> list[Window]:
    """Cut a field into the fewest windows that fit the budget, with half a PSF of surround.

    Deconvolved so, a volume differs from one deconvolved whole by 0.2 % (L2), nowhere by more than
    0.4 % of its brightest voxel (25 views, 3 sweeps, nnum13).

    Parameters
    ----------
    field
        Size of the views.
    microscope
        The microscope; windows start at multiples of its scan positions, where views and volume
        share a pixel border.
    psf_size
        Lateral support of the PSF in volume pixels.
    budget
        What may be allocated.
    tv
        Whether total variation is used, which needs more memory.
    """
    scale, step = microscope.lateral_scale, microscope.scanning
    halo = math.ceil(psf_size / 2 / scale / step) * step

    def needed(views_yx: tuple[int, int]) -> float:
        size = (round(views_yx[0] * scale), round(views_yx[1] * scale))
        return _bytes_of_window(size, microscope, psf_size, tv=tv) / _PLANNED

    core = max(field)
    if needed(field) > budget.available:
        sides = range((max(field) - 1) // step * step, 0, -step)
        fitting = (
            side
            for side in sides
            if needed((min(side + 2 * halo, field[0]), min(side + 2 * halo, field[1])))
            <= budget.available
        )
        core = next(fitting, 0)
    if core == 0:
        least = budget.total - budget.available + needed((2 * halo + step, 2 * halo + step))
        raise UserError(
            f"`max_memory_gb={budget.total / GB:.2f}` is too small for this PSF and "
            f"{len(microscope.depths_um)} depths; give at least {least / GB + 0.1:.1f}",
            page=Page.memory,
        )
    cores = [[(a, min(a + core, n)) for a in range(0, n, core)] for n in field]
    return [
        _window((rows, columns), field, halo, scale) for rows in cores[0] for columns in cores[1]
    ]


def room_beside(
    windows: list[Window],
    microscope: LightFieldMicroscope,
    psf_size: int,
    budget: MemoryBudget,
    *,
    tv: bool,
) -> float:
    """Return how many bytes of the budget the computation of any one window leaves free.

    Parameters as for `plan_windows`, which gave the windows.
    """
    most = max(
        _bytes_of_window(window.volume_yx, microscope, psf_size, tv=tv) for window in windows
    )
    return max(budget.available * _PLANNED - most, 0)


def _bytes_of_window(
    volume_yx: tuple[int, int], microscope: LightFieldMicroscope, psf_size: int, *, tv: bool
) -> float:
    height, width = volume_yx
    volumes = (_VOLUMES_TV if tv else _VOLUMES) * height * width
    transfer = padded_size(height, psf_size) * (padded_size(width, psf_size) + 2)
    psfs = _PSFS + _PSFS_MADE * finer_voxels(microscope) ** 2
    values = volumes + transfer_copies(microscope) * transfer + psfs * psf_size**2
    return 4 * len(microscope.depths_um) * values + _BUFFERS


def _window(
    core: tuple[tuple[int, int], tuple[int, int]], field: tuple[int, int], halo: int, scale: float
) -> Window:
    views, volume, kept = [], [], []
    for (first, last), n in zip(core, field, strict=True):
        start, stop = max(first - halo, 0), min(last + halo, n)
        views.append(slice(start, stop))
        volume.append(slice(round(start * scale), round(stop * scale)))
        kept.append(slice(round(first * scale), round(last * scale)))
    core_views = (slice(*core[0]), slice(*core[1]))
    return Window((views[0], views[1]), (volume[0], volume[1]), (kept[0], kept[1]), core_views)
