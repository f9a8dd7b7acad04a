"""Iterative reconstruction of light fields: one view at a time, whole or in lateral tiles.

Views are taken from the most oblique to the axial one: oblique views tell most about depth.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optics import LightFieldPreset, RecordedLightField, Subset, poisson_deviance, update
from optics.convolution import padded_size
from scopekit.errors import UserError
from scopekit.memory import GB, MemoryBudget
from serenet.view_psf import ViewPSF

# Longer steps than Richardson-Lucy's own: the same fit in fewer sweeps.
EXPONENT = 1.5
# Volumes held at once: start, estimate, best or last one, update, sensitivity; total variation's.
_VOLUMES = 5
_VOLUMES_TV = 8
# Copies of one view's PSF while it is made, and buffers of the transforms.
_PSFS = 6
_BUFFERS = 64e6
_PLANNED = 0.9
_CHECK_EVERY = 8
_HELD_OUT = 3


def oblique_first(preset: LightFieldPreset) -> list[int]:
    """Return the channels of the preset's views, the most oblique first."""
    middle = preset.n_num // 2
    return sorted(
        range(len(preset.views)),
        key=lambda i: (
            -math.hypot(
                preset.views[i] // preset.n_num - middle, preset.views[i] % preset.n_num - middle
            )
        ),
    )


@dataclass(frozen=True)
class ViewSubsets:
    """The data of a light field, one subset a view, each made when it is reached.

    Attributes
    ----------
    views
        (A, h, w), background subtracted, not negative.
    view_psf
        PSF of a channel.
    preset
        The microscope.
    volume_yx
        Lateral size of the volume.
    order
        Channels in the order used.
    """

    views: Tensor
    view_psf: ViewPSF
    preset: LightFieldPreset
    volume_yx: tuple[int, int]
    order: Sequence[int]

    def subset(self, channel: int) -> Subset:
        """Return one view's data and operator."""
        operator = RecordedLightField(
            self.view_psf(channel).to(self.views.device),
            self.volume_yx,
            (self.views.shape[-2], self.views.shape[-1]),
            point_samples=self.preset.scanning == 1,
        )
        return Subset(operator, self.views[channel : channel + 1])

    def __iter__(self) -> Iterator[Subset]:
        return (self.subset(channel) for channel in self.order)


def fit_brightness(volume: Tensor, subset: Subset) -> Tensor:
    """Scale a volume so that its projection has the measured total; an empty one becomes flat."""
    if float(volume.max()) <= 0:
        volume = torch.ones_like(volume)
    predicted = float(subset.operator.forward(volume).sum())
    return volume * (float(subset.measured.sum()) / max(predicted, 1e-12))


def flat_start(subsets: ViewSubsets) -> Tensor:
    """Return a flat volume (D, H, W) as bright as the first view."""
    shape = (len(subsets.preset.depths_um), *subsets.volume_yx)
    flat = torch.ones(shape, device=subsets.views.device)
    return fit_brightness(flat, subsets.subset(subsets.order[0]))


@dataclass(frozen=True)
class Refinement:
    """What physics refinement did.

    Attributes
    ----------
    updates
        View updates kept.
    deviance_before, deviance_after
        Poisson deviance of the held-out views, which were not used.
    stopped_early
        Whether the held-out views' fit worsened before all updates were done.
    """

    updates: int
    deviance_before: float
    deviance_after: float
    stopped_early: bool

    def __str__(self) -> str:
        end = ", stopped: their fit worsened" if self.stopped_early else ""
        return (
            f"{self.updates} view updates kept; deviance of the views left out "
            f"{self.deviance_before:.4g} -> {self.deviance_after:.4g}{end}"
        )


def refine(
    volume: Tensor,
    subsets: ViewSubsets,
    n_updates: int,
    advance: Callable[[int, str], None] | None = None,
) -> tuple[Tensor, Refinement]:
    """Improve a network's volume by Richardson-Lucy updates, one view each.

    Three views are left out; their fit tells whether refinement helps, without any truth. It
    stops, and goes back to the best volume, when their fit worsens.

    Parameters
    ----------
    volume
        (D, H, W), the network's result; any brightness.
    subsets
        The light field.
    n_updates
        View updates; with more than there are views the order starts anew.
    advance
        Called as ``advance(1, note)`` after every update.

    Returns
    -------
    tuple
        The refined volume (D, H, W), and what was done.
    """
    n_views = len(subsets.order)
    if n_views <= _HELD_OUT:
        raise UserError(f"refinement needs more than {_HELD_OUT} views; there are {n_views}")
    held_out = [subsets.order[i * (n_views - 1) // (_HELD_OUT - 1)] for i in range(_HELD_OUT)]
    used = [channel for channel in subsets.order if channel not in held_out]
    estimate = fit_brightness(volume, subsets.subset(used[0]))

    def held_out_fit(candidate: Tensor) -> float:
        fits = [
            poisson_deviance(s.measured, s.operator.forward(candidate))
            for s in map(subsets.subset, held_out)
        ]
        return sum(fits) / len(fits)

    before = best_fit = held_out_fit(estimate)
    best, best_updates = estimate, 0
    estimate = estimate.clone()
    for done in range(1, n_updates + 1):
        subset = subsets.subset(used[(done - 1) % len(used)])
        estimate, _ = update(estimate, subset, exponent=EXPONENT)
        if advance is not None:
            advance(1, f"left-out views: deviance {best_fit:.4g}")
        if done % _CHECK_EVERY == 0 or done == n_updates:
            fit = held_out_fit(estimate)
            if fit > best_fit:
                return best, Refinement(best_updates, before, best_fit, stopped_early=True)
            best, best_fit, best_updates = estimate.clone(), fit, done
    return best, Refinement(best_updates, before, best_fit, stopped_early=False)


@dataclass(frozen=True)
class Window:
    """A lateral part of the field that is deconvolved by itself.

    Attributes
    ----------
    views
        Rows and columns of the views, surround included.
    volume
        The same in the volume.
    core
        Rows and columns of the volume that are kept.
    """

    views: tuple[slice, slice]
    volume: tuple[slice, slice]
    core: tuple[slice, slice]

    @property
    def volume_yx(self) -> tuple[int, int]:
        """Size of the volume, surround included."""
        rows, columns = self.volume
        return (rows.stop - rows.start, columns.stop - columns.start)

    def crop(self, part: Tensor) -> Tensor:
        """Return the kept part of a volume (D, *volume_yx)."""
        rows, columns = (
            slice(core.start - whole.start, core.stop - whole.start)
            for core, whole in zip(self.core, self.volume, strict=True)
        )
        return part[:, rows, columns]


def plan_windows(
    field: tuple[int, int],
    preset: LightFieldPreset,
    psf_size: int,
    budget: MemoryBudget,
    *,
    tv: bool,
) -> list[Window]:
    """Cut a field into the fewest windows that fit the budget, with half a PSF of surround.

    Parameters
    ----------
    field
        Size of the views.
    preset
        The microscope; windows start at multiples of its scan positions, where views and volume
        share a pixel border.
    psf_size
        Lateral support of the PSF in volume pixels.
    budget
        What may be allocated.
    tv
        Whether total variation is used, which needs more memory.
    """
    scale, step = preset.lateral_scale, preset.scanning
    halo = math.ceil(psf_size / 2 / scale / step) * step

    def needed(views_yx: tuple[int, int]) -> float:
        size = (round(views_yx[0] * scale), round(views_yx[1] * scale))
        return _bytes_of_window(size, len(preset.depths_um), psf_size, tv=tv) / _PLANNED

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
            f"--max-memory-gb {budget.total / GB:.2f} is too small for this PSF and "
            f"{len(preset.depths_um)} depths; give at least {least / GB + 0.1:.1f}"
        )
    cores = [[(a, min(a + core, n)) for a in range(0, n, core)] for n in field]
    return [
        _window((rows, columns), field, halo, scale) for rows in cores[0] for columns in cores[1]
    ]


def _bytes_of_window(
    volume_yx: tuple[int, int], n_depths: int, psf_size: int, *, tv: bool
) -> float:
    height, width = volume_yx
    volumes = (_VOLUMES_TV if tv else _VOLUMES) * height * width
    transfer = padded_size(height, psf_size) * (padded_size(width, psf_size) + 2)
    return 4 * n_depths * (volumes + transfer + _PSFS * psf_size**2) + _BUFFERS


def _window(
    core: tuple[tuple[int, int], tuple[int, int]], field: tuple[int, int], halo: int, scale: float
) -> Window:
    views, volume, kept = [], [], []
    for (first, last), n in zip(core, field, strict=True):
        start, stop = max(first - halo, 0), min(last + halo, n)
        views.append(slice(start, stop))
        volume.append(slice(round(start * scale), round(stop * scale)))
        kept.append(slice(round(first * scale), round(last * scale)))
    return Window((views[0], views[1]), (volume[0], volume[1]), (kept[0], kept[1]))
