"""Crops as networks see them: dimmed, with noise."""

import numpy as np
import pytest

from optics import presets
from serenet import build_model
from serenet.training.recipe import CropRecipe, Task
from serenet.training.settings import TrainingSettings


class Flat:
    """Two light fields without structure, 100 counts; an epoch visits each five times."""

    visits = (0, 1) * 5

    def random_origin(self, index, rng):
        return index, 0

    def views(self, index, origin):
        return np.full((3, 60, 60), 100, dtype=np.float32)


@pytest.fixture(scope="module")
def network():
    return build_model("serenet", inChannels=3)


def recipe(network, **settings):
    plain = {"method": "serenet", "optics": "nnum13", "data": {"views": "."}}
    checked = TrainingSettings.model_validate(plain | settings)
    return CropRecipe(network, presets["nnum13"], Task(Flat(), Flat(), checked))


def test_crops_are_dimmed_by_factors_down_to_the_least(network):
    dimmed = recipe(network, brightness=0.2)
    assert dimmed.n_samples == 10
    rng = np.random.default_rng(0)
    drawn = [dimmed.draw(n % 10, rng) for n in range(200)]
    factors = np.array([float(factor) for _, _, factor, _ in drawn])
    assert 0.2 <= factors.min() < 0.22
    assert 0.98 < factors.max() <= 1
    assert all(np.allclose(clean, 100 * factor) for _, _, factor, clean in drawn)
    assert [origin[0] for _, origin, _, _ in drawn[:4]] == [0, 1, 0, 1]


def test_read_noise_has_its_mean_and_variance(network):
    noise = {"variance": 9, "mean": 2}
    clean = Flat().views(0, (0, 0))
    noisy = recipe(network, noise=noise).noisy(clean, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(102, abs=0.1)
    assert noisy.var() == pytest.approx(9, rel=0.05)


def test_shot_noise_is_that_of_one_to_three_times_the_photons_in_four_of_five_crops(network):
    shot = recipe(network, noise={"variance": 0, "photons": [50]})
    clean, rng = Flat().views(0, (0, 0)), np.random.default_rng(0)
    variances = np.array([shot.noisy(clean, rng).var() for _ in range(300)])
    assert (variances > 0).mean() == pytest.approx(0.8, abs=0.07)
    photons = 100**2 / variances[variances > 0]
    assert photons.min() == pytest.approx(50, rel=0.1)
    assert photons.max() == pytest.approx(150, rel=0.1)
