import math

import pytest
import torch

from optics import (
    LightFieldOperator,
    add_camera_noise,
    phase_space_psf,
    presets,
    psf_shift,
    sample_views,
)
from scopekit.errors import UserError
from scopekit.metrics import correlation
from serenet import load_checkpoint, predao, reconstruct, subtract_background
from serenet.aberrations.correlation import shift_views
from serenet.aberrations.fit import FITTED, aberration_shifts, fit_aberrations
from serenet.networks.shipped import weights_file
from serenet.simulation.scenes import tubes_and_bubbles

PRESET = presets["nnum13"].with_middle_depths(41)
SCALE = PRESET.lateral_scale
INNER = (slice(3, -3), slice(16, -16), slice(16, -16))


def recorded(volume, aberrations):
    """Views (49, 36, 36) of a volume through an aberrated pupil, in photons, with noise."""
    psf = phase_space_psf(PRESET, size=79, aberrations=aberrations)
    clean = sample_views(LightFieldOperator(psf).forward(volume), SCALE).clamp(min=0)
    generator = torch.Generator().manual_seed(0)
    noisy = add_camera_noise(clean, photons=500.0, read_noise=3.0, generator=generator)
    return subtract_background(noisy)


@pytest.fixture(scope="module")
def scene():
    return torch.from_numpy(tubes_and_bubbles(0, PRESET))


@pytest.fixture(scope="module")
def shift():
    return psf_shift(phase_space_psf(PRESET, size=79))


@pytest.fixture(scope="module")
def unaberrated(scene):
    return recorded(scene, None)


@pytest.mark.parametrize(
    "given",
    [
        {"astigmatism": 0.3},
        {"coma_x": 0.2},
        {"oblique_astigmatism": -0.2, "coma_y": 0.15},
    ],
)
def test_aberrations_are_found_and_undone(scene, shift, unaberrated, given):
    views = recorded(scene, given)
    found = fit_aberrations(views, PRESET)
    assert tuple(found) == FITTED
    for name in FITTED:
        # A view averages the wavefront's slope, so that coefficients come out smaller.
        expected = given.get(name, 0.0)
        assert found[name] == pytest.approx(0.9 * expected, abs=0.04), name

    model = load_checkpoint(weights_file("demo"))

    def score(light_field):
        volume = reconstruct(light_field, model, shift, SCALE).clamp(min=0)
        return correlation(scene[INNER].numpy(), volume[INNER].numpy())

    aligned = shift_views(views, aberration_shifts(found, PRESET) / SCALE)
    before, after, best = score(views), score(aligned), score(unaberrated)
    assert best - before > 0.015
    assert after - before > 0.8 * (best - before)
    if "coma" not in "".join(given):  # preDAO leaves the image where coma's tilt has moved it
        without_model = score(predao(views, PRESET.views, PRESET.n_num, SCALE))
        assert without_model - before > 0.5 * (best - before)


def test_no_aberration_is_found_without_one(unaberrated):
    assert max(map(abs, fit_aberrations(unaberrated, PRESET).values())) < 0.03


def test_shifts_are_those_of_the_psf():
    views = (84, 86, 82, 58, 110, 112, 56)
    microscope = PRESET.with_views(views)
    aberrations = {"astigmatism": 0.3, "coma_y": -0.1}
    expected = psf_shift(phase_space_psf(microscope, [0.0], size=121, aberrations=aberrations))[
        :, 0
    ]
    error = aberration_shifts(aberrations, microscope) - expected
    assert error.norm() < 0.25 * expected.norm()
    assert aberration_shifts({}, microscope).tolist() == [[0, 0]] * 7


def test_dark_views_have_no_aberrations():
    assert set(fit_aberrations(torch.zeros(49, 20, 20), PRESET).values()) == {0.0}


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (torch.ones(49, 20), r"give \(A, h, w\)"),
        (torch.ones(48, 20, 20), "48 views; the microscope names 49"),
        (torch.ones(49, 20, 15), "20 x 15 pixels are too small"),
        (torch.full((49, 20, 20), math.inf), "NaN or infinite"),
    ],
)
def test_wrong_views_are_named(views, message):
    with pytest.raises(UserError, match=message):
        fit_aberrations(views, PRESET)


def test_views_of_another_microscope_are_named():
    with pytest.raises(UserError, match="49 views; the microscope names 81"):
        fit_aberrations(torch.ones(49, 20, 20), presets["nnum15"])


def parallel_tubes():
    """Three thick tubes that leave the field, (41, 156, 156)."""
    z, y, x = torch.meshgrid(*(torch.arange(n) for n in (41, 156, 156)), indexing="ij")
    volume = torch.zeros(41, 156, 156)
    for depth, row in ((12, 40), (20, 75), (27, 110)):
        distance = ((z - depth) * 0.2 / 0.122) ** 2 + (y - row - 0.1 * x) ** 2
        volume += 200 * torch.exp(-distance / 30)
    return volume


def test_what_the_scene_does_not_tell_is_left_alone():
    # Astigmatism along parallel tubes looks like their depth.
    found = fit_aberrations(recorded(parallel_tubes(), None), PRESET)
    assert max(map(abs, found.values())) < 0.05


def test_few_depths_suffice():
    thin = PRESET.with_middle_depths(9)
    views = recorded(torch.from_numpy(tubes_and_bubbles(0, PRESET)), {"astigmatism": 0.2})
    found = fit_aberrations(views, thin)
    assert found["astigmatism"] == pytest.approx(0.18, abs=0.05)
