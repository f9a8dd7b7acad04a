"""What the groups hold, and that any part of the field is a part of the whole."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from datagen.bubtub.scenes import (
    CYCLE,
    Field,
    Scene,
    Tubes,
    cubic_resize,
    full_field,
    kind_of,
    make_scene,
)
from datagen.bubtub.volumes import choose_window, draw_volume
from optics import presets

FIELD = full_field(presets["nnum13"])


def middle(*shape):
    return tuple(
        slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(FIELD.shape, shape, strict=True)
    )


def test_the_full_field_is_the_published_one():
    assert FIELD.shape == (101, 1989, 1989)
    assert FIELD.isotropic_depths == 165
    assert full_field(presets["nnum15"]).shape == (101, 2025, 2025)


@pytest.mark.parametrize("n_num", [3, 5, 9, 11, 17, 21])
def test_other_fields_are_near_2000_and_hold_whole_scanned_lenses(n_num):
    field = full_field(presets["nnum13"].model_copy(update={"n_num": n_num}))
    assert field.side % (3 * n_num) == 0
    assert abs(field.side - 2000) <= 1.5 * n_num


def test_the_kinds_of_a_cycle():
    kinds = [kind_of(g) for g in range(1, CYCLE + 1)]
    assert kinds == ["tubes"] * 6 + ["bubbles"] * 3 + ["beads"] * 5 + ["big beads"]
    assert kind_of(16) == "tubes"
    assert kind_of(30) == "big beads"


def test_the_blur_grows_over_every_kind():
    lateral = [make_scene(FIELD, 0, g).sigma[1] for g in (1, 2, 6, 7, 8, 9, 10, 15)]
    assert lateral == pytest.approx([0.5, 1, 3, 0.5, 1, 1.5, 0.5, 3])
    for g in (2, 9, 15):
        z, y, x = make_scene(FIELD, 0, g).sigma
        assert z == y / 2 == x / 2


def test_tubes():
    for g, radius in zip(range(1, 7), (1, 1, 2, 2, 3, 3), strict=True):
        tubes = make_scene(FIELD, 4, g).objects
        assert tubes.radius == radius
        assert tubes.values.min() >= 20
        assert tubes.voxels.min(axis=0) == pytest.approx([0, 100, 100], abs=60)
        assert (tubes.voxels < (165, 1989, 1989)).all()
    # At least a voxel for every step of 100 chords between uniform points, two on diagonals.
    ends = np.random.default_rng(0).uniform(0, (164, 1789, 1789), (2, 10**5, 3))
    chords = 100 * np.linalg.norm(ends[0] - ends[1], axis=1).mean()
    lengths = [len(make_scene(FIELD, seed, 1).objects.voxels) for seed in range(8)]
    assert chords < np.mean(lengths) < np.sqrt(2) * chords


@pytest.mark.parametrize(("g", "count", "diameter"), [(7, 200, 20), (8, 150, 35), (9, 100, 50)])
def test_bubbles(g, count, diameter):
    *single, triples = make_scene(FIELD, 1, g).objects.copies
    centres = np.concatenate([c.centres for c in single])
    values = np.concatenate([c.values for c in single])
    assert len(centres) == count
    assert centres[:, 1:].min() >= 100
    assert centres[:, 1:].max() <= 1889
    assert centres[:, 0].min() >= 16
    assert centres[:, 0].max() <= 85
    np.testing.assert_array_equal(values, np.rint(values))
    assert values.min() >= 20
    assert values.max() <= 220
    filled = sum(len(c.values) for c in single if (c.offsets == 0).all(axis=1).any())
    assert filled == count - -(-count // 3)
    sizes = [c.offsets[:, 2].max() for c in single]
    assert max(sizes) == pytest.approx(np.sqrt(1.13) * (diameter + 4) / 2, abs=1)
    assert min(sizes) == pytest.approx((diameter - 4) / 2, abs=1)
    for hollow, change in zip(single[:9], range(-4, 5), strict=True):
        radius = (diameter + change) / 2
        rho = (np.square(hollow.offsets * (1.638, 1, 1)) / radius**2).sum(axis=1)
        assert 0.9 <= rho.min() < 0.93
        assert 1.1 < rho.max() <= 1.13
    heights = [c.offsets[:, 0].max() for c in single]
    np.testing.assert_allclose(heights, np.array(sizes) / 1.638, atol=1)

    assert triples.centres.shape == (60, 3)
    assert np.abs(triples.centres[:, 0] - 50).max() <= 4
    three = triples.centres.reshape(20, 3, 3)
    apart = np.linalg.norm(three - np.roll(three, 1, axis=1), axis=2)
    np.testing.assert_allclose(apart, np.sqrt(1.13) * diameter, atol=1.5)


@pytest.mark.parametrize(("g", "count"), [(10, 5000), (11, 4000), (14, 1000), (29, 1000)])
def test_beads(g, count):
    copies = make_scene(FIELD, 1, g).objects.copies
    assert [len(c.values) for c in copies] == [count / 5] * 5
    assert [tuple(c.offsets.max(axis=0)) for c in copies] == [
        (0, 1, 1), (1, 2, 2), (1, 3, 3), (2, 4, 4), (2, 5, 5),
    ]  # fmt: skip
    for c in copies:
        assert c.values.min() >= 40
        assert c.values.max() <= 240
        assert c.centres[:, 1:].min() >= 100
        assert c.centres[:, 1:].max() < 1889
    z = np.concatenate([c.centres[:, 0] for c in copies])
    assert (z.min(), z.max()) == (0, 100)


def test_big_beads():
    copies = make_scene(FIELD, 1, 15).objects.copies
    assert sum(len(c.values) for c in copies) == 50
    assert [tuple(c.offsets.max(axis=0)) for c in copies] == [
        (k, 8 * k, 8 * k) for k in range(1, 10)
    ]
    centres = np.concatenate([c.centres for c in copies])
    assert centres.min(axis=0).tolist() >= [30, 150, 150]
    assert centres[:, 0].max() <= 71
    assert centres[:, 1:].max() <= 1839


def test_groups_have_seeds_of_their_own():
    def values(seed, group):
        return make_scene(FIELD, seed, group).objects.copies[0].values

    np.testing.assert_array_equal(values(0, 12), values(0, 12))
    assert (values(0, 12) != values(1, 12)).any()
    assert (values(0, 12) != values(0, 27)).any()


def test_the_resize_keeps_light_and_position():
    matrix = cubic_resize(165, 101).toarray()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    # Every fine plane brings the same light; without antialiasing some would bring none.
    np.testing.assert_allclose(matrix.sum(axis=0)[5:-5], 101 / 165, rtol=0.1)
    line = np.exp(-(((np.arange(165) - 70) / 8) ** 2))
    coarse = matrix @ line
    assert coarse.sum() == pytest.approx(line.sum() * 101 / 165, rel=1e-3)
    position = (coarse @ np.arange(101)) / coarse.sum()
    assert position == pytest.approx((70 + 0.5) * 101 / 165 - 0.5, abs=1e-3)


@pytest.mark.parametrize("group", [1, 6, 9, 10])
def test_strips_and_parts_equal_the_whole(group):
    scene = make_scene(FIELD, 2, group)
    window = choose_window(FIELD, scene, (101, 60, 50))
    whole = draw_volume(FIELD, scene, window)
    assert whole.dtype == np.uint16
    assert whole.shape == (101, 60, 50)
    assert whole.any()
    np.testing.assert_array_equal(draw_volume(FIELD, scene, window, 3, 70_000), whole)
    z, y, x = (axis.start for axis in window)
    part = (slice(z + 30, z + 71), slice(y + 13, y + 40), slice(x + 21, x + 34))
    np.testing.assert_array_equal(draw_volume(FIELD, scene, part), whole[30:71, 13:40, 21:34])


def test_the_drawn_window_is_the_blurred_field():
    field = Field(depths=101, side=40, anisotropy=1.638)
    scene = make_scene(FIELD, 0, 12)
    everything = tuple(slice(0, n) for n in field.shape)
    lonely = Scene(scene.objects.__class__(_moved(scene.objects.copies)), scene.sigma)
    expected = gaussian_filter(lonely.objects.draw(everything), scene.sigma, mode="nearest")
    found = draw_volume(field, lonely, everything)
    np.testing.assert_array_equal(found, np.rint(expected))
    assert found.max() > 10


def _moved(copies):
    """Beads brought into a small field, close to its borders too."""
    return tuple(
        type(c)(
            c.offsets, np.column_stack([c.centres[:, 0], c.centres[:, 1:] % 40])[:3], c.values[:3]
        )
        for c in copies
    )


def test_windows_lie_in_the_middle_or_around_the_nearest_object():
    crowded = make_scene(FIELD, 0, 10)
    assert choose_window(FIELD, crowded, (101, 429, 429)) == middle(101, 429, 429)
    assert choose_window(FIELD, crowded, (41, 1989, 1989)) == middle(41, 1989, 1989)
    far = Scene(Tubes(FIELD, np.array([[0, 1985, 1000]]), np.array([100.0]), 1), (0.25, 0.5, 0.5))
    window = choose_window(FIELD, far, (9, 39, 39))
    assert [axis.start for axis in window] == [0, 1989 - 39, 1000 - 19]
    assert draw_volume(FIELD, far, window).max() > 10
    deep = Scene(Tubes(FIELD, np.array([[130, 900, 900]]), np.array([100.0]), 1), (0.25, 0.5, 0.5))
    window = choose_window(FIELD, deep, (9, 39, 39))
    assert draw_volume(FIELD, deep, window)[4, 19, 19] > 10


@pytest.mark.parametrize("group", [8, 14, 15])
def test_no_small_window_is_empty(group):
    for seed in range(5):
        scene = make_scene(FIELD, seed, group)
        assert draw_volume(FIELD, scene, choose_window(FIELD, scene, (21, 52, 52))).any()
