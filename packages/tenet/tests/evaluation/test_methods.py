"""What each method makes of an image, and that the baselines are imaged again too."""

import numpy as np
import pytest
import torch

from tenet.config.files import load_config
from tenet.enhancement.stack import enhance
from tenet.evaluation.baselines import interpolate, microscope_operator, rl_tv
from tenet.evaluation.methods import Methods
from tenet.evaluation.scores import Sample
from tenet.network.jnet import JNet

from .made import random


@pytest.fixture
def model(write_config):
    torch.manual_seed(0)
    return JNet(load_config(write_config(params__bet_z=1.5)).params).eval()


@pytest.fixture
def sample():
    return Sample("cell", 0.2 + 0.5 * random(4, 9, 8), np.ones((16, 9, 8), np.float32))


def unit_range(volume):
    return (volume - volume.min()) / (volume.max() - volume.min())


def test_jnet_is_shown_the_image_in_its_own_scale(model, sample):
    (found,) = Methods(model).apply(sample)
    expected = enhance(model, sample.image, value_range=(0, 1))
    for name in ("structure", "brightness", "reconstruction"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.name, found.method) == ("cell", "tenet")
    assert found.image is sample.image
    assert found.truth is sample.truth
    assert found.voxel_um == pytest.approx((0.2, 0.2, 0.2))


def test_the_baselines(model, sample):
    _, deconvolved, interpolated = Methods(model, True, iterations=4, tv_weight=0.05).apply(sample)
    operator = microscope_operator(model.params, model.image.analytic)
    image = torch.from_numpy(sample.image)
    sharp = rl_tv(image, operator, iterations=4, tv_weight=0.05)
    cases = ((deconvolved, sharp, "RL-TV"), (interpolated, interpolate(image, 4), "interpolation"))
    for found, volume, name in cases:
        assert found.method == name
        assert found.brightness is None
        assert found.truth is sample.truth
        np.testing.assert_allclose(found.structure, unit_range(volume.numpy()), atol=1e-6)
        again = operator.forward(volume).numpy()
        np.testing.assert_allclose(found.reconstruction, again, atol=1e-6)
        assert np.abs(found.reconstruction - sample.image).max() > 1e-3
    for other in ({"iterations": 5}, {"tv_weight": 0.0}):
        changed = {"iterations": 4, "tv_weight": 0.05} | other
        assert not torch.allclose(rl_tv(image, operator, **changed), sharp, atol=1e-5)


def test_progress_goes_to_one_for_each_method(model, sample):
    told = []
    list(Methods(model, True, iterations=2).apply(sample, told.append))
    assert told.count(1.0) == 3
    assert told[-3:] == [0.5, 1.0, 1.0]
