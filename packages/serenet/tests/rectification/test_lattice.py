import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from scopekit.errors import UserError
from scopekit.settings import read_yaml, write_yaml
from serenet.rectification.lattice import Lattice, find_lattice


def lens_images(shape, steps, offset, diameter=0.85):
    """Discs with soft edges on a lattice, averaged over each camera pixel."""
    frame = np.zeros(shape)
    parts = (-1 / 3, 0, 1 / 3)
    for dy in parts:
        for dx in parts:
            points = np.stack(
                np.meshgrid(np.arange(shape[0]) + dy, np.arange(shape[1]) + dx, indexing="ij"), -1
            )
            lenses = (points - offset) @ np.linalg.inv(steps)
            y, x = np.moveaxis((lenses - np.round(lenses)) @ steps, -1, 0)
            radius = diameter / 2 * np.hypot(*steps[0])
            frame += 1 / (1 + np.exp((np.hypot(y, x) - radius) / 0.5))
    return frame / len(parts) ** 2


def square_steps(pitch, degrees):
    turn = math.radians(degrees)
    return pitch * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])


def vignetting(shape, strength):
    y, x = (np.linspace(-1, 1, n)[:, None] for n in shape)
    return np.exp(-strength * ((y - 0.2) ** 2 + (x.T + 0.1) ** 2))


@settings(deadline=None, max_examples=25)
@given(
    pitch=st.floats(9, 21),
    degrees=st.floats(-2, 2),
    start=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    diameter=st.floats(0.6, 1.0),
    strength=st.floats(0, 0.5),
    noise=st.floats(0, 60),
    seed=st.integers(0, 1000),
)
def test_known_lattices_are_recovered(pitch, degrees, start, diameter, strength, noise, seed):
    generator = np.random.default_rng(seed)
    shape = tuple(int(n) for n in generator.integers(int(15 * pitch), int(20 * pitch), 2))
    steps, offset = square_steps(pitch, degrees), np.array(start) * pitch
    frame = 1000 * vignetting(shape, strength) * lens_images(shape, steps, offset, diameter)
    frame = generator.poisson(frame) + generator.normal(100, noise, shape)
    frame[generator.random(shape) < 5e-4] = 20000  # hot pixels

    lattice = find_lattice(frame)

    assert abs(lattice.pitch_y - pitch) < 0.02
    assert abs(lattice.pitch_x - pitch) < 0.02
    assert abs(lattice.rotation_deg - degrees) < 0.1
    away = (lattice.centres() - offset) @ np.linalg.inv(steps)
    away = (away - np.round(away)) @ steps
    assert np.abs(away).max() < 0.1  # at every lens, the first among them


def test_only_whole_lenses_are_counted():
    lattice = find_lattice(lens_images((205, 305), square_steps(20, 0), np.array([5.0, 9.5])))
    # Rows at 5 and 205 are cut off; columns at 9.5, 29.5, ..., 289.5 fit in exactly.
    assert (lattice.rows, lattice.columns) == (9, 15)
    np.testing.assert_allclose((lattice.offset_y, lattice.offset_x), (25, 9.5), atol=0.02)


@pytest.mark.parametrize("degrees", [-7.0, 4.0])
def test_whole_lenses_of_a_turned_lattice_lie_inside(degrees):
    shape = (260, 340)
    lattice = find_lattice(lens_images(shape, square_steps(11, degrees), np.array([3.0, 4.0])))
    borders = [lattice.centres(u, v) for u in (-0.5, 0.5) for v in (-0.5, 0.5)]
    assert np.min(borders) > -0.5
    assert (np.max(borders, axis=(0, 1, 2)) < np.array(shape) - 0.5).all()
    assert lattice.rows * lattice.columns * 11**2 > 0.6 * math.prod(shape)


def test_yaml_round_trip(tmp_path):
    lattice = find_lattice(lens_images((200, 180), square_steps(13, 1.2), np.array([3.0, 4.0])))
    write_yaml(tmp_path / "lattice.yaml", lattice.model_dump(mode="json"), overwrite=False)
    assert Lattice.model_validate(read_yaml(tmp_path / "lattice.yaml")) == lattice
    assert lattice.nearest_odd == 13


def test_steps_and_centres_follow_their_definition():
    lattice = Lattice(
        frame_shape=(300, 300), rows=3, columns=4, pitch_y=20, pitch_x=21,
        rotation_deg=3, skew_deg=1, offset_y=40, offset_x=50,
    )  # fmt: skip
    row_step, column_step = lattice.steps
    assert math.hypot(*row_step) == pytest.approx(20)
    assert math.hypot(*column_step) == pytest.approx(21)
    # Positive: the columns' direction turns towards +y, the rows' towards -x.
    assert math.degrees(math.atan2(*column_step)) == pytest.approx(2.5)
    assert math.degrees(math.atan2(-row_step[1], row_step[0])) == pytest.approx(3.5)
    np.testing.assert_allclose(
        lattice.centres(0.25, -0.5)[2, 3], (40, 50) + 2.25 * row_step + 2.5 * column_step
    )


def test_a_lattice_outside_its_frame_is_refused():
    with pytest.raises(ValidationError, match="out of its frame"):
        Lattice(
            frame_shape=(30, 30), rows=3, columns=4, pitch_y=20, pitch_x=20,
            rotation_deg=0, skew_deg=0, offset_y=10, offset_x=10,
        )  # fmt: skip


def waves(shape, *frequencies):
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])
    return sum(1 + np.cos(2 * np.pi * (ky * y + kx * x)) for ky, kx in frequencies)


generator = np.random.default_rng(5)
hexagon = [(math.sin(turn) / 12, math.cos(turn) / 12) for turn in np.radians((0, 60, 120))]
square = np.array([3.0, 4.0])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.full((200, 200), 7.0), "no microlens lattice"),
        (generator.normal(100, 5, (200, 200)), "no microlens lattice"),
        (generator.normal(100, 5, (40, 40)), "no microlens lattice"),
        (np.add.outer(np.arange(300.0), np.arange(300.0)), "no microlens lattice"),
        (waves((200, 200), (1 / 12, 0)), "only stripes"),
        (waves((200, 200), *hexagon), "not square: .* at 120.0 degrees|at 60.0 degrees"),
        (waves((200, 200), (1 / 12, 0), (0, 1 / 15)), "not square: pitches of 12.00 and 15.00"),
        (waves((300, 300), (1 / 30, 0.003), (0, 1 / 30)), "not square"),
        (lens_images((100, 300), square_steps(20, 0), square), "only 5.0 x 15.0 microlenses; at"),
        (lens_images((30, 30), square_steps(6, 0), square), "30 x 30 pixels; at least 8 x 8 micro"),
        (lens_images((300, 300), square_steps(14, 20), square), "turned by 20.0 degrees"),
        (np.zeros((9, 50, 50)), "expected one 2D frame"),
    ],
)  # fmt: skip
def test_frames_without_a_usable_lattice(frame, message):
    with pytest.raises(UserError, match=message) as caught:
        find_lattice(frame)
    assert "\n" not in str(caught.value)


def test_a_bent_lattice_is_refused():
    y, x = np.mgrid[:300, :300]
    frame = sum(1 + np.cos(2 * np.pi * (at / 12 + at**2 / 8000)) for at in (y, x))
    with pytest.raises(UserError, match="no regular lattice"):
        find_lattice(frame)


@pytest.fixture(scope="module")
def recorded(reference: Path):
    folder = reference / "data" / "guv"
    bright, dark = (
        tifffile.imread(folder / f"{name}_frame.tif").astype(np.float64)
        for name in ("radiometry", "dark")
    )
    return bright - dark


def test_recorded_frame_against_centroids(recorded):
    lattice = find_lattice(recorded)
    assert abs(lattice.pitch_y - 100 / 6.5) < 0.1
    assert abs(lattice.pitch_x - 100 / 6.5) < 0.1

    # Independent of the lattice: centroids of the lens images, each above 60 % of its own peak.
    labels, n_spots = ndimage.label(recorded > 0.6 * ndimage.maximum_filter(recorded, 17))
    spots = np.arange(1, n_spots + 1)
    areas = ndimage.sum_labels(labels > 0, labels, spots)
    spots = spots[areas > 0.8 * np.median(areas)]
    centroids = np.array(ndimage.center_of_mass(recorded, labels, spots))
    index = np.round((centroids - (10.1, 8.8)) / 15.4)
    whole = (index >= 0).all(axis=1) & (index < (lattice.rows, lattice.columns)).all(axis=1)
    centroids, index = centroids[whole], index[whole]
    assert len(index) == lattice.rows * lattice.columns == 784
    plane = np.column_stack([np.ones(len(index)), index])
    offset, row_step, column_step = np.linalg.lstsq(plane, centroids, rcond=None)[0]
    np.testing.assert_allclose((lattice.offset_y, lattice.offset_x), offset, atol=0.1)
    np.testing.assert_allclose(lattice.steps, [row_step, column_step], atol=0.01)


@pytest.mark.parametrize(
    ("lens", "y", "x"),
    [
        ((0, 0), 10.00, 8.69),
        ((0, 27), 9.33, 424.24),
        ((14, 14), 225.37, 224.68),
        ((27, 0), 426.17, 9.65),
        ((27, 27), 425.43, 425.24),
    ],
)
def test_recorded_frame_against_edges_read_by_hand(recorded, lens, y, x):
    # Line profiles (3 pixels wide) through five lens images fall to 65 % of the plateau at e.g.
    # rows 3.80 and 16.19, columns 2.85 and 14.53 for the first; y and x are the middles.
    assert np.abs(find_lattice(recorded).centres()[lens] - (y, x)).max() < 0.2
