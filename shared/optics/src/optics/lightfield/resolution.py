"""What views can tell of each plane: the finest lateral detail, and volumes that hold no finer.

Views have one sample a lens (or scan position). Detail finer than that is told only by views that
see a plane from different sides, shifted by fractions of a lens: nothing of it near the focal
plane, where all of them see the same. Far from it the diffraction at the lenses sets the limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from optics.convolution import padded_size
from optics.errors import OpticsError
from optics.lightfield.microscope import LightFieldMicroscope
from optics.lightfield.psf import phase_space_psf

_FINE = 15  # voxels a lens that sample the PSF
_HIGHEST = 2.5  # cycles a view pixel
_STEP = 0.05
_NOISE = 0.2  # of a view's response to a uniform plane
_TOLD = 0.5

_LEAST_SHARE = 1e-4  # of a coefficient that a plane takes

# A Gaussian of this standard deviation, in periods of the limit, passes 42 % there.
_WIDTH = 0.21


def lateral_band_limit(
    microscope: LightFieldMicroscope, depths_um: Sequence[float] | None = None
) -> list[float]:
    """Return the highest lateral frequency that the views tell of each plane, cycles per um.

    A wave of frequency f along x in one plane gives the views the amplitudes ``H_a(f)``; sampled
    at a pitch W, the same as the waves ``f + k / W``. Of all these waves, equally strong, the best
    linear estimate (Wiener) returns the share ``h_f* (G G* + s^2)^-1 h_f`` of the one asked for, h
    and G being the responses to it and to all, divided by the root of the number of views, and s
    a fifth of the response to a uniform plane. The limit is where half of a wave is returned:
    ``1 / (2 W)`` in the focal plane, two to four times as much where the views' shifts spread over
    a lens, and falling with the distance beyond.

    Parameters
    ----------
    microscope
        The microscope. Its views in the middle row are looked at.
    depths_um
        Depths, um; default: the microscope's.

    Returns
    -------
    list of float
        One a depth; at most 2.5 cycles a view pixel.

    References
    ----------
    Aliasing that depends on depth: Stefanoiu et al., Optics Express 27, 31644 (2019).

    Examples
    --------
    >>> import optics
    >>> microscope = optics.presets["nnum13"]
    >>> [round(f, 2) for f in optics.lateral_band_limit(microscope, [0, 5])]
    [0.57, 0.66]
    """
    depths = microscope.depths_um if depths_um is None else tuple(depths_um)
    if not depths:
        raise OpticsError("depths_um: give at least one depth")
    fine = microscope.with_voxels_a_lens(_FINE)
    places = zip(fine.views, fine.view_coordinates, strict=True)
    views = [a for a, (row, _) in places if row == 0] or list(fine.views)
    distances = sorted({abs(z) for z in depths})
    # Lines along y: what is the same in all rows.
    lines = phase_space_psf(fine, distances, views).sum(2).double()
    position = torch.arange(lines.shape[-1]) - lines.shape[-1] // 2
    frequency = torch.arange(_STEP, _HIGHEST + _STEP / 2, _STEP, dtype=torch.float64)
    alias = torch.arange(-math.floor(_HIGHEST), math.floor(_HIGHEST) + 1)
    turns = (frequency[:, None] + alias)[..., None] * position / fine.lateral_scale
    waves = torch.exp(-2j * math.pi * turns)
    noise = _NOISE**2 * torch.eye(len(views), dtype=waves.dtype)
    limits = {}
    for distance, line in zip(distances, lines.unbind(1), strict=True):
        responses = (waves @ line.T.to(waves.dtype)).mT / math.sqrt(len(views))  # (F, A, aliases)
        wanted = responses[..., alias == 0]
        solved = torch.linalg.solve(responses @ responses.mH + noise, wanted)
        told = (wanted.conj() * solved).sum((1, 2)).real
        short = torch.nonzero(told < _TOLD)
        first = int(short[0]) if len(short) else len(frequency) - 1
        limits[distance] = float(frequency[first]) / fine.view_pixel_um
    return [limits[abs(z)] for z in depths]


@dataclass(frozen=True)
class Sieve:
    """Smooth volumes: coefficients blurred to the detail that the views tell of each plane.

    ``volume = axial @ blur_z(coefficients)``, blur_z a Gaussian of its own width in each plane.
    Mixed last, planes that the views cannot tell apart differ little in sharpness. What fits
    coefficients instead of volumes finds no detail that the views cannot tell, and stays
    non-negative (method of sieves, Snyder and Miller, IEEE Trans. Nucl. Sci. 32, 3864, 1985).
    Volumes that are fitted should be finer than those shown (`narrowed`): coefficients that try to
    make edges which the blur cannot gather in dots and leave dark lines beside them (Snyder et al.,
    IEEE Trans. Med. Imaging 6, 228, 1987).

    Attributes
    ----------
    lateral_voxels
        Standard deviation of the blur in each plane, voxels.
    axial_um
        Standard deviation along z.
    depths_um
        Of the planes.

    Examples
    --------
    >>> import torch, optics
    >>> microscope = optics.presets["nnum13"].with_middle_depths(3)
    >>> optics.volume_sieve(microscope).volume(torch.ones(3, 39, 39)).shape
    torch.Size([3, 39, 39])
    """

    lateral_voxels: tuple[float, ...]
    axial_um: float
    depths_um: tuple[float, ...]

    @cached_property
    def axial(self) -> Tensor:
        """(D, D), columns that sum to 1: the planes over which a coefficient spreads."""
        z = torch.tensor(self.depths_um, dtype=torch.float64)
        spread = torch.exp(-0.5 * ((z[:, None] - z) / self.axial_um) ** 2)
        return (spread / spread.sum(0)).float()

    def narrowed(self, share: float) -> "Sieve":
        """Return the sieve whose blurs are ``share`` times as wide; share above 0, at most 1."""
        lateral = tuple(share * deviation for deviation in self.lateral_voxels)
        return replace(self, lateral_voxels=lateral, axial_um=share * self.axial_um)

    def volume(self, coefficients: Tensor) -> Tensor:
        """Return the volume (D, H, W) of coefficients (D, H, W); nothing lies beyond the border."""
        height, width = coefficients.shape[-2:]
        mixed = torch.zeros_like(coefficients)
        shares = self.axial.to(coefficients).unbind(1)
        for plane, deviation, share in zip(coefficients, self.lateral_voxels, shares, strict=True):
            reach = 2 * math.ceil(4 * deviation) + 1
            rows, columns = padded_size(height, reach), padded_size(width, reach)
            spectrum = torch.fft.rfft2(plane, s=(rows, columns))
            spectrum *= gaussian_transfer(torch.fft.fftfreq(rows).to(plane), deviation)[:, None]
            spectrum *= gaussian_transfer(torch.fft.rfftfreq(columns).to(plane), deviation)
            blurred = torch.fft.irfft2(spectrum, s=(rows, columns))[:height, :width]
            blurred.clamp_(min=0)  # rounding
            for depth in torch.nonzero(share > _LEAST_SHARE)[:, 0].tolist():
                mixed[depth].add_(blurred, alpha=float(share[depth]))
        return mixed

    def filter_transfer(self, transfer: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        """Return transfer functions from coefficients, given those from volumes.

        Parameters
        ----------
        transfer
            (D, columns, rows), complex; stays as it is.
        columns, rows
            Frequencies, cycles a voxel.
        """
        parts = torch.view_as_real(transfer)
        mixed = torch.view_as_complex(torch.tensordot(self.axial.T.to(parts), parts, 1))
        for plane, deviation in zip(mixed, self.lateral_voxels, strict=True):
            plane *= gaussian_transfer(columns, deviation)[:, None]
            plane *= gaussian_transfer(rows, deviation)
        return mixed


def gaussian_transfer(frequency: Tensor, deviation: float) -> Tensor:
    """Return ``exp(-2 pi^2 s^2 f^2)``."""
    return torch.exp(-2 * (math.pi * deviation * frequency) ** 2)


def volume_sieve(microscope: LightFieldMicroscope) -> Sieve:
    """Return the volumes that hold what the views of a microscope tell.

    Laterally the blur passes 42 % at `lateral_band_limit`. Along z it is as wide, at half its
    height, as the depth over which the views' shifts in the focal plane spread by one view pixel:
    planes as close as that look alike.

    Parameters
    ----------
    microscope
        The microscope with the planes and voxels of the volume.

    Examples
    --------
    >>> import optics
    >>> microscope = optics.presets["nnum13"].with_middle_depths(3)
    >>> len(optics.volume_sieve(microscope).lateral_voxels)
    3
    """
    limits = lateral_band_limit(microscope)
    frequency = max(math.hypot(*place) for place in microscope.view_coordinates)
    sine = frequency * microscope.view_step * microscope.wavelength_um / microscope.refractive_index
    sine = min(sine, microscope.numerical_aperture / microscope.refractive_index)
    tangent = max(sine / math.sqrt(1 - sine**2), 1e-3)
    deviation_um = microscope.view_pixel_um / (2 * tangent) / 1.177
    lateral = tuple(_WIDTH / limit / microscope.pixel_um for limit in limits)
    return Sieve(lateral, deviation_um, microscope.depths_um)
