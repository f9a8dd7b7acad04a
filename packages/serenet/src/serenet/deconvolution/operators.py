"""The operators of views, kept between sweeps and frames while there is room."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optics import BandLimitedOperator, LightFieldMicroscope, Sieve
from optics.lightfield.band import WITHIN, Beyond, Sampling
from serenet.views.psf import TOGETHER, ViewPSF

Shape = tuple[int, int]

# All frequencies: sweeps amplify what is left out. Volumes differ from the full operator's by 0.8 %
# (L2) with `optics.lightfield.band_limited.BAND`, by 0.1 % with twice that (25 noisy views, 3
# sweeps, nnum13), and windows from the whole by more than 0.5 % of the brightest voxel.
_BAND = math.inf
# Beyond this, in cycles a lens, a sieve passes nothing that the views would tell.
_BAND_OF_SIEVE = 4.0
# Of the sieve that volumes are shown by, see `Sieve`. With 1, .7, .5, .3 the simulated vesicle
# correlates with its truth by .782, .807, .819, .826; tubes of 500 photons by .480, .508, .513; but
# balls of 20 photons by .740, .727, .718, and the lattice in the worm is .0005, .0009, .0016.
_FITTED = 0.7
# Volumes of simulated samples larger than the field (14 lenses, NA 1.2, 27 planes) correlate with
# the truth by 0.01 to 0.04 more with this than without, by no more with up to 8.
_MARGIN = 2


def transfer_copies(microscope: LightFieldMicroscope) -> float:
    """Return how many transfer functions of a view with all frequencies a subset may take."""
    if microscope.scanning > 1:
        return 1.0
    share = min(2 * _BAND_OF_SIEVE / microscope.voxels_a_lens, 1.0)
    return (TOGETHER + 2) * share**2  # two while they are made


class ViewOperator(BandLimitedOperator):
    """Projection onto one view, or a few, as they are recorded.

    Attributes
    ----------
    volume_bytes
        Memory that a volume takes, and so the sensitivity.
    keeps_sensitivity
        Whether the sensitivity is held from call to call.
    """

    def __init__(
        self,
        psf: Tensor | Iterable[Tensor],
        volume_yx: Shape,
        views_yx: Shape,
        microscope: LightFieldMicroscope,
        sieve: Sieve | None = None,
        beyond: Beyond = WITHIN,
    ) -> None:
        # Without scanning the lens positions are far apart.
        sampling: Sampling = "point" if microscope.scanning == 1 else "mean"
        band = _BAND if sieve is None else _BAND_OF_SIEVE
        super().__init__(
            psf, volume_yx, views_yx, sampling=sampling, band=band, sieve=sieve, beyond=beyond
        )
        self.volume_bytes = math.prod(self.volume_shape) * self.dtype.itemsize
        self.keeps_sensitivity = False
        self._sensitivity: Tensor | None = None

    def sensitivity(self) -> Tensor:
        """Return how much of a voxel's light is recorded: ``adjoint(ones)``, (D, H, W)."""
        if self._sensitivity is not None:
            return self._sensitivity
        ones = torch.ones((self.n_views, *self.views_yx), dtype=self.dtype, device=self.device)
        sensitivity = self.adjoint(ones)
        if self.keeps_sensitivity:
            self._sensitivity = sensitivity
        return sensitivity


@dataclass
class ViewOperators:
    """Makes the operators of views and keeps those of the size that was asked for last.

    Attributes
    ----------
    view_psf
        PSF of a channel.
    microscope
        The microscope.
    room
        Bytes that kept operators may take: transfer functions first, sensitivities in the rest.
    sieve
        What operators take are coefficients of volumes, if there is one: this sieve makes the
        volumes, the operators' own is narrower.
    """

    view_psf: ViewPSF
    microscope: LightFieldMicroscope
    room: float = 0
    sieve: Sieve | None = None
    _size: tuple[Shape, Shape, Beyond, torch.device] | None = None
    _kept: dict[tuple[int, ...], ViewOperator] = field(default_factory=dict)

    @property
    def margin(self) -> int:
        """View pixels by which volumes with a sieve reach beyond the field, 0 for others.

        Light from beyond has somewhere to go then, and is cropped.
        """
        return 0 if self.sieve is None else _MARGIN

    def __call__(
        self,
        channels: Sequence[int],
        volume_yx: Shape,
        views_yx: Shape,
        device: torch.device,
        beyond: Beyond = WITHIN,
    ) -> ViewOperator:
        """Return the operator of channels for a size of volume and view."""
        size, wanted = (volume_yx, views_yx, beyond, device), tuple(channels)
        if size != self._size:
            self._size = size
            self._kept.clear()
        if wanted in self._kept:
            return self._kept[wanted]
        psf = (self.view_psf(channel)[0].to(device) for channel in wanted)
        fitted = None if self.sieve is None else self.sieve.narrowed(_FITTED)
        operator = ViewOperator(psf, volume_yx, views_yx, self.microscope, fitted, beyond)
        count = len(self._kept) + 1
        if count * operator.n_bytes <= self.room:
            n_operators = math.ceil(len(self.microscope.views) / len(wanted))
            rest = self.room - n_operators * operator.n_bytes
            operator.keeps_sensitivity = count * operator.volume_bytes <= rest
            self._kept[wanted] = operator
        return operator
