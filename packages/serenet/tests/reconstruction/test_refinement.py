"""Physics refinement of a network's volume."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import (
    LightFieldOperator,
    add_camera_noise,
    open_psf,
    phase_space_psf,
    poisson_deviance,
    presets,
    sample_views,
)
from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.images.target import Target
from scopekit.memory import MemoryBudget
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.subsets import ViewSubsets, flat_start
from serenet.deconvolution.windows import plan_windows
from serenet.reconstruction import refinement


def correlation(a, b):
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


@pytest.fixture(scope="module")
def scope():
    """The nnum13 microscope with its 25 central views and 9 planes 1 um apart."""
    whole = presets["nnum13"]
    depths = tuple(float(z) for z in range(-4, 5))
    return whole.with_depths(depths).with_views(whole.views[:25])


@pytest.fixture(scope="module")
def psf(scope):
    return phase_space_psf(scope, size=51)


@pytest.fixture(scope="module")
def truth():
    """Blobs in a volume (9, 104, 91)."""
    generator = np.random.default_rng(0)
    volume = np.zeros((9, 104, 91), np.float32)
    y, x = np.mgrid[:104, :91]
    for _ in range(15):
        row, column = generator.uniform(15, 89), generator.uniform(15, 76)
        blob = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 32)
        volume[generator.integers(0, 9)] += blob
    return torch.from_numpy(volume)


@pytest.fixture(scope="module")
def light_field_of(scope, psf):
    """Make the `ViewSubsets` of a volume's views, with a camera's noise if photons are given."""

    def make(volume, photons=None, read_noise=3.0, model_psf=psf):
        views = LightFieldOperator(psf).forward(volume)
        views = sample_views(views, scope.lateral_scale).clamp(min=0)
        if photons is not None:
            generator = torch.Generator().manual_seed(0)
            views = add_camera_noise(
                views, photons=photons, read_noise=read_noise, generator=generator
            )
        size = (volume.shape[1], volume.shape[2])
        order = scope.oblique_first
        operators = ViewOperators(lambda channel: model_psf[channel : channel + 1], scope)
        return ViewSubsets(views.clamp(min=0), operators, size, order)

    return make


@pytest.fixture
def refine(tmp_path):
    """Refine a copy of a volume, in one window."""

    def call(volume, subsets, n_updates):
        refined = volume.numpy().copy()
        budget = MemoryBudget(10**10, 10**10)
        field = (subsets.views.shape[-2], subsets.views.shape[-1])
        windows = plan_windows(field, subsets.microscope, 51, budget, tv=False)
        done = refinement.refine(Target(refined), subsets, windows, n_updates, tmp_path)
        return torch.from_numpy(refined), done

    return call


@pytest.fixture(scope="module")
def network_volume(truth):
    """The truth, blurred along z as a network's result is."""
    padded = torch.cat([truth[:2].flip(0), truth, truth[-2:].flip(0)])
    return 3 * sum(padded[i : i + 9] for i in range(5)) / 5


def test_brings_the_volume_closer_to_the_truth(refine, truth, network_volume, light_field_of):
    subsets = light_field_of(truth, photons=500)
    refined, done = refine(network_volume, subsets, 22)
    before, after = correlation(network_volume, truth), correlation(refined, truth)
    assert after > before + 0.15
    assert done.updates == 22
    assert not done.stopped_early
    assert done.deviance_after < 0.6 * done.deviance_before
    assert (refined >= 0).all()


def test_tells_the_fit_of_views_it_did_not_use(
    refine, truth, network_volume, light_field_of, monkeypatch
):
    subsets = light_field_of(truth, photons=500)
    seen = []

    def spy(estimate, subset, **options):
        seen.append(subset.measured)
        return step(estimate, subset, **options)

    step = refinement.richardson_lucy_step
    monkeypatch.setattr(refinement, "richardson_lucy_step", spy)
    refined, done = refine(network_volume, subsets, 24)
    used = [
        next(a for a in subsets.order if torch.equal(subsets.views[a : a + 1], measured))
        for measured in seen
    ]
    left_out = [a for a in subsets.order if a not in used]
    assert len(left_out) == 3
    # The order starts anew when all others have been used, and leads from oblique to axial views.
    others = [a for a in subsets.microscope.oblique_first if a not in left_out]
    assert used == [*others, *others[:2]]
    fits = [
        poisson_deviance(s.measured, s.operator.forward(refined))
        for s in map(subsets.subset, left_out)
    ]
    assert done.deviance_after == pytest.approx(sum(fits) / 3, rel=1e-5)
    assert f"{done.deviance_before:.4g} -> {done.deviance_after:.4g}" in str(done)


def test_keeps_a_volume_that_noise_would_spoil(refine, truth, light_field_of):
    subsets = light_field_of(truth, photons=5, read_noise=0)
    refined, done = refine(truth, subsets, 44)
    assert done.stopped_early
    assert done.updates == 0
    assert done.deviance_after == done.deviance_before
    assert "stopped: their fit worsened" in str(done)
    assert correlation(refined, truth) == pytest.approx(1)


def test_stops_when_the_psf_is_wrong(refine, truth, psf, light_field_of):
    # Every view's PSF is that of the opposite depth.
    subsets = light_field_of(truth, photons=500, model_psf=psf.flip(1))
    _, done = refine(truth, subsets, 44)
    assert done.stopped_early
    assert done.updates < 44


@pytest.mark.parametrize("brightness", [1e-3, 1.0, 1e4])
def test_the_brightness_of_the_network_does_not_matter(
    refine, truth, network_volume, light_field_of, brightness
):
    subsets = light_field_of(100 * truth)
    expected, _ = refine(network_volume, subsets, 3)
    refined, _ = refine(brightness * network_volume, subsets, 3)
    torch.testing.assert_close(refined, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_brightness_is_that_of_the_data(refine, truth, light_field_of):
    matched, done = refine(7 * truth, light_field_of(truth), 0)
    assert done.updates == 0
    # The views are resized in two ways, which differ a little.
    torch.testing.assert_close(matched, truth, rtol=0.01, atol=1e-4)


def test_an_empty_volume_becomes_flat_and_is_refined(refine, truth, light_field_of):
    subsets = light_field_of(truth)
    flat, _ = refine(torch.zeros_like(truth), subsets, 0)
    assert float(flat.min()) == float(flat.max()) > 0
    torch.testing.assert_close(flat, flat_start(subsets), rtol=0.05, atol=0)
    refined, _ = refine(torch.zeros_like(truth), subsets, 22)
    assert correlation(refined, truth) > 0.7


def test_too_few_views_are_named(refine, truth, light_field_of):
    subsets = light_field_of(truth)
    with pytest.raises(UserError, match="more than 3 views; there are 3"):
        refine(truth, replace(subsets, order=subsets.order[:3]), 5)


def test_the_command_refines_and_tells(
    serenet, tmp_path, weights, small_psf, small_microscope, truth
):
    views = LightFieldOperator(open_psf(small_psf).read()).forward(truth)
    views = sample_views(views, small_microscope.lateral_scale).clamp(min=0)
    source = tmp_path / "views.tif"
    tifffile.imwrite(source, (500 * views / views.max()).numpy())

    def run(*arguments, out):
        common = (source, "--checkpoint", weights["serenet"], "--psf", small_psf)
        outcome = serenet(
            "reconstruct", *common, "--out", tmp_path / out, "--no-preview", *arguments
        )
        assert outcome.code == 0
        volume = open_stack(tmp_path / out / "views_serenet.tif").read()
        return outcome, torch.from_numpy(volume)

    _, plain = run(out="plain")
    outcome, refined = run("--refine", 8, out="refined")
    assert "8 view updates kept; deviance of the views left out" in outcome.err
    record = yaml.safe_load((tmp_path / "refined/views_serenet.yaml").read_text())
    assert record["refine_view_updates"] == 8
    done = record["frames"][0]["refinement"]
    assert done["updates"] == 8
    assert done["windows"] == 1
    assert done["deviance_after"] < 0.2 * done["deviance_before"]
    assert refined.shape == plain.shape
    assert correlation(refined, truth) > correlation(plain, truth) + 0.2
