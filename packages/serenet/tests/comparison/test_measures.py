"""What is measured, and of which part of the volumes."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from scopekit.errors import UserError
from serenet.comparison.measures import Reference


@pytest.fixture
def truth():
    return np.random.default_rng(0).random((9, 20, 24), dtype=np.float32)


def test_gain_and_offset_do_not_matter(truth):
    found = Reference.of(truth, None, (0, 0), None).compare(5 * truth + 3)
    assert found.correlation == pytest.approx(1)
    assert found.psnr_db > 100
    assert found.ssim == pytest.approx(1)
    assert math.isnan(found.lateral_um)


def test_an_error_of_known_size(truth):
    noise = np.random.default_rng(1).normal(0, 0.1, truth.shape).astype(np.float32)
    noise -= noise.mean()
    noise -= (
        (noise * (truth - truth.mean())).sum()
        / (truth - truth.mean()).var()
        / truth.size
        * (truth - truth.mean())
    )
    found = Reference.of(truth, None, (0, 0), None).compare(truth + noise)
    gain = truth.var() / (truth + noise).var()
    rest = gain * (truth + noise) + (1 - gain) * truth.mean() - truth
    span = np.ptp(truth)
    assert found.psnr_db == pytest.approx(20 * np.log10(span / rest.std()), abs=0.01)
    assert 0.5 < found.ssim < 0.99


def test_borders_are_left_out_on_every_side(truth):
    for cut, border in ((np.s_[1:-1], (1, 0)), (np.s_[:, 2:-2, 2:-2], (0, 2))):
        result = np.full_like(truth, 7)
        result[cut] = truth[cut]
        reference = Reference.of(truth, None, border, None)
        assert reference.values.shape == truth[cut].shape
        assert reference.compare(result[reference.window]).correlation == pytest.approx(1)
    with pytest.raises(UserError, match=r"border=5 0.* does not fit"):
        Reference.of(truth, None, (5, 0), None)


def test_the_truth_is_blurred_first(truth):
    blurred = gaussian_filter(truth, (0, 1, 2))
    assert Reference.of(truth, None, (0, 0), (0, 1, 2)).compare(blurred).psnr_db > 100
    assert Reference.of(truth, None, (0, 0), None).compare(blurred).psnr_db < 30
    with pytest.raises(UserError, match=r"blur=-1 0 0.*from 0"):
        Reference.of(truth, None, (0, 0), (-1, 0, 0))
