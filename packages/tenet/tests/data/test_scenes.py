"""Random scenes, and crops of them."""

import numpy as np
import pytest

from tenet.config.sections import Params, Scenes
from tenet.data import scenes
from tenet.data.scenes import draw_scene
from tenet.training.scenes import SceneCrops

SHAPE = (48, 40, 44)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_scene_has_structure_and_brightness():
    means = []
    for seed in range(40):
        structure, brightness = draw_scene(rng(seed), SHAPE)
        assert structure.shape == brightness.shape == SHAPE
        assert structure.dtype == brightness.dtype == np.float32
        assert ((brightness > 0) == (structure == 1)).all()
        assert brightness.max() <= 1
        means.append(structure.mean())
    assert 0.005 < np.median(means) < 0.1
    assert max(means) > 3 * np.median(means)  # crowded ones among them


def test_the_seed_decides():
    first, again, other = (draw_scene(rng(seed), SHAPE)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_brightness_is_as_told(monkeypatch):
    monkeypatch.setattr(scenes, "_SPREAD", 0.0)
    levels = [draw_scene(rng(seed), SHAPE, brightness=(0.2, 0.4))[1].max() for seed in range(30)]
    levels = [level for level in levels if level > 0]
    assert min(levels) >= 0.2
    assert max(levels) <= 0.4 + 1e-6
    assert max(levels) > 1.3 * min(levels)


@pytest.mark.parametrize("kind", list(scenes._KINDS))
def test_every_kind_is_drawn_round_whatever_the_voxels(monkeypatch, kind):
    monkeypatch.setattr(scenes, "_KINDS", {kind: (1.0, 30)})
    monkeypatch.setattr(scenes, "_MOST_KINDS", 1)
    fine, coarse = (draw_scene(rng(5), (n, 64, 64), 96 / n)[0] for n in (96, 32))
    assert fine.any()
    # The same lengths: as large a share of the volume, whatever the planes.
    assert coarse.mean() == pytest.approx(fine.mean(), rel=0.15)


def test_a_ball_has_its_volume():
    volume = np.zeros((40, 40, 40), np.float32)
    canvas = scenes._Canvas(volume, np.ones(3), 0.5)
    canvas.ellipsoid(np.full(3, 20.3), np.array([9.0, 6.0, 6.0]), np.eye(3))
    assert (volume > 0).sum() == pytest.approx(4 / 3 * np.pi * 9 * 6 * 6, rel=0.02)
    spans = [np.ptp(axis) + 1 for axis in volume.nonzero()]
    assert spans[0] > 1.4 * spans[1]
    assert spans[1] == spans[2]
    assert set(np.unique(volume)) == {0, 0.5}


PARAMS = Params.model_validate(
    {
        "hidden_channels_list": (4, 8),
        "scale": 4,
        "NA": 0.7,
        "wavelength": 0.9,
        "size_x": 7,
        "size_y": 9,
        "size_z": 24,
        "ns": 1.4,
        "ng0": 1.5,
        "ng": 1.5,
        "ni0": 1.33,
        "ni": 1.33,
        "ti0": 150,
        "tg0": 170,
        "tg": 170,
        "pZ": 0,
        "res_lateral": 0.2,
        "res_axial": 0.8,
    }
)
SCENES = Scenes(cropsize=(16, 16, 16), I=4)


def test_crops_have_a_margin_that_the_light_comes_from():
    crops = SceneCrops(SCENES, PARAMS, 3)
    assert crops.margin == (8, 4, 3)
    drawn = [crops.draw(rng(seed)) for seed in range(30)]
    assert drawn[0].labelx.shape == drawn[0].labelz.shape == (1, 32, 24, 22)
    assert {crop.section for crop in drawn} == {0, 1, 2}
    assert {crop.power for crop in drawn} == {0.5, 1.0}
    for name, (low, high) in (("a", (0.001, 0.1)), ("sigma", (0.001, 0.05))):
        values = [getattr(crop, name) for crop in drawn]
        assert low <= min(values) < 0.01 < max(values) <= high
    empty = [not crop.labelx[:, 8:-8, 4:-4, 3:-3].any() for crop in drawn]
    assert np.mean(empty) < 0.3
