"""Measurements of objects whose volume, surface and shape are known."""

import math

import numpy as np
import pytest
from scipy import ndimage

from scopekit.errors import UserError
from tenet.objects.measurements import measure_objects, surface_area


def ellipsoid(semi_axes_um, voxel_um, offset=(0.0, 0.0, 0.0)):
    """Return the voxels whose centres lie within, the middle off the grid by ``offset`` voxels."""
    axes = []
    for semi_axis, step, shift in zip(semi_axes_um, voxel_um, offset, strict=True):
        reach = math.ceil(semi_axis / step) + 2
        axes.append((np.arange(-reach, reach + 1) - shift) * step / semi_axis)
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return (z**2 + y**2 + x**2 <= 1).astype(np.int32)


def spheroid_area(a, c):
    if c == a:
        return 4 * math.pi * a**2
    if c > a:
        e = math.sqrt(1 - (a / c) ** 2)
        return 2 * math.pi * a**2 * (1 + c / (a * e) * math.asin(e))
    e = math.sqrt(1 - (c / a) ** 2)
    return 2 * math.pi * a**2 * (1 + (1 - e**2) / e * math.atanh(e))


# Ten planes through a ball, off its middle: counting voxels is up to 1.4 % wrong by itself.
@pytest.mark.parametrize(
    ("axial_um", "counting_error"), [(0.05, 0.002), (0.1, 0.005), (0.15, 0.005), (0.2, 0.015)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_ball_of_20_voxels(axial_um, counting_error, seed):
    offset = np.random.default_rng(seed).uniform(-0.5, 0.5, 3)
    voxel_um = (axial_um, 0.05, 0.05)
    (ball,) = measure_objects(ellipsoid((1, 1, 1), voxel_um, offset), voxel_um)
    assert ball.sphericity == pytest.approx(1, abs=0.01)
    assert ball.volume_um3 == pytest.approx(4 / 3 * math.pi, rel=counting_error)
    assert ball.z_xy_ratio == pytest.approx(1, abs=0.03)
    assert ball.surface_um2 == pytest.approx(4 * math.pi, rel=0.01)
    assert not ball.touches_border


@pytest.mark.parametrize("radius", [5, 8, 12, 40])
def test_balls_of_other_sizes_are_balls(radius):
    (ball,) = measure_objects(ellipsoid((radius,) * 3, (1, 1, 1), (0.3, 0.1, -0.4)), (1, 1, 1))
    assert 0.985 < ball.sphericity <= 1
    assert ball.z_xy_ratio == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("ratio", [0.5, 1, 2, 3])
@pytest.mark.parametrize("axial", [1, 2, 4])
def test_spheroids(ratio, axial):
    a = 12 if ratio >= 1 else 24
    voxel = (axial, 1, 1)
    (found,) = measure_objects(ellipsoid((ratio * a, a, a), voxel, (0.3, 0.1, -0.2)), voxel)
    assert found.z_xy_ratio == pytest.approx(ratio, rel=0.025)
    assert found.surface_um2 == pytest.approx(spheroid_area(a, ratio * a), rel=0.015)


def test_the_ratio_does_not_change_with_a_turn_about_the_axis():
    z, y, x = np.mgrid[-15:16, -25:26, -25:26]
    ratios = []
    for angle in (0.0, 0.4, math.pi / 4):
        u, v = math.cos(angle) * y + math.sin(angle) * x, math.cos(angle) * x - math.sin(angle) * y
        long = ((z / 10) ** 2 + (u / 20) ** 2 + (v / 10) ** 2 <= 1).astype(int)
        ratios.append(measure_objects(long, (1, 1, 1))[0].z_xy_ratio)
    assert ratios == pytest.approx([math.sqrt(2 * 100 / 500)] * 3, rel=0.01)


def test_units_scale():
    ball = ellipsoid((7, 7, 7), (1, 1, 1))
    (one,), (ten,) = measure_objects(ball, (1, 1, 1)), measure_objects(ball, (10, 10, 10))
    assert ten.volume_um3 == pytest.approx(1000 * one.volume_um3)
    assert ten.surface_um2 == pytest.approx(100 * one.surface_um2, rel=1e-6)
    assert ten.sphericity == pytest.approx(one.sphericity, rel=1e-6)
    assert ten.z_xy_ratio == pytest.approx(one.z_xy_ratio)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 2), (1, 9, 9), (1, 1, 20), (20, 1, 1), (9, 9, 9)]
)
@pytest.mark.parametrize("axial", [0.3, 1, 4])
def test_the_smallest_and_the_flattest_have_finite_values_and_no_less_surface_than_a_ball(
    shape, axial
):
    (found,) = measure_objects(np.ones(shape, int), (axial, 1, 1))
    assert found.volume_um3 == pytest.approx(math.prod(shape) * axial)
    assert 0.2 < found.sphericity <= 1
    assert 0.01 < found.z_xy_ratio < 100
    assert found.touches_border


def test_a_single_voxel_is_as_thick_as_a_voxel():
    labels = np.zeros((5, 5, 5), int)
    labels[2, 2, 2] = 1
    (found,) = measure_objects(labels, (3.0, 1.0, 1.0))
    assert found.z_xy_ratio == pytest.approx(3)
    assert found.centroid_um == (6.0, 2.0, 2.0)
    assert not found.touches_border


def test_a_branch_of_two_voxels_keeps_its_surface():
    z, y, x = np.mgrid[-14:15, -14:15, -14:70]
    radius = np.hypot(z, y)
    cell = (radius**2 + x**2 <= 100) | ((radius <= 2) & (x > 0) & (x < 60))
    true = 4 * math.pi * 100 + 2 * math.pi * 2 * 50
    assert surface_area(cell, (1, 1, 1)) == pytest.approx(true, rel=0.03)


def test_objects_beside_each_other_are_measured_alone():
    labels = np.zeros((30, 30, 60), np.int32)
    ball = ellipsoid((9, 9, 9), (1, 1, 1))
    labels[2:25, 2:25, 2:25] = ball
    labels[2:25, 2:25, 21:44][ball > 0] = 3  # they touch; there is no 2
    image = labels.astype(np.float32) * 0.25
    first, second = measure_objects(labels, (0.5, 0.5, 0.5), image)
    assert (first.label, second.label) == (1, 3)
    assert first.volume_um3 == pytest.approx(second.volume_um3, rel=0.01)
    assert first.surface_um2 == pytest.approx(second.surface_um2, rel=0.01)
    assert first.centroid_um == pytest.approx((6.5, 6.5, 6.5), abs=0.1)
    assert second.centroid_um == pytest.approx((6.5, 6.5, 16), abs=0.1)
    assert (first.mean_intensity, second.mean_intensity) == (0.25, 0.75)
    assert first == measure_objects(np.where(labels == 1, 1, 0), (0.5, 0.5, 0.5), image)[0]


def test_nothing_and_mistakes():
    assert measure_objects(np.zeros((4, 4, 4), int), (1, 1, 1)) == []
    with pytest.raises(UserError, match=r"image \(3, 4, 4\), labels \(4, 4, 4\)"):
        measure_objects(np.zeros((4, 4, 4), int), (1, 1, 1), np.zeros((3, 4, 4)))


def test_labels_from_scipy():
    volume = np.zeros((6, 20, 20))
    volume[1:3, 2:5, 2:5] = volume[3:5, 10:15, 10:15] = 1
    labels, _ = ndimage.label(volume > 0.5)
    assert [found.volume_um3 for found in measure_objects(labels, (2, 1, 1))] == [36, 100]
