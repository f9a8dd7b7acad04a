"""Zernike aberrations of a pupil.

Polynomials, their normalisation and their index are those of ANSI Z80.28 (the OSA standard):
``Z(rho, phi) = N R(rho) cos(m phi)`` for m >= 0 and ``N R(rho) sin(|m| phi)`` for m < 0, with
``N = sqrt(2 (n + 1))``, or ``sqrt(n + 1)`` for m = 0, so that a coefficient is the rms of the
wavefront over the pupil. Index ``j = (n (n + 2) + m) / 2``. The angle goes from x (columns) to y
(rows), which is clockwise in a picture.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from optics.errors import OpticsError

ABERRATIONS: dict[str, int] = {
    "tilt_y": 1,
    "tilt_x": 2,
    "oblique_astigmatism": 3,
    "defocus": 4,
    "astigmatism": 5,
    "trefoil_y": 6,
    "coma_y": 7,
    "coma_x": 8,
    "trefoil_x": 9,
    "spherical": 12,
}
"""Names of the common aberrations and their index."""

_LARGEST_INDEX = 65  # of the 10th order
_LARGEST_RMS = 5.0


Aberrations = Mapping[str, float] | Mapping[int, float]
"""Name from `ABERRATIONS`, or ANSI index from 1 to 65, to coefficient in waves rms."""


def zernike_coefficients(aberrations: Aberrations) -> dict[int, float]:
    """Return index to coefficient of named or numbered aberrations, zeros left out.

    Raises
    ------
    OpticsError
        For unknown names, one aberration under two names, and coefficients beyond 5 waves.
    """
    coefficients: dict[int, float] = {}
    for key, value in aberrations.items():
        name = str(key)
        index = ABERRATIONS.get(name, int(name) if name.isdecimal() else 0)
        if not 1 <= index <= _LARGEST_INDEX:
            raise OpticsError(
                f"aberration '{name}': give one of {', '.join(ABERRATIONS)}, or an ANSI index "
                f"from 1 to {_LARGEST_INDEX}"
            )
        if index in coefficients:
            raise OpticsError(f"aberration '{name}' is given twice; give it once")
        if not abs(value) <= _LARGEST_RMS:
            raise OpticsError(
                f"aberration '{name}' of {value} waves rms: give -{_LARGEST_RMS:g} to "
                f"{_LARGEST_RMS:g}"
            )
        coefficients[index] = float(value)
    return {index: value for index, value in coefficients.items() if value}


def wavefront(coefficients: Mapping[int, float], y: Tensor, x: Tensor) -> Tensor:
    """Return the wavefront in waves at pupil coordinates (y, x), 1 at the edge of the pupil.

    Beyond the edge the polynomials go on.
    """
    rho2 = y.square() + x.square()
    total = torch.zeros_like(rho2)
    for index, coefficient in coefficients.items():
        n = math.ceil((math.sqrt(9 + 8 * index) - 3) / 2)
        m = 2 * index - n * (n + 2)
        order = abs(m)
        # rho^|m| cos or sin(|m| phi) are the parts of (x + i y)^|m|: smooth at the centre.
        around = torch.complex(x, y) ** order
        radial = torch.zeros_like(rho2)
        for k in range((n - order) // 2 + 1):
            term = (-1) ** k * math.comb(n - k, k) * math.comb(n - 2 * k, (n - order) // 2 - k)
            radial += term * rho2 ** ((n - order) // 2 - k)
        norm = math.sqrt((n + 1) * (2 if m else 1))
        total += coefficient * norm * radial * (around.real if m >= 0 else around.imag)
    return total


def largest_slope(coefficients: Mapping[int, float], radius: float) -> float:
    """Return the wavefront's largest slope, in waves per pupil radius, up to ``radius``."""
    rho = torch.linspace(0, radius, 64, dtype=torch.float64)[:, None]
    angle = torch.linspace(0, 2 * math.pi, 129, dtype=torch.float64)
    y = (rho * angle.sin()).requires_grad_()
    x = (rho * angle.cos()).requires_grad_()
    slopes = torch.autograd.grad(wavefront(coefficients, y, x).sum(), (y, x))
    return float(torch.hypot(*slopes).max())
