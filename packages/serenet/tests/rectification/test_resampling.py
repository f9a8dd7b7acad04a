import math

import numpy as np
import pytest

from serenet.rectification.resampling import (
    flat_field,
    interlace,
    rectify_frame,
    swapped_frames,
)
from serenet.views.scan import SCAN_ORDER

from .small_camera import N_NUM, SHAPE, expected_views, sample


def relative_error(result, truth):
    return np.sqrt(np.mean((result - truth) ** 2)) / truth.std()


def test_views_of_a_turned_lattice_are_recovered(frames, lattice):
    truth, shade = expected_views(sample, lattice)
    views = rectify_frame(frames["raw"], lattice, N_NUM, dark=frames["dark"])
    assert views.dtype == np.float32
    assert views.shape == (81, lattice.rows, lattice.columns)
    assert relative_error(views, truth * shade) < 0.03
    # Rows under a lens are rows of the camera: the transposed views are something else.
    swapped = views.reshape(9, 9, *views.shape[1:]).swapaxes(0, 1).reshape(views.shape)
    assert relative_error(swapped, truth * shade) > 0.3


def test_flat_field_removes_vignetting_but_not_the_views_own_brightness(frames, lattice):
    truth, shade = expected_views(sample, lattice)
    views = rectify_frame(frames["raw"], lattice, N_NUM, frames["radiometry"], frames["dark"])
    assert shade.min() < 0.75
    assert relative_error(views, truth * shade.mean()) < 0.02

    flat = flat_field(frames["radiometry"], lattice, N_NUM, frames["dark"])
    np.testing.assert_allclose(flat.mean(axis=(1, 2)), 1, rtol=1e-4)
    bright = rectify_frame(
        frames["radiometry"], lattice, N_NUM, frames["radiometry"], frames["dark"]
    )
    levels = bright.mean(axis=(1, 2)).reshape(9, 9)
    assert levels[0, 0] < 0.1 * levels[4, 4]  # dark corners stay dark
    assert np.ptp(bright / levels.reshape(-1, 1, 1)) < 1e-4


def test_flat_field_does_not_amplify_what_was_not_lit(lattice):
    light = np.zeros(SHAPE)
    light[100:] = 1000.0  # half of the field is dark
    flat = flat_field(light, lattice, N_NUM)
    assert flat.min() == pytest.approx(0.1)
    np.testing.assert_array_equal(flat_field(np.zeros(SHAPE), lattice, N_NUM), 1)


def test_frames_are_doubted_where_the_flat_one_is_the_uneven_one(frames, lattice):
    raw, flat = frames["raw"], frames["radiometry"]
    assert swapped_frames(raw, flat, lattice) == ""
    assert "are they swapped?" in swapped_frames(flat, raw, lattice)
    assert swapped_frames(flat, flat, lattice) == ""  # homogeneous samples are none
    dim = 100 + (flat - 100) / 40
    noisy = np.random.default_rng(0).poisson(np.clip(dim, 0, None)).astype(float)
    assert swapped_frames(raw, noisy, lattice) == ""


def test_default_number_of_views_is_the_nearest_odd_one(frames, lattice):
    assert rectify_frame(frames["raw"], lattice).shape[0] == 81
    wide = lattice.model_copy(update={"pitch_y": 10.2, "pitch_x": 10.2})
    assert wide.nearest_odd == 11


def test_wrong_arguments(frames, lattice):
    with pytest.raises(ValueError, match="must be odd"):
        rectify_frame(frames["raw"], lattice, 8)
    with pytest.raises(ValueError, match="the lattice is for"):
        rectify_frame(frames["raw"][:-1], lattice)
    with pytest.raises(ValueError, match="differ in size"):
        rectify_frame(frames["raw"], lattice, dark=frames["dark"][:-1])


@pytest.mark.parametrize("order", [SCAN_ORDER, tuple(range(9)), (2, 0, 3, 1)])
def test_interlacing_puts_every_exposure_in_its_place(order):
    side = math.isqrt(len(order))
    views = np.random.default_rng(0).random((len(order), 5, 4, 6), dtype=np.float32)
    merged = interlace(views, order)
    assert merged.shape == (5, 4 * side, 6 * side)
    for t, position in enumerate(order):
        r, c = divmod(position, side)
        np.testing.assert_array_equal(merged[:, r::side, c::side], views[t])


def test_interlacing_refuses_what_is_no_order():
    with pytest.raises(ValueError, match="does not permute"):
        interlace(np.zeros((9, 1, 2, 2), np.float32), (0,) * 9)
    with pytest.raises(ValueError, match="does not permute"):
        interlace(np.zeros((8, 1, 2, 2), np.float32), range(8))
