"""What views tell of each plane, and volumes that hold no finer detail."""

import math

import pytest
import torch

from optics import (
    BandLimitedOperator,
    LightFieldMicroscope,
    OpticsError,
    lateral_band_limit,
    phase_space_psf,
    presets,
    volume_sieve,
)

SCOPE = LightFieldMicroscope(
    magnification=60,
    numerical_aperture=1.2,
    refractive_index=1.35,
    wavelength_um=0.593,
    microlens_pitch_um=100,
    microlens_focal_length_um=2500,
    n_num=15,
    voxels_a_lens=5,
    depths_um=[-2.0, 0.0, 2.0],
)
LENS_UM = 100 / 60


def test_the_limit_in_focus_is_that_of_the_sampling():
    (limit,) = lateral_band_limit(SCOPE, [0.0])
    assert limit * LENS_UM == pytest.approx(0.5, abs=0.06)


def test_views_from_all_sides_tell_more_than_one_sample_a_lens():
    near, far = lateral_band_limit(SCOPE, [2.5, -2.5])
    assert near == far
    assert near * LENS_UM > 1.3


def test_far_from_focus_diffraction_at_the_lenses_limits():
    limits = [limit * LENS_UM for limit in lateral_band_limit(SCOPE, [8.0, 12.0, 18.0])]
    assert limits == sorted(limits, reverse=True)
    # A lens image of the point spreads over z lambda / (n W).
    for z, limit in zip((8.0, 12.0, 18.0), limits, strict=True):
        assert 0.6 < limit / LENS_UM * z * 0.593 / (1.35 * LENS_UM) < 1.6


def test_a_scan_tells_finer_detail_in_focus():
    unscanned = presets["nnum13"].model_validate(presets["nnum13"].model_dump() | {"scanning": 1})
    once, thrice = (lateral_band_limit(m, [0.0])[0] for m in (unscanned, presets["nnum13"]))
    assert thrice > 1.6 * once


def test_no_depth_is_refused():
    with pytest.raises(OpticsError, match="depths_um"):
        lateral_band_limit(SCOPE, [])


def test_the_focal_plane_of_a_sieve_holds_no_lattice_of_lenses():
    sieve = volume_sieve(SCOPE)
    x = torch.arange(60)
    coefficients = torch.ones(3, 60, 60)
    coefficients[1] += torch.cos(2 * math.pi * x / SCOPE.voxels_a_lens)
    inside = sieve.volume(coefficients)[1, 20:40, 20:40]
    assert float(inside.max() - inside.min()) < 0.2 * float(inside.mean())
    assert float(inside.mean()) == pytest.approx(1, rel=0.02)


def test_an_operator_on_coefficients_projects_their_volume():
    psf, sieve = phase_space_psf(SCOPE, views=[112, 116], size=75), volume_sieve(SCOPE)
    sizes = (50, 45), (10, 9)
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.zeros(3, 50, 45)
    coefficients[:, 15:35, 15:30] = torch.rand((3, 20, 15), generator=generator)
    plain = BandLimitedOperator(psf, *sizes, sampling="point", band=math.inf)
    smooth = BandLimitedOperator(psf, *sizes, sampling="point", band=math.inf, sieve=sieve)
    expected = plain.forward(sieve.volume(coefficients))
    error = float((smooth.forward(coefficients) - expected).norm() / expected.norm())
    assert error < 0.01  # blurs reach beyond the PSF's support
    views = torch.rand((2, 10, 9), generator=generator)
    there = float((smooth.forward(coefficients) * views).sum())
    back = float((coefficients * smooth.adjoint(views)).sum())
    assert there == pytest.approx(back, rel=1e-4)


def test_the_light_of_a_coefficient_stays():
    sieve = volume_sieve(SCOPE)
    point = torch.zeros(3, 41, 41)
    point[1, 20, 20] = 7.0
    spread = sieve.volume(point)
    assert float(spread.sum()) == pytest.approx(7, rel=5e-3)  # ripple is cut off
    assert float(spread.min()) >= 0
    assert float(spread[0].sum()) > 0.1


def test_planes_that_look_alike_are_about_as_sharp():
    close = SCOPE.with_depths([-2.0, -1.0, 0.0, 1.0, 2.0])
    line = torch.zeros(5, 41, 41)
    line[:, 20, 20] = 1
    peaks = volume_sieve(close).volume(line)[:, 20, 20]
    assert float(peaks[2]) > 0.6 * float(peaks[1])


def test_a_narrowed_sieve_blurs_by_a_share():
    close = SCOPE.with_depths([-2.0, -1.0, 0.0, 1.0, 2.0])
    sieve = volume_sieve(close)
    point = torch.zeros(5, 61, 61)
    point[2, 30, 30] = 1
    x = torch.arange(-15.0, 16.0)

    def widths(share):
        spread = sieve.narrowed(share).volume(point)
        lateral = spread[..., 15:46].sum((0, 1))
        axial = spread.sum((1, 2))
        return float((lateral * x**2).sum()), float((axial * torch.arange(-2, 3) ** 2).sum())

    (lateral, axial), (half, half_axial) = widths(1), widths(0.5)
    assert torch.equal(sieve.narrowed(1).volume(point), sieve.volume(point))
    assert half == pytest.approx(lateral / 4, rel=0.06)  # ripple is cut off
    assert half_axial < 0.6 * axial
