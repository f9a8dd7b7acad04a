"""Scores of results whose truth is known."""

import math

import numpy as np
import pytest

from scopekit.errors import UserError
from tenet.evaluation.kinds import (
    Beads,
    Microglia,
    Simulation,
    best_threshold,
    reconstruction_mse,
)
from tenet.evaluation.scores import Record, Result
from tenet.objects import labelling
from tenet.objects.found import Search, find_beads, find_objects
from tenet.objects.selection import label_objects


def ball(shape, centre, radius):
    axes = [np.arange(n) - c for n, c in zip(shape, centre, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return (z**2 + y**2 + x**2 <= radius**2).astype(np.float32)


def result(structure, *, image=None, reconstruction=None, truth=None, name="image"):
    image = np.ones((2, 2, 2), np.float32) if image is None else image
    reconstruction = image if reconstruction is None else reconstruction
    return Result(name, "tenet", image, structure, None, reconstruction, (0.1, 0.1, 0.1), truth)


def measured(kind, one, threshold=0.5):
    return kind.measure(one, threshold, kind.errors(one))


def search(volume):
    numbers = np.empty(volume.shape, np.int32)
    return Search(volume, 0.5, None, (1.0, 1.0, 1.0), numbers, math.inf)


def beads_of(volume):
    """Return the beads, in voxels."""
    return find_beads(search(volume))[0]


@pytest.mark.parametrize("slab_voxels", [1, 10**7])
def test_beads_are_neither_specks_nor_cut_by_the_border(monkeypatch, slab_voxels):
    monkeypatch.setattr(labelling, "_SLAB_VOXELS", slab_voxels)
    volume = ball((30, 30, 60), (15, 15, 15), 8) + ball((30, 30, 60), (15, 15, 45), 7)
    volume[2, 2, 2] = 1
    volume += ball((30, 30, 60), (15, 29, 30), 4)
    first, second = beads_of(volume)
    assert (first.label, second.label) == (1, 2)
    assert first.centroid_um == pytest.approx((15, 15, 15))
    assert second.centroid_um == pytest.approx((15, 15, 45))
    # The speck is too small for an object, too.
    assert label_objects(volume, 0.5).max() == len(find_objects(search(volume))) == 3
    assert find_beads(search(np.zeros((4, 4, 4)))) == ([], 0)
    assert find_beads(search(np.ones((4, 4, 4)))) == ([], 1)  # no bead, all is background


def test_a_bead_alone_counts_though_it_touches_the_border():
    """As published, where a region of interest is cut out for each bead."""
    alone = ball((30, 30, 30), (15, 15, 27), 8)
    alone[2, 2, 2] = 1  # a speck is no second object
    assert beads_of(alone)[0].volume_um3 == alone.sum() - 1
    kind = Beads(true_volume_um3=2.0)
    record = measured(kind, result(alone))
    (bead,) = record.objects
    assert bead.touches_border
    assert bead.volume_um3 == pytest.approx((alone.sum() - 1) * 1e-3)
    two = alone + ball((30, 30, 30), (15, 15, 10), 7)
    (inner,) = beads_of(two)
    assert inner.volume_um3 == ball((30, 30, 30), (15, 15, 10), 7).sum()


def test_corners_that_touch_are_of_one_object():
    volume = np.zeros((12, 12, 12))
    volume[2:5, 2:5, 2:5] = volume[5:8, 5:8, 5:8] = 1
    assert len(beads_of(volume)) == 1


def test_beads():
    one, two = (ball((40, 40, 40), (20, 20, 20), radius) for radius in (10, 12))
    kind = Beads(true_volume_um3=4.5)
    summary = kind.summarise([measured(kind, result(one)), measured(kind, result(two))])
    volumes = [float(volume.sum()) * 1e-3 for volume in (one, two)]
    assert summary["volume_um3"].number == 2
    assert summary["volume_um3"].mean == pytest.approx(np.mean(volumes))
    assert summary["volume_um3"].sd == pytest.approx(np.std(volumes, ddof=1))
    assert summary["sphericity"].mean == pytest.approx(1, abs=0.015)
    assert summary["z_xy_ratio"].mean == pytest.approx(1, abs=0.02)
    assert kind.miss(summary) == pytest.approx(abs(np.mean(volumes) - 4.5))
    assert Beads().miss(summary) is None
    assert kind.miss(kind.summarise([measured(kind, result(one), 2.0)])) == math.inf


def test_simulation():
    truth = np.zeros((8, 8, 8), np.float32)
    truth[:4] = 1
    found = np.zeros_like(truth)
    found[2:6] = 0.75
    record = measured(Simulation(), result(found, truth=truth))
    assert record.values["iou"] == pytest.approx(2 / 6)
    assert record.values["volume_error"] == pytest.approx(0)
    assert record.values["mse"] == pytest.approx((2 + 2 * 0.25**2 + 2 * 0.75**2) / 8)
    # Certain and wrong costs 100 by the convention of the library.
    expected = (2 * 100 - 2 * math.log(0.75) - 2 * math.log(0.25)) / 8
    assert record.values["bce"] == pytest.approx(expected, rel=1e-4)
    above = measured(Simulation(), result(found, truth=truth), 0.8).values
    assert (above["iou"], above["volume_error"]) == (0, -1)
    with pytest.raises(UserError, match="image: its true structure is not known"):
        Simulation().errors(result(found))


def test_an_empty_truth_leaves_the_mean_of_the_others():
    full, empty = np.ones((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    found = full.copy()
    found[0] = 0
    kind = Simulation()
    records = [measured(kind, result(found, truth=truth)) for truth in (full, empty)]
    assert math.isnan(records[1].values["volume_error"])
    summary = kind.summarise(records)
    assert summary["volume_error"].mean == pytest.approx(-0.25)
    assert (summary["volume_error"].number, summary["iou"].number) == (1, 2)
    nothing = kind.summarise(records[1:])["volume_error"]
    assert nothing.number == 0
    assert math.isnan(nothing.mean)


def test_microglia():
    volume = np.zeros((20, 20, 20), np.float32)
    volume[5:10, 5:10, 5:10] = volume[14:18, 2:6, 2:6] = 1
    record = measured(Microglia(), result(volume))
    assert record.values["objects"] == 2
    assert record.values["segmented_fraction"] == pytest.approx((125 + 64) / 8000)
    assert [one.volume_um3 for one in record.objects] == pytest.approx([0.125, 0.064])
    assert Microglia().miss(Microglia().summarise([record])) is None


def test_gain_and_offset_are_fitted():
    rng = np.random.default_rng(0)
    reconstruction = rng.random((3, 4, 5)).astype(np.float32)
    image = 2 * reconstruction + 0.3
    assert reconstruction_mse(result(image, image=image, reconstruction=reconstruction)) < 1e-10
    noisy = image + 0.1 * rng.standard_normal(image.shape).astype(np.float32)
    slope, offset = np.polyfit(reconstruction.ravel(), noisy.ravel(), 1)
    expected = np.square(slope * reconstruction + offset - noisy).mean()
    one = result(image, image=noisy, reconstruction=reconstruction)
    assert reconstruction_mse(one) == pytest.approx(expected, rel=1e-4)


def test_the_best_threshold():
    kind = Simulation()

    def summary(iou):
        return kind.summarise([Record("a", "tenet", 0, {"iou": iou})])

    overlaps = {0.1: 0.2, 0.5: 0.7, 0.6: 0.7, 0.9: 0.3}
    assert best_threshold(kind, {t: summary(iou) for t, iou in overlaps.items()}) == 0.5
    assert best_threshold(Microglia(), {0.5: {}}) is None
    assert best_threshold(Beads(1.0), {0.5: Beads().summarise([])}) is None
