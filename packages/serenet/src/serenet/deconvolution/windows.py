"""Lateral windows of a light field, so that large ones fit in memory."""

import math
from dataclasses import dataclass

from torch import Tensor

from optics import LightFieldMicroscope
from optics.convolution import padded_size
from optics.lightfield.band import WITHIN, Beyond
from scopekit.errors import Page, UserError
from scopekit.memory import GB, MemoryBudget
from serenet.deconvolution.operators import transfer_copies

# Volumes held at once while a view is used: start, estimate, sensitivity, and with total variation
# three of its own, less the sensitivity; less the sensitivity while the operator is made.
_VOLUMES = 3
_VOLUMES_TV = 5
_VOLUMES_MAKING = 2
# Copies of one view's PSF while its operator is made: the images of its octant, itself, a part.
_PSFS = 2.5
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
        The same in the volume; where the field ends it reaches beyond, from below 0.
    core
        Rows and columns of the volume that are kept.
    core_views
        The same in the views.
    beyond
        How far the volume reaches beyond the views, view pixels.
    """

    views: tuple[slice, slice]
    volume: tuple[slice, slice]
    core: tuple[slice, slice]
    core_views: tuple[slice, slice]
    beyond: Beyond = WITHIN

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
    compares: bool = False,
    margin: int = 0,
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
    compares
        Whether the volume is compared with that before a sweep, which is held then.
    margin
        View pixels by which volumes reach beyond the field, at most the surround of windows.
    """
    scale, step = microscope.lateral_scale, microscope.scanning
    halo = math.ceil(psf_size / 2 / scale / step) * step
    margin = min(margin, halo)

    def needed(core: int) -> float:
        sides = (max(b - a for _, (a, b) in _cuts(n, core, halo, margin)) for n in field)
        size = tuple(round(side * scale) for side in sides)
        held = _bytes_of_window((size[0], size[1]), microscope, psf_size, tv=tv, compares=compares)
        return held / _PLANNED

    sides = (max(field), *range((max(field) - 1) // step * step, 0, -step))
    core = next((side for side in sides if needed(side) <= budget.available), 0)
    if core == 0:
        least = budget.total - budget.available + needed(step)
        raise UserError(
            f"`max_memory_gb={budget.total / GB:.2f}` is too small for this PSF and "
            f"{len(microscope.depths_um)} depths; give at least {least / GB + 0.1:.1f}",
            page=Page.memory,
        )
    rows, columns = (_cuts(n, core, halo, margin) for n in field)
    return [_window(row, column, field, scale) for row in rows for column in columns]


def room_beside(
    windows: list[Window],
    microscope: LightFieldMicroscope,
    psf_size: int,
    budget: MemoryBudget,
    *,
    tv: bool,
    compares: bool = False,
) -> float:
    """Return how many bytes of the budget the computation of any one window leaves free.

    Parameters as for `plan_windows`, which gave the windows.
    """
    most = max(
        _bytes_of_window(window.volume_yx, microscope, psf_size, tv=tv, compares=compares)
        for window in windows
    )
    return max(budget.available * _PLANNED - most, 0)


def _bytes_of_window(
    volume_yx: tuple[int, int],
    microscope: LightFieldMicroscope,
    psf_size: int,
    *,
    tv: bool,
    compares: bool,
) -> float:
    height, width = volume_yx
    area = height * width
    transfer = padded_size(height, psf_size) * (padded_size(width, psf_size) + 2)
    operator = transfer_copies(microscope) * transfer
    using = (_VOLUMES_TV if tv else _VOLUMES) * area + operator
    making = _VOLUMES_MAKING * area + operator + _PSFS * psf_size**2
    values = max(using, making) + compares * area
    return 4 * len(microscope.depths_um) * values + _BUFFERS


Span = tuple[int, int]


def _cuts(n: int, core: int, halo: int, margin: int) -> list[tuple[Span, Span]]:
    """Return first and last (exclusive) of every core of an axis, without and with surround."""
    cores = [(a, min(a + core, n)) for a in range(0, n, core)]
    return [((a, b), (max(a - halo, -margin), min(b + halo, n + margin))) for a, b in cores]


def _window(
    rows: tuple[Span, Span], columns: tuple[Span, Span], field: tuple[int, int], scale: float
) -> Window:
    def fine(span: Span) -> slice:
        return slice(round(span[0] * scale), round(span[1] * scale))

    (row_core, row_all), (column_core, column_all) = rows, columns
    row_seen, column_seen = (
        (max(a, 0), min(b, n)) for (a, b), n in zip((row_all, column_all), field, strict=True)
    )
    return Window(
        views=(slice(*row_seen), slice(*column_seen)),
        volume=(fine(row_all), fine(column_all)),
        core=(fine(row_core), fine(column_core)),
        core_views=(slice(*row_core), slice(*column_core)),
        beyond=(_outside(row_all, row_seen), _outside(column_all, column_seen)),
    )


def _outside(whole: Span, seen: Span) -> Span:
    return seen[0] - whole[0], whole[1] - seen[1]
