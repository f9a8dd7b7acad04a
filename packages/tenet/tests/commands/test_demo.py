"""``tenet demo``, its phantom, and the weights that ship."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from tenet import demo
from tenet.config.files import SHIPPED, load_config
from tenet.data.small_phantom import tubes_and_solids
from tenet.demo import run_demo, scores_of
from tenet.network.weights import load_model


def test_a_phantom_has_structure_and_brightness():
    structure, brightness = tubes_and_solids(3, (40, 50, 60))
    assert structure.shape == brightness.shape == (40, 50, 60)
    assert set(np.unique(structure)) == {0, 1}
    assert ((brightness > 0) == (structure > 0)).all()
    assert brightness.max() <= 1
    assert 0.02 < structure.mean() < 0.5
    again, _ = tubes_and_solids(3, (40, 50, 60))
    other, _ = tubes_and_solids(4, (40, 50, 60))
    assert np.array_equal(structure, again)
    assert not np.array_equal(structure, other)


def test_scores():
    truth = np.zeros((4, 4, 4), np.float32)
    truth[:2] = 1
    found = np.zeros_like(truth)
    found[1:3] = 0.7
    assert scores_of(found, truth, 0.5) == pytest.approx({"iou": 1 / 3, "volume_error": 0})
    found[3] = 0.7
    assert scores_of(found, truth, 0.5)["volume_error"] == pytest.approx(0.5)


def test_the_weights_that_ship_load_and_are_small():
    path = SHIPPED / "demo_pretrain.pt"
    assert path.stat().st_size < 3e6
    load_model(path, load_config("demo").params)


def test_the_demo_enhances(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_SHAPE", (64, 64, 64))
    scores = run_demo(tmp_path, torch.device("cpu"), seed=1, overwrite=False)
    assert scores["enhanced"]["iou"] > scores["image"]["iou"]
    assert abs(scores["enhanced"]["volume_error"]) < abs(scores["image"]["volume_error"])
    assert tifffile.imread(tmp_path / "image.tif").shape == (16, 64, 64)
    assert tifffile.imread(tmp_path / "structure.tif").shape == (64, 64, 64)
    for name, step in (("image", 0.8), ("structure", 0.2), ("truth", 0.2), ("brightness", 0.2)):
        assert open_stack(tmp_path / f"{name}.tif").voxel_um == pytest.approx((step, 0.2, 0.2))
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    kept = yaml.safe_load((tmp_path / "demo.yaml").read_text())
    assert kept["enhanced"] == pytest.approx(scores["enhanced"])
    monkeypatch.setattr(demo, "tubes_and_solids", None)  # told before anything is computed
    with pytest.raises(UserError, match=r"truth\.tif exists: add `overwrite=True`.*another `out`"):
        run_demo(tmp_path, torch.device("cpu"), seed=1, overwrite=False)


def test_the_picture_of_the_demo_shows_what_was_found(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(demo, "_SHAPE", (32, 32, 32))
    monkeypatch.setattr(demo, "save_preview", lambda path, volumes, *_, **__: drawn.update(volumes))
    run_demo(tmp_path, torch.device("cpu"), seed=1, overwrite=False)
    names = ("truth", "image", "structure", "brightness")
    made = {name: tifffile.imread(tmp_path / f"{name}.tif") for name in names}
    np.testing.assert_allclose(drawn["enhanced"], made["structure"] * made["brightness"], atol=1e-6)
    assert np.array_equal(drawn["truth"] > 0, made["truth"] > 0)
    assert drawn["image"].shape == (32, 32, 32)
    coarse = drawn["image"].reshape(8, 4, 32, 32).mean(axis=1)
    assert np.corrcoef(coarse.ravel(), made["image"].ravel())[0, 1] > 0.95


def test_unknown_weights_list_those_that_ship(tmp_path):
    with pytest.raises(UserError, match=r"no such file; .* that ship: demo_pretrain$"):
        load_model(tmp_path / "nope.pt", "demo")
