"""Iterative reconstruction of light fields, one view or a few at a time.

Views are taken from the most oblique to the axial one: oblique views tell most about depth.
Those of unscanned light fields explain the coefficients of a sieve.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optics import LightFieldMicroscope, Subset
from optics.lightfield.band import WITHIN, Beyond
from scopekit.progress import Advance
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.windows import Window
from serenet.views.brightness import BACKGROUND_QUANTILE, quantile
from serenet.views.psf import view_groups

# Longer steps than Richardson-Lucy's own: the same fit in fewer sweeps.
EXPONENT = 1.5
# Of the light of the brightest pixels: what an unscanned light field's model may be wrong by.
_FLOOR = 0.1
_BRIGHT = 0.999


@dataclass
class CountedSubsets:
    """Subsets that tell when one has been used.

    Attributes
    ----------
    subsets
        The data.
    advance
        Told of every subset.
    note
        Told with it.
    """

    subsets: "ViewSubsets"
    advance: Advance
    note: str = ""

    def __iter__(self) -> Iterator[Subset]:
        for subset in self.subsets:
            yield subset
            del subset  # before the next is made
            self.advance(1, self.note)


@dataclass(frozen=True)
class Pedestal:
    """What the views hold besides the sample's light.

    Attributes
    ----------
    background
        (A,), expected counts of every view without the sample.
    floor
        Counts below which misfits weigh no more, see `optics.Subset`.
    """

    background: Tensor
    floor: float


@dataclass(frozen=True)
class ViewSubsets:
    """The data of a light field, one subset a view, or a few.

    Attributes
    ----------
    views
        (A, h, w), not negative; background subtracted, unless there is a pedestal.
    operators
        Operator of channels.
    volume_yx
        Lateral size of the volume.
    order
        Channels in the order used.
    pedestal
        What is not subtracted from the views, ``None``: nothing, and one subset a view.
    beyond
        How far the volume reaches beyond the views, view pixels.
    """

    views: Tensor
    operators: ViewOperators
    volume_yx: tuple[int, int]
    order: Sequence[int]
    pedestal: Pedestal | None = None
    beyond: Beyond = WITHIN

    @property
    def microscope(self) -> LightFieldMicroscope:
        """The microscope."""
        return self.operators.microscope

    @property
    def groups(self) -> list[list[int]]:
        """Channels of every subset, in the order used."""
        if self.pedestal is None:
            return [[channel] for channel in self.order]
        return view_groups(self.microscope)

    def subset(self, *channels: int) -> Subset:
        """Return data and operator of a view, or of a few."""
        views_yx = (self.views.shape[-2], self.views.shape[-1])
        device = self.views.device
        operator = self.operators(channels, self.volume_yx, views_yx, device, self.beyond)
        measured = self.views[list(channels)]
        if self.pedestal is None:
            return Subset(operator, measured)
        background = self.pedestal.background[list(channels), None, None].to(measured)
        return Subset(operator, measured, background, self.pedestal.floor)

    def inside(self, window: Window, device: torch.device) -> "ViewSubsets":
        """Return the data of a window of the field, on a device."""
        views = self.views[(slice(None), *window.views)].to(device)
        return replace(self, views=views, volume_yx=window.volume_yx, beyond=window.beyond)

    def volume(self, estimate: Tensor) -> Tensor:
        """Return the volume of an estimate: itself, or what a sieve makes of it."""
        sieve = self.operators.sieve
        return estimate if sieve is None else sieve.volume(estimate)

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Subset]:
        return (self.subset(*channels) for channels in self.groups)


def split_pedestal(
    recorded: Tensor, background: float | None = None, gain: float = 1.0
) -> tuple[Tensor, Pedestal]:
    """Return the views of an unscanned light field for `ViewSubsets`, and their pedestal.

    Parameters
    ----------
    recorded
        (A, h, w), counts; float64 keeps small differences beside a large offset.
    background
        Counts without sample in all views; default: the 1 % quantile of each, from 0.
    gain
        Factor on both results.
    """
    # An offset of the camera would cost digits, and means nothing to the fit.
    offset = max(float(recorded.min()), 0.0)
    if background is not None:
        offset = min(offset, background)
    views = (recorded - offset).clamp_(min=0).float() * gain
    if background is None:
        lowest = [quantile(view, BACKGROUND_QUANTILE) for view in views]
        level = torch.tensor(lowest, dtype=torch.float32)
    else:
        level = torch.full((len(views),), (background - offset) * gain).clamp_(min=0)
    bright = quantile(views, _BRIGHT) - float(level.mean())
    return views, Pedestal(level, _FLOOR * max(bright, 0.0))


def flat_start(subsets: ViewSubsets) -> Tensor:
    """Return a flat volume (D, H, W) as bright as the first view, or the first few."""
    shape = (len(subsets.microscope.depths_um), *subsets.volume_yx)
    flat = torch.ones(shape, device=subsets.views.device)
    subset = next(iter(subsets))
    predicted = float(subset.operator.forward(flat).sum())
    light = (subset.measured - subset.background).clamp_(min=0)
    return flat.mul_(float(light.sum()) / max(predicted, 1e-12))
