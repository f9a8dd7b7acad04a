"""The Zernike aberrations of a light field, from the light field alone.

Preferable to correlating the views with the central one (`serenet.aberrations.correlation`) where
objects are thick: there each view's maximum may belong to another depth.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.signal.windows import tukey
from torch import Tensor

from optics import LightFieldMicroscope
from optics.aberrations import wavefront, zernike_coefficients
from scopekit.errors import UserError
from serenet.aberrations.correlation import view_coordinates

FITTED = (
    "astigmatism",
    "oblique_astigmatism",
    "coma_x",
    "coma_y",
    "trefoil_x",
    "trefoil_y",
)
"""The aberrations looked for.

Tilt only moves the image; defocus is depth, and so, over the views' range, is most of the spherical
aberration.
"""

Misfit = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Value and gradient for the coefficients of `FITTED`."""

# Directions that lower the misfit by less than this share of the best, for the same shifts of the
# views, are left alone: parallel lines tell next to nothing of astigmatism along them.
_DETERMINED = 0.1
_STEP = 0.03  # waves, for curvatures
# Finer details in cycles per view pixel are mostly noise, coarser ones do not tell positions.
_FINEST, _COARSEST = 0.35, 0.06
_DEPTHS = 41
_TAPERED = 1 / 3
_STRONGEST = 1.0
_SMALLEST_SIDE = 16


def fit_aberrations(views: Tensor, microscope: LightFieldMicroscope) -> dict[str, float]:
    """Find the aberrations whose removal makes the refocused views agree best at all depths.

    It maximises ``sum_z sum_k |sum_a V_a(k) exp(2 pi i k (z p_a + s_a))|^2``, the power of the
    refocused stack, over the coefficients of the views' shifts ``s_a`` (`aberration_shifts`).
    ``V_a`` is a view's band-passed Fourier transform, ``p_a`` its parallax. Objects may be thick,
    since every depth takes part: for two views the sum over depths does not care for shifts along
    the line between them, which is where parallax goes, but for those across it. What the scene
    does not tell is left at 0.

    Parameters
    ----------
    views
        (A, h, w), background subtracted, those of ``microscope.views``.
    microscope
        The microscope; objects are looked for around its depths too.

    Returns
    -------
    dict
        Every name in `FITTED` to its coefficient in waves rms, up to 1.

    Raises
    ------
    UserError
        If shapes do not fit, the views are too small, or values are not finite.
    """
    _check(views, microscope)
    spectra, y, x = _band(views)
    power = float(spectra.abs().square().sum())
    if power == 0:
        return dict.fromkeys(FITTED, 0.0)
    shifts = torch.stack([aberration_shifts({name: 1.0}, microscope) for name in FITTED])
    basis = (shifts / microscope.lateral_scale).to(y)
    refocusing = (_parallax(microscope, shifts) / microscope.lateral_scale).to(y)

    def misfit(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        moved = torch.einsum("c,cad->ad", torch.from_numpy(coefficients).to(basis), basis)
        gained = 0.0
        slope = torch.zeros_like(moved)
        for plane in (refocusing + moved[:, None]).unbind(1):
            turned = spectra * _turn(y, plane[:, :1])[:, :, None] * _turn(x, plane[:, 1:])[:, None]
            refocused = turned.sum(0)
            gained += float(refocused.abs().square().sum())
            change = -4 * math.pi * (refocused.conj() * turned).imag
            slope[:, 0] += change.sum(2) @ y
            slope[:, 1] += change.sum(1) @ x
        gradient = torch.einsum("ad,cad->c", slope, basis)
        scale = power * refocusing.shape[1]
        return -gained / scale, -gradient.cpu().double().numpy() / scale

    everywhere = _minimum(misfit, np.eye(len(FITTED)))
    directions = _find_directions(misfit, everywhere, shifts.flatten(1).numpy())
    fitted = everywhere if directions.shape[1] == len(FITTED) else _minimum(misfit, directions)
    return dict(zip(FITTED, fitted.clip(-_STRONGEST, _STRONGEST).tolist(), strict=True))


def _check(views: Tensor, microscope: LightFieldMicroscope) -> None:
    if views.dim() != 3:
        raise UserError(f"aberrations: views of shape {tuple(views.shape)}; give (A, h, w)")
    if len(views) != len(microscope.views):
        raise UserError(
            f"aberrations: {len(views)} views; the microscope names {len(microscope.views)}"
        )
    if min(views.shape[-2:]) < _SMALLEST_SIDE:
        raise UserError(
            f"aberrations: views of {views.shape[-2]} x {views.shape[-1]} pixels are too small; "
            f"give at least {_SMALLEST_SIDE} x {_SMALLEST_SIDE}"
        )
    if not torch.isfinite(views).all():
        raise UserError("aberrations: the views hold NaN or infinite values; mend the file")


def _parallax(microscope: LightFieldMicroscope, shifts: Tensor) -> Tensor:
    """Return the views' shifts (A, D, 2), object pixels, over depths that hold all objects.

    A ray of frequency f drifts by ``f / sqrt((n / lambda)^2 - f^2)`` per unit of depth. The depths
    go so far beyond the microscope's that an object which an aberration displaces, by ``shifts``
    (C, A, 2) at most, stays among them: at their ends agreement would be lost for nothing.
    """
    frequency = view_coordinates(microscope.views, microscope.n_num) * microscope.view_step
    wave = microscope.refractive_index / microscope.wavelength_um
    along = (wave**2 - frequency.square().sum(1, keepdim=True)).clamp(min=1e-6).sqrt()
    drift = frequency / along / microscope.pixel_um
    margin_um = 2 * float(shifts.abs().max() / drift.abs().max().clamp(min=1e-6)) * _STRONGEST
    first, last = microscope.depths_um[0] - margin_um, microscope.depths_um[-1] + margin_um
    depths = torch.linspace(first, last, _DEPTHS, dtype=drift.dtype)
    return drift[:, None] * depths[:, None]


def _minimum(misfit: Misfit, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of the least misfit within the span of the columns."""

    def within(amounts: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = misfit(directions @ amounts)
        return value, gradient @ directions

    found = minimize(
        within, np.zeros(directions.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 30}
    )
    coefficients: NDArray[np.float64] = directions @ found.x
    return coefficients


def _find_directions(
    misfit: Misfit, minimum: NDArray[np.float64], shifts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the directions (C, K) in which the misfit is curved enough.

    Curvature counts against the mean square of the views' shifts that a direction means;
    ``shifts`` is (C, 2 A).
    """
    steps = _STEP * np.eye(len(minimum))
    rows = [(misfit(minimum + s)[1] - misfit(minimum - s)[1]) / (2 * _STEP) for s in steps]
    curvature = np.stack(rows)
    values, vectors = eigh((curvature + curvature.T) / 2, shifts @ shifts.T)
    directions: NDArray[np.float64] = vectors[:, values >= _DETERMINED * values[-1]]
    return directions


def _turn(frequency: Tensor, shift: Tensor) -> Tensor:
    return torch.exp(2j * math.pi * frequency * shift)


def _band(views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the band-passed transforms (A, J, K) of views of equal contrast, and frequencies."""
    height, width = views.shape[-2:]
    edges = [torch.from_numpy(tukey(n, _TAPERED)).to(views) for n in (height, width)]
    contrast = views - views.mean((1, 2), keepdim=True)
    contrast = contrast / contrast.std((1, 2), keepdim=True).clamp(min=1e-12)
    spectra = torch.fft.rfft2(contrast * edges[0][:, None] * edges[1])
    y = torch.fft.fftfreq(height, device=views.device)
    x = torch.fft.rfftfreq(width, device=views.device)
    spectra = spectra[:, y.abs() < _FINEST][:, :, x < _FINEST]
    y, x = y[y.abs() < _FINEST], x[x < _FINEST]
    radius2 = y[:, None].square() + x.square()
    band = (1 - torch.exp(-radius2 / _COARSEST**2)) * (radius2 < _FINEST**2)
    return spectra * band, y, x


def aberration_shifts(aberrations: Mapping[str, float], microscope: LightFieldMicroscope) -> Tensor:
    """Return by how much aberrations move every view, ``-grad w(f)`` where it looks through f.

    The polynomials' own share of tilt and defocus is in it, so that undoing the shifts puts an
    object where it would be without these aberrations.

    Parameters
    ----------
    aberrations
        Names to waves rms, see `optics.aberrations`.
    microscope
        The microscope.

    Returns
    -------
    Tensor
        (A, 2), float64: row and column in object pixels. `correlation.shift_views` undoes them,
        `shift_map.write_shift_map` draws them.
    """
    limit = microscope.numerical_aperture / microscope.wavelength_um
    places = view_coordinates(microscope.views, microscope.n_num)
    pupil = (places * microscope.view_step / limit).requires_grad_()
    # Tilt of nothing keeps the gradient defined without aberrations.
    waves = wavefront({1: 0.0, **zernike_coefficients(aberrations)}, pupil[:, 0], pupil[:, 1])
    return -torch.autograd.grad(waves.sum(), pupil)[0] / limit / microscope.pixel_um
