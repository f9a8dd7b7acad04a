"""Folders of numbered items: what is missing, and what is refused."""

import pytest

from datagen.folders.dataset import SETTINGS_NAME, Dataset
from scopekit.errors import UserError
from scopekit.settings import read_yaml

SETTINGS = {"size": (4, 5, 6), "seed": 0}


def dataset(folder, settings=SETTINGS, number=3, item_bytes=10):
    items = [(folder / f"{i:04d}_a.npy", folder / f"{i:04d}_b.npy") for i in range(number)]
    return Dataset(folder, settings, items, ("[0-9]*_[ab].npy",), item_bytes)


@pytest.fixture
def made(tmp_path):
    """A folder with items 0 and 2 whole, and half of item 1."""
    folder = tmp_path / "set"
    assert dataset(folder).open(overwrite=False) == [0, 1, 2]
    for name in ("0000_a", "0000_b", "0001_a", "0002_a", "0002_b"):
        (folder / f"{name}.npy").write_text("mine")
    return folder


def test_the_settings_lie_beside_the_items(made):
    assert read_yaml(made / SETTINGS_NAME) == {"size": [4, 5, 6], "seed": 0}


def test_what_exists_is_named_and_the_rest_is_to_do(made, capsys):
    assert dataset(made).open(overwrite=False) == [1]
    said = capsys.readouterr().err
    assert "0000_b.npy exists" in said
    assert "0002_b.npy exists" in said
    assert "0001" not in said


def test_a_larger_set_of_the_same_settings_goes_on(made):
    assert dataset(made, number=5).open(overwrite=False) == [1, 3, 4]


def test_nothing_missing_is_an_error(made):
    (made / "0001_b.npy").write_text("mine")
    whole = dataset(made)
    with pytest.raises(UserError, match=r"0000_b.npy exists \(as do all 3\).*--overwrite"):
        whole.require_missing(whole.open(overwrite=False))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"size": (4, 5, 6), "seed": 1}, "seed: 0, now 1"),
        ({"size": (4, 5, 6)}, "seed: 0, now None"),
        ({**SETTINGS, "objects": "thin-lines"}, "objects: None, now thin-lines"),
    ],
)
def test_other_settings_are_refused(made, settings, named):
    with pytest.raises(UserError, match=named):
        dataset(made, settings).open(overwrite=False)
    assert read_yaml(made / SETTINGS_NAME) == {"size": [4, 5, 6], "seed": 0}


def test_items_of_unknown_settings_are_refused(made):
    (made / SETTINGS_NAME).unlink()
    with pytest.raises(UserError, match="unknown settings"):
        dataset(made).open(overwrite=False)


def test_overwriting_replaces_all_items_and_nothing_else(made):
    (made / "0009_a.npy").write_text("of a larger set")
    (made / "notes.txt").write_text("mine")
    other = {**SETTINGS, "seed": 1}
    assert dataset(made, other).open(overwrite=True) == [0, 1, 2]
    assert sorted(p.name for p in made.iterdir()) == [SETTINGS_NAME, "notes.txt"]
    assert read_yaml(made / SETTINGS_NAME)["seed"] == 1


def test_a_disk_too_small_is_told_first_and_nothing_is_removed(made):
    before = sorted(made.iterdir())
    for overwrite in (False, True):
        with pytest.raises(UserError, match="GB are needed"):
            dataset(made, item_bytes=10**18).open(overwrite=overwrite)
    assert sorted(made.iterdir()) == before
