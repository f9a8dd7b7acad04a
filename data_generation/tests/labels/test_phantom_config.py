"""The configuration of phantoms: published files, names, and what is wrong with others."""

import json
import sys

import pytest

from datagen.labels import making as label_folders
from datagen.labels.phantom_config import (
    SECTION,
    read_simulation_config,
    read_voxel_um,
)

VALID = {
    "dataset_name": "_small",
    "train_num": 3,
    "valid_num": 2,
    "image_size": [40, 50, 60],
    "train_object_num_min": 2,
    "train_object_num_max": 8,
    "valid_object_num_min": 1,
    "valid_object_num_max": 3,
}


@pytest.fixture
def write(tmp_path):
    """Write a configuration whose section has these changes; ``None`` leaves a key out."""

    def config(**changes):
        section = {k: v for k, v in {**VALID, **changes}.items() if v is not None}
        path = tmp_path / "model.json"
        path.write_text(json.dumps({"params": {"scale": 10}, SECTION: section}))
        return path

    return config


@pytest.fixture
def asked(monkeypatch):
    """Stand in for the making of volumes: the arguments of every call."""
    calls = []
    monkeypatch.setattr(label_folders, "make_label_set", lambda *a, **k: calls.append((a, k)))
    return calls


def test_the_published_configuration_drives_it_unchanged(datagen, reference, tmp_path, asked):
    config = reference / "data" / "published" / "JNet_beads.json"
    outcome = datagen("phantoms", config, "--out", tmp_path, "--jobs", 2)
    assert (outcome.code, outcome.err) == (0, "")
    (((phantoms, folder), options),) = asked
    assert folder == tmp_path / "_var_num_realisticdata3"
    assert options == {"jobs": 2, "overwrite": False}
    assert (phantoms.number, phantoms.size, phantoms.seed) == (20, (1200, 500, 500), 0)
    assert phantoms.objects == "mixture"
    assert phantoms.voxel_um == pytest.approx((0.05, 0.05, 0.05))
    assert [phantoms.counts[i] for i in (0, 1, 15)] == [2500, 2438, 1563]
    assert phantoms.counts[16:] == (2500, 2250, 2000, 1750)


def test_the_voxel_size_is_that_of_the_result(tmp_path, write):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"params": {"res_axial": 0.8, "scale": 4, "res_lateral": 0.1}}))
    assert read_voxel_um(path) == pytest.approx((0.2, 0.1, 0.1))
    assert read_voxel_um(write()) == (0.05, 0.05, 0.05)


def test_a_bare_name_is_looked_up_among_the_experiments(
    datagen, tmp_path, write, asked, monkeypatch
):
    folder = tmp_path / "experiments" / "configs"
    folder.mkdir(parents=True)
    write().rename(folder / "JNet_x.json")
    monkeypatch.chdir(tmp_path)
    assert datagen("phantoms", "JNet_x", "--out", "data").code == 0
    assert asked[0][0][1].name == "_small"
    missing = datagen("phantoms", "JNet_y", "--out", "data")
    assert missing.code == 2
    assert "JNet_y: no such file, nor experiments/configs/JNet_y.json" in missing.error


def test_a_configuration_that_ships_with_tenet_is_found(datagen, tmp_path, monkeypatch, asked):
    package = tmp_path / "tenet"
    (package / "shipped").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it is not to be loaded')")
    content = {"simulation_data_generation": VALID | {"dataset_name": "_shipped"}}
    (package / "shipped" / "demo.json").write_text(json.dumps(content))
    monkeypatch.delitem(sys.modules, "tenet", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = datagen("phantoms", "demo", "--out", "data")
    assert done.code == 0, done.error
    assert asked[0][0][1].name == "_shipped"
    missing = datagen("phantoms", "demos", "--out", "data")
    assert "nor one that ships (demo)" in missing.error


def test_keys_with_a_dollar_are_comments(write):
    config = read_simulation_config(write(**{"$train_num": "how many", "a$b": [1]}))
    assert config.train_num == 3
    assert config.image_size == (40, 50, 60)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_num": "16"}, "train_num: '16'; allowed: a whole number, 0 or more"),
        ({"train_num": 2.0}, "train_num: 2.0; allowed: a whole number, 0 or more"),
        ({"valid_num": True}, "valid_num: True; allowed: a whole number"),
        ({"valid_num": -1}, "valid_num: -1; allowed: a whole number, 0 or more"),
        ({"image_size": [40, 50]}, "image_size: [40, 50]; allowed: three whole numbers [Z, Y, X]"),
        ({"image_size": [40, 50, 0]}, "image_size: [40, 50, 0]; allowed: three whole numbers"),
        ({"image_size": 40}, "image_size: 40; allowed: three whole numbers [Z, Y, X]"),
        ({"dataset_name": "../other"}, "dataset_name: '../other'; allowed: a folder name"),
        ({"dataset_name": ""}, "dataset_name: ''; allowed: a folder name"),
        ({"dataset_name": "a/b"}, "dataset_name: 'a/b'; allowed: a folder name"),
        ({"dataset_name": 3}, "dataset_name: 3; allowed: a folder name"),
        ({"train_object_num_min": None}, "train_object_num_min: missing; allowed: a whole number"),
        (
            {"train_object_num_max": 1},
            "train_object_num_max: 1; allowed: a whole number, train_object_num_min or more "
            "(which is 2)",
        ),
        ({"objects": 5}, "objects: 5: unknown key; allowed: dataset_name, train_num"),
    ],
)
def test_a_wrong_key_type_or_value_is_named(datagen, write, tmp_path, changes, told):
    config = write(**changes)
    outcome = datagen("phantoms", config, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert f"{config}: {SECTION}.{told}" in outcome.error
    assert not (tmp_path / "out").exists()


def test_no_phantoms_at_all_is_an_error(datagen, write, tmp_path):
    outcome = datagen("phantoms", write(train_num=0, valid_num=0), "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "train_num and" in outcome.error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "expected an object {...}, found a list"),
        ('{"params": {}}', f"the section {SECTION} is missing"),
        (f'{{"{SECTION}": 3}}', f"{SECTION}: 3; allowed: a section"),
    ],
)
def test_files_without_the_section_are_refused(datagen, tmp_path, text, told):
    config = tmp_path / "broken.json"
    config.write_text(text)
    outcome = datagen("phantoms", config, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert told in outcome.error
    assert str(config) in outcome.error
