"""Beads: their volume, places and table."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from datagen.labels.beads import bead_set, bead_volume_um3, covered_plane, planes_of
from scopekit.errors import UserError


def make(radius_um=1.0, voxel_um="0.05", **changes):
    arguments = {"count": 4, "size": (140, 130, 150), "number": 1, "seed": 2, **changes}
    return bead_set(radius_um, voxel_um, **arguments)


def drawn(beads, index=0):
    pairs = [np.stack(pair) for pair in beads.planes(index)]
    return np.stack(pairs, axis=1)


@pytest.mark.parametrize(
    ("voxel_um", "size"),
    [
        ("0.05", (140, 130, 150)),
        ("0.1", (80, 90, 70)),
        ("0.3,0.1,0.1", (50, 110, 100)),
        ("0.5,0.05,0.08", (40, 170, 120)),
    ],
)
def test_both_labels_have_the_volume_of_every_bead(voxel_um, size):
    beads = make(voxel_um=voxel_um, size=size)
    labelx, labelz = drawn(beads)
    expected = bead_volume_um3(1.0) / math.prod(beads.voxel_um)
    assert bead_volume_um3(1.0) == pytest.approx(4.18879, rel=1e-5)
    places = label(labelz > 0)
    assert places.max() == 4
    for bead in range(1, 5):
        inside = places == bead
        assert labelz[inside].sum(dtype=float) == pytest.approx(expected, rel=1e-3)
        assert labelx[inside].sum(dtype=float) == pytest.approx(expected, rel=2e-3)
    assert np.isin(labelx, (0, 1)).all()
    assert labelz.max() == pytest.approx(1, abs=1e-6)


def test_labelx_is_what_is_covered_by_half():
    labelx, labelz = drawn(make())
    assert (labelx[labelz > 0.55] == 1).all()
    assert (labelx[labelz < 0.45] == 0).all()


def test_border_voxels_hold_the_share_that_is_covered():
    centre, radius, voxel = np.array((1.83, 2.13, 1.97)), 0.71, np.array((0.4, 0.25, 0.3))
    fine = 24
    for z in planes_of(centre, radius, voxel):
        place, share = covered_plane(centre, radius, voxel, z)
        within = (np.arange(fine) + 0.5) / fine - 0.5
        axes = [(z + within) * voxel[0] - centre[0]]
        for s, step, c in zip(place, voxel[1:], centre[1:], strict=True):
            places = np.arange(s.start, s.stop)[:, None] + within
            axes.append(places.ravel() * step - c)
        inside = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= radius**2
        counted = inside.mean(axis=0).reshape(share.shape[0], fine, -1, fine).mean(axis=(1, 3))
        np.testing.assert_allclose(share, counted, atol=0.01)


@given(
    centre=st.tuples(*3 * (st.floats(2, 3),)),
    radius=st.floats(0.3, 1.5),
    voxel=st.tuples(*3 * (st.floats(0.1, 0.3),)),
)
def test_the_covered_volume_is_that_of_a_ball(centre, radius, voxel):
    centre, voxel = np.array(centre), np.array(voxel)
    planes = planes_of(centre, radius, voxel)
    total = sum(covered_plane(centre, radius, voxel, z)[1].sum(dtype=float) for z in planes)
    assert total * voxel.prod() == pytest.approx(bead_volume_um3(radius), rel=2e-3)


def test_the_table_tells_where_the_beads_are(datagen, tmp_path, labels):
    arguments = ("--size", 60, 90, 100, "--voxel-um", "0.1,0.05,0.05", "--count", 3, "--number", 2)
    assert datagen("beads", *arguments, "--out", tmp_path).code == 0
    for index in range(2):
        _, labelz = labels(tmp_path, index)
        with (tmp_path / f"{index:04d}_objects.csv").open() as handle:
            rows = list(csv.DictReader(handle))
        assert list(rows[0]) == ["z_um", "y_um", "x_um", "radius_um"]
        assert {float(row["radius_um"]) for row in rows} == {1.0}
        told = sorted([float(row[f"{a}_um"]) for a in "zyx"] for row in rows)
        found = regionprops(label(labelz > 0), labelz)
        centroids = sorted(
            (r.centroid_weighted * np.array([0.1, 0.05, 0.05])).tolist() for r in found
        )
        np.testing.assert_allclose(centroids, told, atol=1e-3)
        assert len(rows) == 3


def test_beads_touch_neither_each_other_nor_the_border():
    beads = make(radius_um=0.4, count=25, size=(90, 80, 85))
    _, labelz = drawn(beads)
    assert label(labelz > 0, connectivity=3).max() == 25
    inner = labelz[1:-1, 1:-1, 1:-1]
    assert np.count_nonzero(labelz) == np.count_nonzero(inner) > 0


def test_a_bead_with_hardly_any_room_lies_in_the_middle():
    """Both borders are as far away, counted from the middle of the outermost voxels."""
    (centre,) = make(1.0, "0.2", count=1, size=(17, 18, 19)).centres_um(0) / 0.2
    room = np.array([17, 18, 19]) - 2 * (1 / 0.2 + 2 * math.sqrt(3))
    assert (room > 0).all()
    assert (np.abs(centre - np.array([8, 8.5, 9])) <= room / 2).all()


def test_places_are_between_voxels():
    centres = np.concatenate([make(seed=seed).centres_um(0) for seed in range(20)])
    fractions = centres / 0.05 % 1
    assert fractions.std(axis=0) == pytest.approx(np.full(3, 1 / np.sqrt(12)), abs=0.04)


@pytest.mark.parametrize("changes", [{"count": 100}, {"size": (20, 130, 150)}])
def test_no_room_is_an_error(changes):
    with pytest.raises(UserError, match=r"found room in .* um; give a smaller `count`"):
        make(**changes)


@pytest.mark.parametrize(
    ("radius", "voxel", "named"),
    [
        (0.0, "0.05", "`radius_um=0`: give at least a voxel, 0.05 um"),
        (0.2, "0.3,0.1,0.1", "`radius_um=0.2`"),
        (math.nan, "0.05", "`radius_um=nan`"),
        (math.inf, "0.05", "`radius_um=inf`"),
        (1.0, "0", "`voxel_um=0`: give one length above 0 in um, or Z,Y,X"),
        (1.0, "0.1,0.1", "`voxel_um="),
        (1.0, "small", "`voxel_um=small`"),
        (1.0, "nan", "`voxel_um="),
        (1.0, "0.05,-0.05,0.05", "`voxel_um="),
    ],
)
def test_no_lengths_are_refused(radius, voxel, named):
    with pytest.raises(UserError, match=named):
        make(radius, voxel)
