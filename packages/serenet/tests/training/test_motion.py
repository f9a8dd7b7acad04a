"""How TW-Net learns, and that it removes motion from scenes it has not seen."""

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import convolve

from optics import LightFieldOperator, add_camera_noise, phase_space_psf
from scopekit.training.loop import train
from scopekit.training.processes import World
from scopekit.training.recipe import Loop
from serenet import build_model, correct_motion, load_checkpoint
from serenet.motion.correction import exposures_by_distance
from serenet.simulation.moving_scenes import moving_scene, write_moving_scenes
from serenet.training.motion import MotionCorrection, without_outliers
from serenet.training.motion_views import read_scanned_views
from serenet.training.sections import Data
from serenet.training.settings import TrainingSettings

NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]) / 8


@pytest.fixture(scope="module")
def central(small_microscope):
    """Projection onto the central view."""
    microscope = small_microscope.with_views((small_microscope.central_view,))
    return microscope, LightFieldOperator(phase_space_psf(microscope, size=39))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, central):
    """A folder of moving scenes to learn from."""
    folder = tmp_path_factory.mktemp("moving")
    write_moving_scenes(folder, range(1, 6), *central)
    return folder


def recipe(folder, crop=54, still=False):
    settings = TrainingSettings(
        method="twnet", optics="nnum13", data=Data(views=folder / "views"), crop=crop
    )
    data = read_scanned_views(settings.data, crop)
    held_out = Data(views=folder / "views", volumes=folder / "still" if still else None, last=1)
    torch.manual_seed(0)
    model = build_model("twnet")
    model.lay_out()
    return MotionCorrection(model, data, read_scanned_views(held_out, crop), settings)


def learn(what, steps, rate=2e-3):
    loop = Loop(
        epochs=steps // what.n_samples,
        learning_rate=rate,
        schedule=lambda epoch: 0.5 * (1 + np.cos(np.pi * epoch * what.n_samples / steps)),
        validate_every=10**6,
    )
    train(what, loop, None, World(0, 1, torch.device("cpu")))


@pytest.fixture(scope="module")
def trained(scenes):
    """A network after a few seconds of training."""
    what = recipe(scenes)
    learn(what, 250)
    return what.model


def test_outliers():
    view = np.random.default_rng(0).uniform(50, 100, (14, 11))
    view[5, 5] = 0
    mean = convolve(view, NEIGHBOURS, mode="nearest")
    expected = np.where(np.abs(view - mean) > 0.2 * mean, -1, view)
    found = without_outliers(torch.from_numpy(view)[None], torch.full((1, 14, 11), -1.0))
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    assert 0.1 < (expected == -1).mean() < 0.9


@pytest.mark.parametrize("mask", [0.0, 0.3, 1.0])
def test_the_loss_is_the_definition(scenes, mask):
    what = recipe(scenes)
    samples = [what.sample(n, np.random.default_rng(n)) for n in range(2)]
    (loss,) = what.losses(lambda x: torch.full((2, 1, 54, 54), mask), samples).values()
    squares = []
    for sample in samples:
        x = sample.view.double()
        by_distance = exposures_by_distance(x[None], border="zero")[0]
        mean = torch.from_numpy(convolve(x.numpy(), NEIGHBOURS, mode="nearest"))
        target = torch.where((x - mean).abs() > 0.2 * mean, by_distance[0], x)
        # Both exposures of a distance have the same weight.
        weights = np.array([mask**d for d in range(5)]) / (
            1 + 2 * sum(mask**d for d in range(1, 5))
        )
        mixed = torch.einsum("dyx,d->yx", by_distance, torch.from_numpy(weights))
        squares.append((mask * x + (1 - mask) * mixed - target).square().mean())
    assert float(loss) == pytest.approx(float(torch.stack(squares).mean()), rel=1e-4)


def test_crops(scenes):
    what = recipe(scenes)
    stack = tifffile.imread(scenes / "views" / "scene0003.tif")
    whole = torch.from_numpy(stack / np.quantile(stack, 0.9999)).float().reshape(1, 108, 108)
    low, high = np.quantile(whole, 0.05), np.quantile(whole, 0.99)
    places = whole.unfold(1, 54, 3).unfold(2, 54, 3)[0]
    seen = set()
    for seed in range(40):
        sample = what.sample(2, np.random.default_rng(seed))
        assert sample.source == "scene0003.tif"
        difference = (places - sample.view).abs().amax(dim=(2, 3))
        ((top, left),) = (difference < 1e-5).nonzero().tolist()
        seen |= {top, left}
        bright = ((sample.view - low) / (high - low)).clamp(min=0)
        assert (sample.bright - bright).abs().max() < 1e-4
    assert {0, 18} <= seen


@pytest.mark.parametrize(("speed", "share_left"), [(0.5, 0.65), (1.0, 0.5)])
def test_it_removes_motion_from_an_unseen_scene(trained, central, speed, share_left):
    still, moving = moving_scene(101, [(0.6 * speed, -0.8 * speed)] * 9, *central)
    before, after = (
        float((views - still).square().mean().sqrt())
        for views in (moving, correct_motion(moving, trained))
    )
    assert after < share_left * before


@pytest.mark.parametrize(("speed", "share_left"), [(0.5, 0.6), (1.0, 0.4)])
def test_the_shipped_network_removes_motion(central, speed, share_left):
    still, moving = moving_scene(102, [(0.6 * speed, -0.8 * speed)] * 9, *central)
    corrected = correct_motion(moving, load_checkpoint("demo_twnet"))
    before, after = (float((v - still).square().mean().sqrt()) for v in (moving, corrected))
    assert after < share_left * before


def test_the_shipped_network_passes_a_scene_at_rest_within_its_noise(central):
    still, _ = moving_scene(103, [(0.0, 0.0)] * 9, *central)
    still = still + 0.2 * torch.quantile(still, 0.999)
    generator = torch.Generator().manual_seed(0)
    counts = add_camera_noise(still, photons=500, read_noise=2, generator=generator)
    expected = still * 500 / still.max()
    corrected = correct_motion(counts, load_checkpoint("demo_twnet"))
    noise, error = (float((v - expected).square().mean().sqrt()) for v in (counts, corrected))
    assert error < noise
