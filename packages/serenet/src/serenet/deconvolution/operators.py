"""The operators of single views, kept between sweeps and frames while there is room."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optics import BandLimitedOperator, LightFieldMicroscope
from optics.lightfield.band import Sampling
from serenet.views.psf import ViewPSF

Shape = tuple[int, int]

# All frequencies: sweeps amplify what is left out. Volumes differ from the full operator's by 0.8 %
# (L2) with `optics.lightfield.band_limited.BAND`, by 0.1 % with twice that (25 noisy views, 3
# sweeps, nnum13), and windows from the whole by more than 0.5 % of the brightest voxel.
_BAND = math.inf


class ViewOperator(BandLimitedOperator):
    """Projection onto one view as it is recorded.

    Attributes
    ----------
    volume_bytes
        Memory that a volume takes, and so the sensitivity.
    keeps_sensitivity
        Whether the sensitivity is held from call to call.
    """

    def __init__(
        self, psf: Tensor, volume_yx: Shape, views_yx: Shape, microscope: LightFieldMicroscope
    ) -> None:
        # Without scanning the lens positions are far apart.
        sampling: Sampling = "point" if microscope.scanning == 1 else "mean"
        super().__init__(psf, volume_yx, views_yx, sampling=sampling, band=_BAND)
        self.volume_bytes = psf.shape[1] * volume_yx[0] * volume_yx[1] * psf.itemsize
        self.keeps_sensitivity = False
        self._ones = psf.new_ones((len(psf), *views_yx))
        self._sensitivity: Tensor | None = None

    def sensitivity(self) -> Tensor:
        """Return how much of a voxel's light is recorded: ``adjoint(ones)``, (D, H, W)."""
        if self._sensitivity is not None:
            return self._sensitivity
        sensitivity = self.adjoint(self._ones)
        if self.keeps_sensitivity:
            self._sensitivity = sensitivity
        return sensitivity


@dataclass
class ViewOperators:
    """Makes the operators of single views and keeps those of the size that was asked for last.

    Attributes
    ----------
    view_psf
        PSF of a channel.
    microscope
        The microscope.
    room
        Bytes that kept operators may take: transfer functions first, sensitivities in the rest.
    """

    view_psf: ViewPSF
    microscope: LightFieldMicroscope
    room: float = 0
    _size: tuple[Shape, Shape, torch.device] | None = None
    _kept: dict[int, ViewOperator] = field(default_factory=dict)

    def __call__(
        self, channel: int, volume_yx: Shape, views_yx: Shape, device: torch.device
    ) -> ViewOperator:
        """Return the operator of a channel for a size of volume and view."""
        size = (volume_yx, views_yx, device)
        if size != self._size:
            self._size = size
            self._kept.clear()
        if channel in self._kept:
            return self._kept[channel]
        psf = self.view_psf(channel).to(device)
        operator = ViewOperator(psf, volume_yx, views_yx, self.microscope)
        count = len(self._kept) + 1
        if count * operator.n_bytes <= self.room:
            rest = self.room - len(self.microscope.views) * operator.n_bytes
            operator.keeps_sensitivity = count * operator.volume_bytes <= rest
            self._kept[channel] = operator
        return operator
