"""Phase-space PSF of a light-field microscope by scalar wave optics."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from optics.errors import OpticsError
from optics.geometry import LightFieldPreset


def phase_space_psf(
    preset: LightFieldPreset,
    depths_um: Sequence[float] | None = None,
    views: Sequence[int] | None = None,
    size: int = 195,
) -> Tensor:
    """Return the PSF of every view at every depth over the position of the microlens.

    A point at depth z gives the pupil field ``exp(2 pi i z sqrt((n / lambda)^2 - |f|^2))`` inside
    ``|f| <= NA / lambda``. A microlens is a square window of side ``W = pitch / M``; the pixel
    (u, v) behind it sees the window's Fourier component at ``(u, v) df``, u and v counted from
    the central view. Over the lens position x::

        psf_uv(x; z) = | IFFT[ P(f; z) sinc((f_y - u df) W) sinc((f_x - v df) W) ] |^2

    Normalisation: the central view sums to 1 over an unbounded support, at every depth; another
    view sums to the light it receives relative to the central one.

    Parameters
    ----------
    preset
        The microscope.
    depths_um
        Depths of the point in um; default: the preset's.
    views
        View indices; default: the preset's.
    size
        Lateral support in object pixels.

    Returns
    -------
    Tensor
        (A, D, size, size), float32; a point on the axis is centred on pixel ``size // 2``.
        ``psf(-z)`` is ``psf(+z)`` rotated by 180 degrees.

    Notes
    -----
    The windows are separable, so the transform is two matrix products per view and depth,
    evaluated at the wanted positions only. The pupil is even in both directions, which folds its
    frequencies onto one quadrant, gives ``-z`` from ``+z``, and gives eight views from one.
    """
    depths = preset.depths_um if depths_um is None else tuple(depths_um)
    selected = preset.views if views is None else tuple(views)
    if size < 1:
        raise OpticsError(f"PSF size {size}: give at least 1 pixel")
    if any(not 0 <= a < preset.n_num**2 for a in selected):
        raise OpticsError(f"views must lie between 0 and {preset.n_num**2 - 1}")

    half = size // 2
    # An even support is an odd one without its last row and column.
    positions = torch.arange(-half, half + 1, dtype=torch.float64) * preset.pixel_um
    frequency, axial = _pupil_quadrant(preset, max(abs(z) for z in depths), half)
    signed = [
        (a // preset.n_num - preset.n_num // 2, a % preset.n_num - preset.n_num // 2)
        for a in selected
    ]
    orders = sorted({abs(n) for pair in signed for n in pair})
    window_um = preset.microlens_pitch_um / preset.magnification
    basis = torch.stack(
        [
            _window_transform(positions, frequency, order * preset.view_step, window_um)
            for order in orders
        ]
    )
    # The intensity is of fourth order in the basis.
    basis = (basis / _central_sum(frequency, axial, window_um, preset.pixel_um) ** 0.25).to(
        torch.complex64
    )

    out = torch.empty((len(selected), len(depths), size, size), dtype=torch.float32)
    for distance in sorted({abs(z) for z in depths}):
        pupil = torch.where(axial > 0, torch.exp(2j * math.pi * distance * axial), 0)
        rows = dict(zip(orders, basis @ pupil.to(torch.complex64), strict=True))
        columns = dict(zip(orders, basis.transpose(-1, -2), strict=True))
        octant: dict[tuple[int, int], Tensor] = {}
        for a, (u, v) in enumerate(signed):
            key = (max(abs(u), abs(v)), min(abs(u), abs(v)))
            if key not in octant:
                field = torch.view_as_real(rows[key[0]] @ columns[key[1]])
                octant[key] = field.square_().sum(-1)
            image = octant[key] if abs(u) >= abs(v) else octant[key].T
            for d, z in enumerate(depths):
                if abs(z) == distance:
                    # -z turns the image by 180 degrees.
                    flips = [axis for axis, n in enumerate((u, v)) if (n < 0) != (z < 0)]
                    out[a, d] = image.flip(flips)[:size, :size] if flips else image[:size, :size]
    return out


def _pupil_quadrant(
    preset: LightFieldPreset, distance_um: float, half: int
) -> tuple[Tensor, Tensor]:
    """Return the frequencies (J,) from 0 to NA / lambda and the axial ones (J, J), 0 outside.

    The frequency step makes the field periodic over a width that holds the defocused spot, the
    wanted support beside it, and a margin for the tails of the window's diffraction.
    """
    n, aperture = preset.refractive_index, preset.numerical_aperture
    spread_um = distance_um * aperture / math.sqrt(n**2 - aperture**2)
    window_um = preset.microlens_pitch_um / preset.magnification
    period_um = spread_um + half * preset.pixel_um + 4 * window_um
    limit = aperture / preset.wavelength_um
    count = max(math.floor(limit * period_um), 8)
    frequency = torch.arange(count + 1, dtype=torch.float64) / period_um
    radius2 = frequency[:, None] ** 2 + frequency**2
    axial = ((n / preset.wavelength_um) ** 2 - radius2).clamp(min=0).sqrt()
    return frequency, torch.where(radius2 <= limit**2, axial, 0)


def _window_transform(
    positions: Tensor, frequency: Tensor, centre: float, window_um: float
) -> Tensor:
    """Return (positions, J): the inverse transform of the window, +f and -f folded together."""
    phase = torch.exp(2j * math.pi * positions[:, None] * frequency)
    folded = phase * torch.sinc((frequency - centre) * window_um) + phase.conj() * torch.sinc(
        (-frequency - centre) * window_um
    )
    folded[:, 0] /= 2  # f = 0 is its own mirror image
    return folded


def _central_sum(frequency: Tensor, axial: Tensor, window_um: float, pixel_um: float) -> Tensor:
    """Return the sum of the central view's intensity over all pixels (Parseval)."""
    mirrored = torch.full_like(frequency, 2.0)
    mirrored[0] = 1.0
    weight = mirrored * torch.sinc(frequency * window_um) ** 2
    power = weight @ (axial > 0).to(weight.dtype) @ weight
    return power / (frequency[1] * pixel_um) ** 2


def psf_shift(psf: Tensor) -> Tensor:
    """Return the centre of mass of every view and depth: ``sum(psf x) / (sum(psf) + 1e-9)``.

    Parameters
    ----------
    psf
        (A, D, H, W).

    Returns
    -------
    Tensor
        (A, D, 2): row and column in pixels from the support's middle, ``(H - 1) / 2`` and
        ``(W - 1) / 2``.
    """
    height, width = psf.shape[-2:]
    y = torch.arange(height, dtype=psf.dtype, device=psf.device) - (height - 1) / 2
    x = torch.arange(width, dtype=psf.dtype, device=psf.device) - (width - 1) / 2
    rows, columns = psf.sum(-1), psf.sum(-2)
    total = rows.sum(-1) + 1e-9
    return torch.stack([(rows @ y) / total, (columns @ x) / total], dim=-1)
