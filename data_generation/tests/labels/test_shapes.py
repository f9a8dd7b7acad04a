"""Single objects: their deformation, rotation, size and place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates, rotate, zoom
from scipy.spatial.transform import Rotation
from skimage.morphology import ball, octahedron

from datagen.labels.shapes import (
    SOLIDS,
    deformed_solid,
    displacement_field,
    enclosing_box,
    rotated_bar,
    rotated_box,
)

UNROTATED = np.eye(3)
NOT_DEFORMED = np.zeros((5, 5, 5, 3))


def random_rotation(seed):
    return Rotation.random(random_state=seed).as_matrix()


def as_mask(voxels, shape):
    mask = np.zeros(shape, bool)
    mask[tuple(voxels)] = True
    return mask


@pytest.mark.parametrize("size", [5, 21, 60])
def test_the_field_is_the_cubic_spline_of_the_grid(size):
    grid = np.random.default_rng(0).standard_normal((5, 5, 5, 3))
    field = displacement_field(grid, size)
    assert field.shape == (3, size, size, size)
    for k in range(3):
        expected = zoom(grid[..., k], size / 5, order=3, mode="mirror")
        np.testing.assert_allclose(field[k], expected, atol=1e-10)


@pytest.mark.parametrize("radius", [5, 20])
@pytest.mark.parametrize("shape", SOLIDS)
def test_solids_without_deformation_are_whole(shape, radius):
    n = 2 * radius + 1
    expected = {"ball": ball(radius), "octahedron": octahedron(radius), "cube": np.ones((n, n, n))}
    voxels = deformed_solid(shape, radius, NOT_DEFORMED)
    np.testing.assert_array_equal(as_mask(voxels, (n, n, n)), expected[shape] > 0)


def test_solids_move_against_a_constant_displacement():
    moved = deformed_solid("ball", 6, NOT_DEFORMED + np.array((3, 0, -2)))
    still = deformed_solid("ball", 6, NOT_DEFORMED)
    np.testing.assert_array_equal(moved, still + np.array([[-3], [0], [2]]))


@pytest.mark.parametrize("shape", SOLIDS)
def test_deformed_solids_keep_their_volume_in_the_mean(shape):
    generator = np.random.default_rng(1)
    whole = deformed_solid(shape, 15, NOT_DEFORMED).shape[1]
    volumes = [
        deformed_solid(shape, 15, 3 * generator.standard_normal((5, 5, 5, 3))).shape[1]
        for _ in range(20)
    ]
    assert np.mean(volumes) == pytest.approx(whole, rel=0.1)
    assert np.std(volumes) > 0.02 * whole


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bars_along_an_axis_are_exact(axis):
    rotation = np.roll(UNROTATED, axis, axis=0)
    voxels = rotated_bar(60, 7, 11, rotation, threshold=0.1)
    assert voxels.shape[1] == 60 * 7 * 7
    extent = np.ptp(voxels, axis=1) + 1
    assert extent.tolist() == np.roll([60, 7, 7], axis).tolist()
    assert voxels.min(axis=1).tolist() == np.roll([0, 2, 2], axis).tolist()


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(20, 239))
def test_rotated_bars_have_direction_length_and_thickness(seed, length):
    rotation = random_rotation(seed)
    voxels = rotated_bar(length, 7, 11, rotation, threshold=0.5)
    variances, axes = np.linalg.eigh(np.cov(voxels))
    assert abs(axes[:, 2] @ rotation[:, 0]) > np.cos(np.deg2rad(2))
    # The variance of a uniform bar is its side squared / 12.
    np.testing.assert_allclose(np.sqrt(12 * variances), [7, 7, length], rtol=0.08)


@given(seed=st.integers(0, 2**32 - 1))
def test_voxels_of_a_rotated_box_are_those_whose_centres_are_inside(seed):
    rotation, size = random_rotation(seed), np.array((12, 5, 7))
    box = enclosing_box(size, rotation)
    places = rotation.T @ (np.indices(box).reshape(3, -1) - (box[:, None] - 1) / 2)
    away = np.abs(places).reshape(3, *box) - size[:, None, None, None] / 2
    mask = as_mask(rotated_box(size, rotation), box)
    assert mask[(away < -1e-9).all(axis=0)].all()
    assert not mask[(away > 1e-9).any(axis=0)].any()


def test_bars_move_against_a_constant_displacement_and_are_cut_at_their_section():
    grid = np.zeros((5, 3))
    still = rotated_bar(40, 7, 11, UNROTATED, threshold=0.1, grid=grid)
    assert still.shape[1] == 40 * 7 * 7
    moved = rotated_bar(40, 7, 11, UNROTATED, threshold=0.1, grid=grid + np.array((0, -2, 1)))
    np.testing.assert_array_equal(moved, still + np.array([[0], [2], [-1]]))
    cut = rotated_bar(40, 7, 11, UNROTATED, threshold=0.1, grid=grid + np.array((0, -5, 0)))
    assert cut.shape[1] == 40 * 4 * 7
    gone = rotated_bar(40, 7, 11, UNROTATED, threshold=0.1, grid=grid + np.array((0, 20, 0)))
    assert gone.shape == (3, 0)


@pytest.mark.parametrize("seed", range(4))
def test_one_interpolation_is_as_good_as_deforming_first_and_rotating_then(seed):
    generator = np.random.default_rng(seed)
    angles, grid = generator.uniform(0, 2 * np.pi, 3), 3 * generator.standard_normal((5, 3))
    rotation = Rotation.from_euler("xyz", angles).as_matrix()
    size = (100, 11, 11)
    bar = np.zeros(size)
    bar[:, 2:9, 2:9] = 1
    along = zoom(grid, (20, 1), order=3, mode="mirror")
    places = np.indices(size) + along.T[:, :, None, None]

    deformed = map_coordinates(bar, places, order=1, mode="grid-constant")
    box = enclosing_box(np.array(size), rotation)
    turned = rotation.T @ (np.indices(box).reshape(3, -1) - (box[:, None] - 1) / 2)
    turned += (np.array(size)[:, None] - 1) / 2
    twice = map_coordinates(deformed, turned, order=1, mode="grid-constant").reshape(box) >= 0.5
    once = as_mask(rotated_bar(100, 7, 11, rotation, threshold=0.5, grid=grid), box)
    assert (once & twice).sum() / (once | twice).sum() > 0.93

    # Cubic resampling by deformation and three rotations, one after the other.
    rotated = map_coordinates(bar, places)
    for angle, axes in zip(np.degrees(angles), ((1, 2), (0, 2), (0, 1)), strict=True):
        rotated = rotate(rotated, angle, axes)
    expected = (rotated >= 0.1).sum()
    assert rotated_bar(100, 7, 11, rotation, threshold=0.1, grid=grid).shape[1] == pytest.approx(
        expected, rel=0.06
    )
