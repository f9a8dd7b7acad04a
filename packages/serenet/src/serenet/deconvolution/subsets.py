"""Iterative reconstruction of light fields, one view at a time.

Views are taken from the most oblique to the axial one: oblique views tell most about depth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optics import LightFieldMicroscope, RecordedLightField, Subset
from serenet.deconvolution.windows import Window
from serenet.views.psf import ViewPSF

# Longer steps than Richardson-Lucy's own: the same fit in fewer sweeps.
EXPONENT = 1.5


@dataclass(frozen=True)
class ViewSubsets:
    """The data of a light field, one subset a view, each made when it is reached.

    Attributes
    ----------
    views
        (A, h, w), background subtracted, not negative.
    view_psf
        PSF of a channel.
    microscope
        The microscope.
    volume_yx
        Lateral size of the volume.
    order
        Channels in the order used.
    """

    views: Tensor
    view_psf: ViewPSF
    microscope: LightFieldMicroscope
    volume_yx: tuple[int, int]
    order: Sequence[int]

    def subset(self, channel: int) -> Subset:
        """Return one view's data and operator."""
        operator = RecordedLightField(
            self.view_psf(channel).to(self.views.device),
            self.volume_yx,
            (self.views.shape[-2], self.views.shape[-1]),
            point_samples=self.microscope.scanning == 1,
        )
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
