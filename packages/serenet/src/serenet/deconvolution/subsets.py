"""Iterative reconstruction of light fields, one view at a time.

Views are taken from the most oblique to the axial one: oblique views tell most about depth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optics import LightFieldMicroscope, Subset
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.windows import Window

# Longer steps than Richardson-Lucy's own: the same fit in fewer sweeps.
EXPONENT = 1.5


@dataclass(frozen=True)
class ViewSubsets:
    """The data of a light field, one subset a view.

    Attributes
    ----------
    views
        (A, h, w), background subtracted, not negative.
    operators
        Operator of a channel.
    volume_yx
        Lateral size of the volume.
    order
        Channels in the order used.
    """

    views: Tensor
    operators: ViewOperators
    volume_yx: tuple[int, int]
    order: Sequence[int]

    @property
    def microscope(self) -> LightFieldMicroscope:
        """The microscope."""
        return self.operators.microscope

    def subset(self, channel: int) -> Subset:
        """Return one view's data and operator."""
        views_yx = (self.views.shape[-2], self.views.shape[-1])
        operator = self.operators(channel, self.volume_yx, views_yx, self.views.device)
        return Subset(operator, self.views[channel : channel + 1])

    def inside(self, window: Window, device: torch.device) -> "ViewSubsets":
        """Return the data of a window of the field, on a device."""
        views = self.views[(slice(None), *window.views)].to(device)
        return replace(self, views=views, volume_yx=window.volume_yx)

    def __iter__(self) -> Iterator[Subset]:
        return (self.subset(channel) for channel in self.order)


def flat_start(subsets: ViewSubsets) -> Tensor:
    """Return a flat volume (D, H, W) as bright as the first view."""
    shape = (len(subsets.microscope.depths_um), *subsets.volume_yx)
    flat = torch.ones(shape, device=subsets.views.device)
    subset = subsets.subset(subsets.order[0])
    predicted = float(subset.operator.forward(flat).sum())
    return flat.mul_(float(subset.measured.sum()) / max(predicted, 1e-12))
