"""Ellipsoids and curves against closed forms and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import grey_dilation
from skimage.morphology import ball

from datagen.bubtub.shapes import (
    add_copies,
    bezier_curve,
    ellipsoid_offsets,
    stamp_dilated,
    sum_at_voxels,
)

radius = st.floats(0.5, 12)


@given(rz=radius, ry=radius, rx=radius)
def test_a_filled_ellipsoid_holds_its_volume_and_its_mirror_images(rz, ry, rx):
    voxels = ellipsoid_offsets((rz, ry, rx), 0, 1)
    found = {tuple(v) for v in voxels}
    assert len(found) == len(voxels)
    assert {(-z, y, -x) for z, y, x in found} == found
    assert (np.abs(voxels) <= (rz, ry, rx)).all()
    # Between the ellipsoids half a voxel's diagonal smaller and larger.
    half = np.sqrt(3) / 2
    low, high = (
        4 / 3 * np.pi * np.prod(np.maximum(np.array((rz, ry, rx)) + d, 0)) for d in (-half, half)
    )
    assert low <= len(voxels) <= high


def test_a_shell_is_the_difference_of_two_ellipsoids():
    radii = (6.1, 10.0, 10.0)
    shell = {tuple(v) for v in ellipsoid_offsets(radii, 0.9, 1.13)}
    larger = {tuple(v) for v in ellipsoid_offsets(tuple(np.sqrt(1.13) * np.array(radii)), 0, 1)}
    z, y, x = np.transpose(list(larger))
    inside = (z / 6.1) ** 2 + (y / 10) ** 2 + (x / 10) ** 2 < 0.9
    assert shell == {tuple(v) for v in np.transpose([z, y, x])[~inside]}
    assert (0, 0, 0) not in shell
    assert (0, 10, 0) in shell


def test_a_curve_starts_ends_and_bends_as_told():
    start, middle, end = np.array([[0.0, 0, 0], [10, 4, 0], [0, 8, 20]])
    curve = bezier_curve(start, middle, end, 101)
    np.testing.assert_allclose(curve[[0, -1]], [start, end])
    np.testing.assert_allclose(curve[50], (start + 2 * middle + end) / 4)
    np.testing.assert_allclose(np.diff(curve, 3, axis=0), 0, atol=1e-12)  # quadratic


def test_objects_add_up_where_they_meet_and_count_once_on_their_own_voxels():
    one = np.array([[0, 0, 1], [0, 0, 1], [0, 1, 1]])
    other = np.array([[2, 3, 4], [0, 0, 1]])
    voxels, values = sum_at_voxels([one, other], [10.0, 5.5], (3, 4, 5))
    found = {tuple(v): a for v, a in zip(voxels.tolist(), values, strict=True)}
    assert found == {(0, 0, 1): 15.5, (0, 1, 1): 10, (2, 3, 4): 5.5}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_dilation_equals_scipys(size):
    rng = np.random.default_rng(size)
    image = np.zeros((9, 14, 13), np.float32)
    image[rng.random(image.shape) < 0.01] = 1
    image[image > 0] = rng.uniform(1, 500, int(image.sum()))
    assert 5 < np.count_nonzero(image) < 40
    expected = grey_dilation(image, footprint=ball(size), mode="constant")
    found = np.zeros_like(image)
    stamp_dilated(found, np.argwhere(image), image[image > 0], size)
    np.testing.assert_array_equal(found, expected)
    # A part of it, to which voxels outside reach in.
    part = np.zeros((9, 6, 5), np.float32)
    stamp_dilated(part, np.argwhere(image) - (0, 4, 5), image[image > 0], size)
    np.testing.assert_array_equal(part, expected[:, 4:10, 5:10])


def test_copies_are_cut_at_the_border_and_add_up():
    image = np.zeros((3, 5, 5), np.float32)
    cross = np.array([[0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    centres = np.array([[1, 0, 0], [1, 0, 1], [1, 9, 9], [-1, 2, 2]])
    add_copies(image, cross, centres, np.array([10.0, 4, 99, 99]))
    expected = np.zeros_like(image)
    expected[1, 0, :3] = [14, 14, 4]
    expected[1, 1, :2] = [10, 4]
    np.testing.assert_array_equal(image, expected)
