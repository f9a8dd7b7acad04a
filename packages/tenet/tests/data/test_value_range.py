"""Which recorded values are 0 and 1, and stacks for which nothing can be."""

import math

import pytest

from scopekit.errors import UserError
from tenet.data.value_range import require_range, scale_of


def test_what_was_asked_for_comes_first_then_the_camera_then_the_stack():
    assert scale_of("a", 3.0, 9.0) == (3, 9)
    assert scale_of("a", 3.0, 9.0, None, 4095.0) == (0, 4095)
    assert scale_of("a", 3.0, 9.0, (1, 5), 4095.0) == (1, 5)
    assert scale_of("a", 3.0, 9.0, (8.9, 50)) == (8.9, 50)


@pytest.mark.parametrize("full_scale", [None, 4095.0])
@pytest.mark.parametrize("wanted", [(9.0, 20.0), (-5.0, 3.0)])
def test_a_range_that_holds_no_value_of_the_stack_is_told(full_scale, wanted):
    message = r"a: its values, 3 to 9, all lie outside `value_range=.*`; give values among them"
    with pytest.raises(UserError, match=message):
        scale_of("a", 3.0, 9.0, wanted, full_scale)


@pytest.mark.parametrize(
    ("least", "largest", "message"),
    [
        (math.nan, math.nan, "NaN or infinite"),
        (0.0, math.inf, "NaN or infinite"),
        (-math.inf, 1.0, "NaN or infinite"),
        (7.0, 7.0, "constant, every voxel is 7"),
    ],
)
@pytest.mark.parametrize("wanted", [None, (0.0, 10.0)])
def test_stacks_without_values_are_told(least, largest, message, wanted):
    with pytest.raises(UserError, match=f"a: {message}"):
        scale_of("a", least, largest, wanted)


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_ranges_that_are_none_are_told(wrong):
    with pytest.raises(UserError, match=r"`value_range=.*`: give the lower value first"):
        require_range(wrong)
    require_range(None)
