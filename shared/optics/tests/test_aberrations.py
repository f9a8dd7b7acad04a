import math

import numpy as np
import pytest
import torch
from scipy.special import roots_legendre
from torch import Tensor

from optics import LightFieldMicroscope, OpticsError, phase_space_psf, presets, psf_shift
from optics.aberrations import ABERRATIONS, largest_slope, wavefront, zernike_coefficients

NNUM13, NNUM15 = presets["nnum13"], presets["nnum15"]
LIMIT = NNUM13.numerical_aperture / NNUM13.wavelength_um
# The views of a cross and a diagonal, all within the aperture.
VIEWS = [84, 86, 82, 58, 110, 112, 56]


def unit_disc() -> tuple[Tensor, Tensor, Tensor]:
    """Return y, x and weights that integrate over the unit disc divided by its area."""
    nodes, weights = roots_legendre(20)
    rho = torch.from_numpy((nodes + 1) / 2)[:, None]
    angle = 2 * math.pi * torch.arange(48, dtype=torch.float64) / 48
    return rho * angle.sin(), rho * angle.cos(), torch.from_numpy(weights)[:, None] * rho / 48


def test_polynomials_are_orthonormal_over_the_pupil() -> None:
    y, x, weight = unit_disc()
    each = torch.stack([wavefront({j: 1.0}, y, x) for j in range(1, 36)]).flatten(1)
    product = each * weight.broadcast_to(y.shape).flatten() @ each.T
    torch.testing.assert_close(product, torch.eye(35, dtype=torch.float64), rtol=0, atol=1e-10)


def test_polynomials_are_those_of_the_standard() -> None:
    generator = torch.Generator().manual_seed(0)
    y, x = torch.rand((2, 20), generator=generator, dtype=torch.float64) - 0.5
    rho2 = x**2 + y**2
    expected = {
        "tilt_y": 2 * y,
        "tilt_x": 2 * x,
        "oblique_astigmatism": 2 * math.sqrt(6) * x * y,
        "defocus": math.sqrt(3) * (2 * rho2 - 1),
        "astigmatism": math.sqrt(6) * (x**2 - y**2),
        "trefoil_y": math.sqrt(8) * (3 * x**2 * y - y**3),
        "coma_y": math.sqrt(8) * (3 * rho2 - 2) * y,
        "coma_x": math.sqrt(8) * (3 * rho2 - 2) * x,
        "trefoil_x": math.sqrt(8) * (x**3 - 3 * x * y**2),
        "spherical": math.sqrt(5) * (6 * rho2**2 - 6 * rho2 + 1),
    }
    assert expected.keys() == ABERRATIONS.keys()
    for name, value in expected.items():
        found = wavefront(zernike_coefficients({name: -0.7}), y, x)
        torch.testing.assert_close(found, -0.7 * value)


def test_aberrations_are_known_by_name_or_index() -> None:
    assert zernike_coefficients({"coma_x": 0.1, "24": -0.2, "defocus": 0}) == {8: 0.1, 24: -0.2}
    assert zernike_coefficients({8: 0.1}) == {8: 0.1}


@pytest.mark.parametrize(
    ("aberrations", "message"),
    [
        ({"comma": 0.1}, "'comma': give one of tilt_y, .* index from 1 to 65"),
        ({"0": 0.1}, "'0': give"),
        ({"66": 0.1}, "'66': give"),
        ({"coma_x": 0.1, "8": 0.1}, "'8' is given twice"),
        ({"coma_x": math.nan}, "of nan waves"),
        ({"coma_x": -6}, "of -6 waves rms: give -5 to 5"),
        ({60: 5.0}, "move light by up to .* um: give smaller"),
    ],
)
def test_wrong_aberrations_are_named(aberrations: dict[str, float], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        phase_space_psf(NNUM13, [0.0], [84], 9, aberrations)


def test_the_largest_slope() -> None:
    assert largest_slope({2: 0.3}, 1.25) == pytest.approx(0.6)
    assert largest_slope({4: -0.3}, 1.25) == pytest.approx(0.3 * math.sqrt(3) * 4 * 1.25)


@pytest.mark.parametrize("size", [61, 60])
def test_an_aberration_of_nothing_is_the_unaberrated_psf(size: int) -> None:
    depths = [-2.4, 0.0, 2.4]
    expected = phase_space_psf(NNUM13, depths, VIEWS, size)
    assert torch.equal(phase_space_psf(NNUM13, depths, VIEWS, size, {"coma_x": 0.0}), expected)
    # So weak that it only chooses the other way of computing.
    found = phase_space_psf(NNUM13, depths, VIEWS, size, {"coma_x": 1e-9})
    error = (found - expected).abs().amax((2, 3)) / expected.amax((2, 3))
    assert error.max() < 3e-5


def by_plain_fft(
    microscope: LightFieldMicroscope,
    depth_um: float,
    views: list[int],
    size: int,
    aberrations: dict[str, float],
) -> Tensor:
    """Return the PSF (A, size, size), unnormalised, on a wide grid that obeys Nyquist."""
    limit = microscope.numerical_aperture / microscope.wavelength_um
    every = math.ceil(microscope.pixel_um * 2 * limit)
    f = torch.fft.fftfreq(1440, microscope.pixel_um / every, dtype=torch.float64)
    fy, fx = torch.meshgrid(f, f, indexing="ij")
    radius2 = fy**2 + fx**2
    axial = (
        ((microscope.refractive_index / microscope.wavelength_um) ** 2 - radius2)
        .clamp(min=0)
        .sqrt()
    )
    waves = depth_um * axial + wavefront(zernike_coefficients(aberrations), fy / limit, fx / limit)
    pupil = torch.polar((radius2 <= limit**2).double(), 2 * math.pi * waves)
    window_um = microscope.microlens_pitch_um / microscope.magnification
    at = torch.arange(-(size // 2), size - size // 2) * every

    def seen(a: int) -> Tensor:
        u, v = (n - microscope.n_num // 2 for n in divmod(a, microscope.n_num))
        lens = torch.sinc((fy - u * microscope.view_step) * window_um)
        lens = lens * torch.sinc((fx - v * microscope.view_step) * window_um)
        return torch.fft.ifft2(pupil * lens)[at][:, at].abs() ** 2

    return torch.stack([seen(a) for a in views])


@pytest.mark.parametrize(
    ("microscope", "depth", "aberrations"),
    [
        (NNUM13, -2.4, {"astigmatism": 0.2, "coma_x": -0.15, "trefoil_y": 0.1}),
        (NNUM13, 3.0, {"spherical": 0.3, "tilt_y": 1.0}),
        (NNUM15, 4.0, {"coma_y": 0.2}),
    ],
)
def test_equals_the_plain_formula(
    microscope: LightFieldMicroscope, depth: float, aberrations: dict[str, float]
) -> None:
    centre, n = microscope.central_view, microscope.n_num
    views = [centre, centre + 2, centre - 3 * n + 1]
    psf = phase_space_psf(microscope, [depth], views, 31, aberrations)[:, 0]
    expected = by_plain_fft(microscope, depth, views, 31, aberrations).float()
    expected *= psf[0].sum() / expected[0].sum()
    error = (psf - expected).abs().amax((1, 2)) / expected.amax((1, 2))
    assert error.max() < 1e-3


def test_a_larger_support_changes_nothing() -> None:
    aberrations = {"oblique_astigmatism": 0.3, "coma_y": 0.3}
    small = phase_space_psf(NNUM13, [6.0], VIEWS, 61, aberrations)
    large = phase_space_psf(NNUM13, [6.0], VIEWS, 121, aberrations)[..., 30:91, 30:91]
    error = (small - large).abs().amax((2, 3)) / large.amax((2, 3))
    assert error.max() < 1e-4


def test_the_central_view_sums_to_one() -> None:
    psf = phase_space_psf(NNUM13, [0.0, 4.0], [84], 181, {"coma_x": 0.2, "trefoil_x": 0.1})
    assert ((psf.sum((-1, -2)) - 1).abs() < 5e-3).all()


def test_tilt_moves_every_view_against_its_slope() -> None:
    # Slopes of 2 c waves over the pupil's radius: -2 c lambda / NA, here 4 pixels.
    pixels = 4
    tilt = pixels * NNUM13.pixel_um * LIMIT / 2
    still = phase_space_psf(NNUM13, [1.0], VIEWS, 61)
    up = phase_space_psf(NNUM13, [1.0], VIEWS, 61, {"tilt_y": tilt})
    left = phase_space_psf(NNUM13, [1.0], VIEWS, 61, {"tilt_x": tilt})
    torch.testing.assert_close(up[..., :-pixels, :], still[..., pixels:, :], rtol=0, atol=1e-6)
    torch.testing.assert_close(left[..., :-pixels], still[..., pixels:], rtol=0, atol=1e-6)


def test_defocus_is_a_depth() -> None:
    dry = NNUM13.model_copy(
        update={"numerical_aperture": 0.4, "refractive_index": 1.0, "magnification": 20.0}
    )
    depth = 5.0
    # z sqrt(k^2 - f^2), up to a constant -z f^2 / 2k, is sqrt(3) 2 c (f / limit)^2.
    limit = dry.numerical_aperture / dry.wavelength_um
    coefficient = -depth * limit**2 * dry.wavelength_um / (4 * math.sqrt(3))
    views = [84, 85, 98]
    deep = phase_space_psf(dry, [depth], views, 61)
    turned = phase_space_psf(dry, [0.0], views, 61, {"defocus": coefficient})
    focused = phase_space_psf(dry, [0.0], views, 61)
    scale = deep.amax((2, 3))
    assert ((turned - deep).abs().amax((2, 3)) / scale).max() < 0.05
    assert ((focused - deep).abs().amax((2, 3)) / scale).max() > 0.5


@pytest.mark.parametrize(
    "aberrations",
    [{"astigmatism": 0.3}, {"oblique_astigmatism": -0.3}, {"coma_x": 0.15}, {"coma_y": -0.15}],
)
def test_views_move_by_the_slope_at_their_place_in_the_pupil(
    aberrations: dict[str, float],
) -> None:
    u, v = (torch.from_numpy(n) - 6.0 for n in np.divmod(np.array(VIEWS), 13))
    y, x = ((n * NNUM13.view_step / LIMIT).requires_grad_() for n in (u, v))
    waves = wavefront(zernike_coefficients(aberrations), y, x)
    slope = torch.stack(torch.autograd.grad(waves.sum(), (y, x)), dim=1) / LIMIT
    expected = (-slope / NNUM13.pixel_um).float()
    moved = psf_shift(phase_space_psf(NNUM13, [0.0], VIEWS, 121, aberrations))[:, 0]
    # A view averages the slope over its microlens' diffraction, a third of the pupil.
    assert (moved - expected).norm() < 0.25 * expected.norm()
    assert expected.norm() > 2
