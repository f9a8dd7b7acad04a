"""The pupil field on a grid without wrap-around, and what microlenses see of it."""

import math
from collections.abc import Sequence

import torch
from scipy.special import roots_legendre
from torch import Tensor

from optics.lightfield.microscope import LightFieldMicroscope

FADED = 2.5
"""Where the fading of the field and of its transform ends, in its widths: 1e-5 of the PSF."""


def confined_pupil(
    microscope: LightFieldMicroscope,
    distances_um: Sequence[float],
    reach_um: float,
    least_fade_um: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return frequencies (J,) from 0 and, over them, the pupil (Z, J, J), complex64.

    Sampling makes the field periodic, and the tails of a hard edge and of defocus decay too
    slowly for any practical period. So the field is computed over its radius, faded out beyond
    the square of half side ``reach_um``, and transformed back: a smooth pupil, which ends a
    little outside NA / lambda.
    """
    wave = microscope.refractive_index / microscope.wavelength_um
    limit = microscope.numerical_aperture / microscope.wavelength_um
    # Fading widens the period and the pupil; this width costs least.
    fade_um = max(0.5 * math.sqrt(reach_um / limit), least_fade_um)
    end_um = math.sqrt(2) * reach_um + 2 * FADED * fade_um
    end = limit + FADED / (math.pi * fade_um)

    defocus = max(distances_um) * (wave - math.sqrt(wave**2 - limit**2))
    rho, rho_weight = _quadrature(limit, defocus + limit * end_um)
    radius, radius_weight = _quadrature(end_um, (limit + end) * end_um)
    step = 1 / (reach_um + end_um)
    index = torch.arange(math.floor(end / step) + 1)
    index2 = index[:, None] ** 2 + index**2
    inside = index2 <= (end / step) ** 2
    different, place = torch.unique(index2[inside], return_inverse=True)

    bessel = torch.special.bessel_j0
    to_field = bessel(2 * math.pi * rho[:, None] * radius)
    fading = torch.erfc((radius - end_um) / fade_um + FADED) / 2
    to_pupil = bessel(2 * math.pi * step * radius[:, None] * different.sqrt())
    smoothed = (to_field * (4 * math.pi**2 * fading * radius_weight)) @ to_pupil
    turns = torch.tensor(distances_um, dtype=torch.float64)[:, None] * (wave**2 - rho**2).sqrt()
    values = (torch.exp(2j * math.pi * turns) * rho_weight) @ smoothed.to(torch.complex128)

    # The central view's sum over all pixels, by Parseval; its angles repeat in every quadrant.
    window_um = microscope.microlens_pitch_um / microscope.magnification
    angle = math.pi / 2 * torch.linspace(0, 1, 257, dtype=torch.float64)[1:, None]
    window = torch.sinc(rho * angle.cos() * window_um) * torch.sinc(rho * angle.sin() * window_um)
    power = 2 * math.pi * float((window**2 @ rho_weight).mean()) / microscope.pixel_um**2
    pupil = torch.zeros((len(distances_um), *inside.shape), dtype=torch.complex64)
    pupil[:, inside] = (values[:, place] * (step**2 / math.sqrt(power))).to(torch.complex64)
    return index * step, pupil


def _quadrature(end: float, turns: float) -> tuple[Tensor, Tensor]:
    """Return radii and weights of ``int_0^end f(r) r dr`` for a phase of f of so many turns."""
    # A quarter of a node per radian is the limit.
    nodes, weights = roots_legendre(int(2 * turns) + 40)
    radius = torch.from_numpy(end / 2 * (nodes + 1))
    return radius, torch.from_numpy(end / 2 * weights) * radius


def folded_window(
    microscope: LightFieldMicroscope, positions: Tensor, frequency: Tensor, order: int
) -> Tensor:
    """Return (positions, J), complex64: `window_transform` with +f and -f added."""
    folded = window_transform(microscope, positions, frequency, order)
    folded += window_transform(microscope, positions, -frequency, order)
    folded[:, 0] /= 2  # f = 0 is its own mirror image
    return folded.to(torch.complex64)


def window_transform(
    microscope: LightFieldMicroscope, positions: Tensor, frequency: Tensor, order: int
) -> Tensor:
    """Return (positions, J): the window's transform at f times ``exp(2 pi i f x)``."""
    window_um = microscope.microlens_pitch_um / microscope.magnification
    seen = torch.sinc((frequency - order * microscope.view_step) * window_um)
    return torch.exp(2j * math.pi * positions[:, None] * frequency) * seen
