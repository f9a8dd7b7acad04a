"""Unscanned light fields: planes without the grid of the lenses, a pedestal, threes of views."""

import numpy as np
import pytest
import torch

from optics import (
    BandLimitedOperator,
    LightFieldMicroscope,
    phase_space_psf,
    presets,
    richardson_lucy,
    volume_sieve,
)
from scopekit.memory import MemoryBudget
from serenet.api import volumes as volumes_of_the_api
from serenet.api.volumes import deconvolve
from serenet.deconvolution import operators as operators_of_views
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.subsets import EXPONENT, ViewSubsets, flat_start, split_pedestal
from serenet.deconvolution.windows import plan_windows

SCOPE = LightFieldMicroscope(
    magnification=60,
    numerical_aperture=1.2,
    refractive_index=1.35,
    wavelength_um=0.593,
    microlens_pitch_um=100,
    microlens_focal_length_um=2500,
    n_num=15,
    voxels_a_lens=5,
    depths_um=[-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0],
)
SCOPE = SCOPE.with_views(
    [a for a, (y, x) in zip(SCOPE.views, SCOPE.view_coordinates, strict=True) if (y + x) % 2 == 0]
)
LENSES, SIDE = 14, 14 * 5


@pytest.fixture(scope="module")
def psf():
    return phase_space_psf(SCOPE)


@pytest.fixture(scope="module")
def simulated(psf):
    """A shell across the planes, and its views with noise, 500 photons at most."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    planes = [
        np.exp(-(((np.hypot(np.hypot(y, x) * SCOPE.pixel_um, z) - 7) / 0.6) ** 2))
        for z in SCOPE.depths_um
    ]
    truth = torch.tensor(np.array(planes), dtype=torch.float32)
    operator = BandLimitedOperator(psf, (SIDE, SIDE), (LENSES, LENSES), sampling="point")
    views = operator.forward(truth).clamp(min=0)
    generator = torch.Generator().manual_seed(0)
    return truth, torch.poisson(views * (500 / views.max()), generator)


def subsets_of(psf, views, *, smooth, side=SIDE):
    sieve = volume_sieve(SCOPE) if smooth else None
    operators = ViewOperators(lambda a: psf[a : a + 1], SCOPE, 1e9, sieve)
    pedestal = None
    if smooth:
        views, pedestal = split_pedestal(views)
    return ViewSubsets(views, operators, (side, side), SCOPE.oblique_first, pedestal)


@pytest.fixture(scope="module")
def volumes(psf, simulated):
    """Deconvolved with a sieve, and plainly."""

    def solve(smooth):
        subsets = subsets_of(psf, simulated[1], smooth=smooth)
        start = flat_start(subsets)
        return subsets.volume(richardson_lucy(subsets, start, iterations=3, exponent=EXPONENT))

    return {smooth: solve(smooth).numpy() for smooth in (True, False)}


def lattice(plane):
    """Return the share of a plane's power around the lens frequency and its harmonics."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    power = np.abs(np.fft.fft2((plane - np.average(plane, weights=window)) * window)) ** 2
    order = np.fft.fftfreq(SIDE) * 5
    near = np.abs(order - np.round(order)) <= 2.01 / LENSES
    harmonic = np.abs(np.round(order)) > 0
    grid = np.outer(near, near) & (harmonic[:, None] | harmonic)
    return power[grid].sum() / power.sum()


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def test_the_grid_of_the_lenses_goes(volumes):
    for z in range(1, 6):
        assert lattice(volumes[True][z]) < lattice(volumes[False][z]) / 3


def test_the_planes_about_the_focus_are_alike_in_brightness(volumes):
    means = volumes[True][2:5].mean((1, 2))
    assert means.max() < 1.2 * means.min()


def test_the_truth_is_found_better(volumes, simulated):
    smooth, plain = (correlation(volumes[kind], simulated[0]) for kind in (True, False))
    assert smooth > plain + 0.03
    assert volumes[True].min() >= 0


def test_finer_fits_than_are_shown_explain_thin_shells_better(psf, monkeypatch):
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    thin = [np.abs(np.hypot(np.hypot(y, x) * SCOPE.pixel_um, z) - 7) < 0.3 for z in SCOPE.depths_um]
    truth = torch.tensor(np.array(thin), dtype=torch.float32)
    operator = BandLimitedOperator(psf, (SIDE, SIDE), (LENSES, LENSES), sampling="point")
    views = operator.forward(truth).clamp(min=0)
    views *= 500 / views.max()

    def found(share):
        monkeypatch.setattr(operators_of_views, "_FITTED", share)
        subsets, fits = subsets_of(psf, views, smooth=True), []
        estimate = richardson_lucy(
            subsets,
            flat_start(subsets),
            iterations=4,
            exponent=EXPONENT,
            on_sweep=lambda *sweep: fits.append(sweep[-1]),
        )
        return fits[-1], correlation(subsets.volume(estimate), truth)

    (as_told, finer), (as_shown, coarser) = found(operators_of_views._FITTED), found(1.0)
    assert as_told < 0.9 * as_shown
    assert finer > coarser


def test_a_pedestal_changes_little(simulated):
    truth, views = simulated
    psf = phase_space_psf(SCOPE)
    kept = deconvolve(views, psf, 2, microscope=SCOPE)
    raised = deconvolve(views + 300, psf, 2, microscope=SCOPE)
    assert float((kept - raised).norm()) < 0.02 * float(kept.norm())
    assert correlation(raised, truth) > 0.7


@pytest.fixture(scope="module")
def part_of_a_sample(psf):
    """Beads over 20 lenses, bright around the 12 of the field; its views, 500 photons at most."""
    generator = np.random.default_rng(1)
    truth = torch.zeros(len(SCOPE.depths_um), 100, 100)
    for _ in range(60):
        z, y, x = generator.integers((0, 0, 0), truth.shape)
        is_inside = max(abs(y - 49.5), abs(x - 49.5)) < 30
        truth[z, y, x] = generator.uniform(0.5, 1) if is_inside else 4
    truth = volume_sieve(SCOPE).volume(truth)
    views = BandLimitedOperator(psf, (100, 100), (20, 20), sampling="point").forward(truth)
    views = views[:, 4:16, 4:16].clamp(min=0)
    photons = torch.poisson(views * (500 / views.max()), torch.Generator().manual_seed(0))
    return truth[:, 20:80, 20:80], photons


def test_light_from_beyond_the_field_does_not_gather_at_its_border(psf, part_of_a_sample):
    truth, views = part_of_a_sample
    ends = subsets_of(psf, views, smooth=True, side=60)
    start = flat_start(ends)
    gathered = ends.volume(richardson_lucy(ends, start, iterations=3, exponent=EXPONENT))
    volume = deconvolve(views, psf, 3, microscope=SCOPE)
    assert volume.shape == truth.shape
    border = torch.ones(60, 60, dtype=torch.bool)
    border[5:-5, 5:-5] = False
    found, crowded, true = (v[:, border] for v in (volume, gathered, truth))
    assert correlation(found, true) > correlation(crowded, true) + 0.1
    shares = [float(b.mean() / v.mean()) for b, v in ((found, volume), (crowded, gathered))]
    share = float(true.mean() / truth.mean())
    # What is shown is blurred once more, and so is the light from beyond.
    assert shares == [pytest.approx(share, rel=0.08), pytest.approx(1.28 * share, rel=0.1)]


def test_windows_with_margins_give_the_whole(part_of_a_sample, psf, monkeypatch):
    views = part_of_a_sample[1].repeat(1, 2, 3)
    whole = deconvolve(views, psf, 2, microscope=SCOPE)
    planned = []

    def plan(*arguments, **needs):
        planned.extend(plan_windows(*arguments[:3], MemoryBudget(*(int(88e6),) * 2), **needs))
        return planned

    monkeypatch.setattr(volumes_of_the_api, "plan_windows", plan)
    parts = deconvolve(views, psf, 2, microscope=SCOPE)
    assert len(planned) > 1
    assert float((parts - whole).norm()) < 0.005 * float(whole.norm())


def test_each_view_has_its_background():
    views = torch.full((2, 20, 20), 5.0)
    views[1] = 50
    views[:, 10, 10] = 500
    light, pedestal = split_pedestal(views, gain=2.0)
    assert pedestal.background.tolist() == [0, 90]  # above the camera's offset
    assert float(light[1, 0, 0]) == 90
    light, pedestal = split_pedestal(views, background=20.0)
    assert pedestal.background.tolist() == [15, 15]
    assert float(light[0, 0, 0]) == 0


def test_threes_are_spread_over_the_aperture_and_hold_every_view(psf, simulated):
    groups = subsets_of(psf, simulated[1], smooth=True).groups
    assert sorted(c for group in groups for c in group) == list(range(len(SCOPE.views)))
    assert {len(group) for group in groups} <= {2, 3}
    far = [[np.hypot(*SCOPE.view_coordinates[c]) for c in group] for group in groups]
    assert all(group[0] - group[-1] > 1 for group in far)


def test_scanned_light_fields_are_taken_view_by_view():
    scope = presets["nnum13"].with_middle_depths(3)
    operators = ViewOperators(lambda a: None, scope)
    subsets = ViewSubsets(torch.ones(49, 6, 6), operators, (26, 26), scope.oblique_first)
    assert subsets.groups == [[c] for c in scope.oblique_first]
