"""Background, percentiles and counts of views."""

import numpy as np
import pytest
import torch

from scopekit.errors import UserError
from serenet.views.brightness import brightness_gain, normalise, subtract_background


@pytest.fixture
def shuffled():
    """The numbers 0 to 999 in any order, (10, 10, 10)."""
    order = np.random.default_rng(0).permutation(1000)
    return torch.from_numpy(order.astype(np.float32)).view(10, 10, 10)


def test_the_background_is_the_tenth_darkest_of_a_thousand(shuffled):
    assert torch.equal(subtract_background(shuffled), (shuffled - 9).clamp(min=0))
    assert torch.equal(subtract_background(shuffled, 500.5), (shuffled - 500.5).clamp(min=0))


@pytest.mark.parametrize("background", [float("nan"), float("inf")])
def test_a_background_that_is_no_number(shuffled, background):
    with pytest.raises(UserError, match="`background="):
        subtract_background(shuffled, background)


def test_percentiles_become_0_and_1(shuffled):
    dim = shuffled / 1e6  # so that the 0.001 matters
    low, high = np.percentile(dim.numpy(), (10, 99.9))
    expected = ((dim - low) / (high - low + 1e-3)).clamp(0, 1)
    torch.testing.assert_close(normalise(dim, 10, 99.9), expected)
    assert float(normalise(shuffled, 10, 99.9).max()) == pytest.approx(1, abs=1e-5)
    assert float(normalise(shuffled, 10, 99.9).min()) == 0


@pytest.mark.parametrize(
    ("peak", "gain"), [(1.0, 500.0), (19.9, 500 / 19.9), (20.0, 1.0), (3000.0, 1.0), (0.0, 1.0)]
)
def test_dim_views_are_lifted_to_counts(peak, gain):
    views = torch.zeros(2, 3, 4)
    views[1, 2, 3] = peak
    assert brightness_gain(views) == pytest.approx(gain)
