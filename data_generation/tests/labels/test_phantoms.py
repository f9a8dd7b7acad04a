"""What phantoms are drawn from, and how objects become labels."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from datagen.cli import PhantomObjects
from datagen.labels import phantoms
from datagen.labels.painting import draw_brightness, paint, painted_planes
from datagen.labels.phantoms import MIXES, PhantomSet, draw_object, object_counts

N_DRAWN = 4000


@pytest.fixture
def drawn(monkeypatch):
    """Draw many objects of a mix without making them: lists of what was asked for."""

    def draw(mix):
        bars, solids = [], []
        monkeypatch.setattr(phantoms, "rotated_bar", lambda *a, **k: bars.append((a, k)))
        monkeypatch.setattr(phantoms, "deformed_solid", lambda *a: solids.append(a))
        generator = np.random.default_rng(0)
        for _ in range(N_DRAWN):
            draw_object(MIXES[mix], generator)
        return bars, solids

    return draw


@pytest.mark.parametrize(
    ("mix", "share", "lengths", "sides", "radii"),
    [
        ("mixture", 0.95, (120, 239), (7, 11), (10, 29)),
        ("thin-lines", 0.9, (20, 119), (3, 11), (10, 29)),
        ("solids", 0, None, None, (20, 20)),
        ("deformed-solids", 0, None, None, (5, 14)),
    ],
)
def test_objects_are_drawn_as_described(drawn, mix, share, lengths, sides, radii):
    bars, solids = drawn(mix)
    assert len(bars) / N_DRAWN == pytest.approx(share, abs=0.02)
    if bars:
        found = [a[0] for a, _ in bars]
        assert (min(found), max(found)) == lengths
        assert np.mean(found) == pytest.approx(np.mean(lengths), rel=0.02)
        assert {a[1:3] for a, _ in bars} == {sides}
        assert {k["threshold"] for _, k in bars} == {0.1}
        assert np.std([k["grid"] for _, k in bars]) == pytest.approx(3, rel=0.02)
        assert bars[0][1]["grid"].shape == (5, 3)
    shapes, found, grids = zip(*solids, strict=True)
    assert (min(found), max(found)) == radii
    for shape in ("ball", "octahedron", "cube"):
        assert shapes.count(shape) / len(shapes) == pytest.approx(1 / 3, abs=0.1)
    assert grids[0].shape == (5, 5, 5, 3)
    assert np.std(grids) == pytest.approx(3, rel=0.02)


def test_lines_have_all_orientations(drawn):
    bars, _ = drawn("mixture")
    along = np.array([a[3][:, 0] for a, _ in bars])
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(np.cov(along.T), np.eye(3) / 3, atol=0.02)


def test_the_command_offers_every_mix():
    assert {choice.value for choice in PhantomObjects} == set(MIXES)


def test_brightness_is_log_normal_up_to_1_and_rises():
    brightness = draw_brightness(20_000, np.random.default_rng(0))
    assert (np.diff(brightness) >= 0).all()
    assert 0 < brightness[0] < brightness[-1] == 1
    assert (brightness == 1).mean() == pytest.approx(0.5, abs=0.02)
    below = brightness[brightness < 1]
    # log(brightness) is half a normal distribution of width 0.5.
    assert kstest(below, lambda b: 2 * norm.cdf(np.log(b) / 0.5)).pvalue > 0.01


def test_object_numbers_go_down_in_equal_steps():
    assert object_counts(4, 2500, 1500) == [2500, 2250, 2000, 1750]
    assert object_counts(16, 2500, 1500)[:3] == [2500, 2438, 2375]
    assert object_counts(1, 2500, 1500) == [2500]
    assert object_counts(3, 7, 7) == [7, 7, 7]
    assert object_counts(0, 7, 1) == []


@pytest.mark.parametrize("corner", [(-3, 2, 2), (2, -3, 2), (8, 8, 8), (2, 2, -3), (20, 0, 0)])
def test_objects_are_clipped_at_every_border(corner):
    cube = np.indices((5, 5, 5)).reshape(3, -1)
    labels = np.zeros((10, 10, 10), np.uint16)
    paint(labels, cube, np.array(corner), 7)
    wide = np.zeros((40, 40, 40), bool)
    wide[tuple(slice(c + 10, c + 15) for c in corner)] = True
    np.testing.assert_array_equal(labels == 7, wide[10:20, 10:20, 10:20])


def test_the_brightest_object_wins_and_labels_agree():
    cube = np.indices((6, 6, 6)).reshape(3, -1)
    corners = iter(np.array([(0, 0, 0), (3, 3, 3), (6, 6, 6)]))
    generator = np.random.default_rng(5)
    expected = draw_brightness(3, np.random.default_rng(5))
    planes = painted_planes((12, 12, 12), 3, lambda _: (cube, next(corners)), generator)
    labelx, labelz = (np.stack(label) for label in zip(*planes, strict=True))
    assert labelx.dtype == labelz.dtype == np.float32
    np.testing.assert_array_equal(labelx, labelz > 0)
    assert [labelz[i, i, i] for i in (0, 4, 7)] == expected.tolist()
    assert labelx.sum() == 3 * 6**3 - 2 * 3**3


def test_more_objects_than_16_bits_count():
    voxel = np.zeros((3, 1), int)
    n = 2**16 + 5
    places = iter(np.stack(np.unravel_index(np.arange(n), (2, 200, 200)), axis=1))
    planes = painted_planes(
        (2, 200, 200), n, lambda _: (voxel, next(places)), np.random.default_rng(0)
    )
    assert sum(int(labelx.sum()) for labelx, _ in planes) == n


def phantom(**changes):
    arguments = {"number": 9, "size": (60, 50, 40), "voxel_um": (0.05,) * 3, "seed": 3}
    return PhantomSet(**arguments, **{"counts": (6,) * 9, "objects": "mixture", **changes})


def drawn_labels(phantoms, index):
    return np.stack([np.stack(pair) for pair in phantoms.planes(index)])


def test_corners_are_uniform(monkeypatch):
    voxel = np.zeros((3, 1), int)
    monkeypatch.setattr(phantoms, "draw_object", lambda *_: voxel)
    made = drawn_labels(phantom(counts=(3000,)), 0)[:, 0]
    for axis, n in enumerate(made.shape):
        places = np.nonzero(made)[axis]
        assert (places.min(), places.max()) == (0, n - 1)
        assert places.mean() == pytest.approx((n - 1) / 2, rel=0.05)


def test_a_phantom_depends_on_its_number_and_the_seed_alone():
    alone = drawn_labels(phantom(), 7)
    np.testing.assert_array_equal(drawn_labels(phantom(), 7), alone)
    fewer = phantom(counts=(1, 1, 1, 1, 1, 1, 1, 6))
    np.testing.assert_array_equal(drawn_labels(fewer, 7), alone)
    assert (drawn_labels(phantom(), 6) != alone).any()
    other = PhantomSet(9, (60, 50, 40), (0.05,) * 3, 4, (6,) * 9, "mixture")
    assert (drawn_labels(other, 7) != alone).any()


def test_the_share_of_filled_voxels_grows_with_the_number_of_objects():
    few, many = (drawn_labels(phantom(counts=(n,)), 0)[:, 0].mean() for n in (10, 60))
    assert 0 < few < many < 1
