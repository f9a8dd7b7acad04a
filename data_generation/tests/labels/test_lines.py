"""Straight lines: their angle, length, width, and that they lie inside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from datagen.labels.lines import draw_line, line_set
from scopekit.errors import UserError

SIZE = (90, 80, 100)


def principal(voxels):
    """Return the direction (z first) and the standard deviations along the principal axes."""
    variances, axes = np.linalg.eigh(np.cov(voxels))
    return axes[:, -1], np.sqrt(variances)


def angle_to_z(voxels):
    return np.degrees(np.arccos(min(1, abs(principal(voxels)[0][0]))))


@given(angle=st.floats(0, 90), seed=st.integers(0, 2**32 - 1))
def test_every_line_has_its_angle_within_a_degree(angle, seed):
    voxels = draw_line(angle, np.random.default_rng(seed))
    assert abs(angle_to_z(voxels) - angle) < 1


@pytest.mark.parametrize("angle", [0, 45, 90])
def test_the_mean_angle_is_exact(angle):
    generator = np.random.default_rng(0)
    angles = [angle_to_z(draw_line(angle, generator)) for _ in range(300)]
    # A line across cannot be off to both sides.
    assert np.mean(angles) == pytest.approx(angle, abs=0.05 if angle < 90 else 0.2)


def test_lengths_widths_and_azimuths_are_as_described():
    generator = np.random.default_rng(1)
    drawn = [draw_line(45, generator) for _ in range(600)]
    found = [principal(voxels) for voxels in drawn]
    lengths = np.array([np.sqrt(12) * sides[-1] for _, sides in found])
    assert lengths.min() == pytest.approx(20, abs=1)
    assert lengths.max() == pytest.approx(39, abs=1)
    assert lengths.mean() == pytest.approx(29.5, abs=0.7)
    sections = np.array([voxels.shape[1] for voxels in drawn]) / lengths
    assert sections.mean() == pytest.approx(9, rel=0.03)
    # Axes have no sign: the doubled azimuth is uniform.
    azimuths = np.array([np.arctan2(axis[2], axis[1]) for axis, _ in found])
    assert abs(np.exp(2j * azimuths).mean()) < 0.12


def test_random_angles_are_uniform_on_the_sphere():
    generator = np.random.default_rng(2)
    axes = np.array([principal(draw_line(None, generator))[0] for _ in range(800)])
    np.testing.assert_allclose(axes.T @ axes / len(axes), np.eye(3) / 3, atol=0.04)
    assert abs(axes[:, 0]).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("angle", ["0", "45", "90"])
def test_lines_on_disk_have_the_angle_and_are_whole(datagen, tmp_path, labels, angle):
    arguments = ("--count", 12, "--size", *SIZE, "--seed", 4, "--out", tmp_path)
    assert datagen("lines", "--angle", angle, *arguments).code == 0
    labelx, labelz = labels(tmp_path)
    assert labelx.shape == SIZE
    np.testing.assert_array_equal(labelx, labelz > 0)
    # Lines that touch are left out: there the pieces of one brightness are not one line.
    found = [r for r in regionprops(label(labelx)) if np.ptp(labelz[tuple(r.coords.T)]) == 0]
    assert len(found) >= 5
    for region in found:
        length = np.sqrt(12) * principal(region.coords.T)[1][-1]
        if 19 < length < 40 and region.area / length < 11:
            assert abs(angle_to_z(region.coords.T) - float(angle)) < 1
    lengths = [np.sqrt(12) * principal(r.coords.T)[1][-1] for r in found]
    assert min(lengths) > 19
    text = (tmp_path / "dataset.yaml").read_text()
    assert f"angle_deg: {float(angle)}" in text


@pytest.mark.parametrize("angle", ["-1", "91", "nan", "steep", ""])
def test_no_angle_is_refused(angle):
    with pytest.raises(UserError, match=r"`angle=.*`: give degrees from 0 to 90, or random"):
        line_set(angle, count=1, size=SIZE, number=1, seed=0)


def test_a_volume_too_small_is_refused(datagen, tmp_path):
    outcome = datagen("lines", "--angle", "random", "--size", 90, 30, 90, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "--size 90 30 90: lines of up to 39 voxels need at least 40" in outcome.error
    assert not (tmp_path / "out").exists()


def test_the_smallest_volume_holds_lines_of_every_direction(datagen, tmp_path, labels):
    arguments = ("--size", 40, 40, 40, "--count", 200, "--out", tmp_path)
    assert datagen("lines", "--angle", "random", *arguments).code == 0
    assert 0.1 < labels(tmp_path)[0].mean() < 0.9
