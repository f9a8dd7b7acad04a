"""Two runs into one folder at once, and seeds that are none: told in a line, nothing is changed."""

import pytest

from scopekit.outputs import claimed

LINES = ("lines", "--angle", 45, "--size", 40, 40, 40, "--number", 2)


@pytest.fixture
def commands(tmp_path):
    """Return every command that makes a dataset, into the folder ``out``."""
    bubtub = ("bubtub", "--microscope", "nnum13", "--size", 39, "--groups", 1)
    beads = ("beads", "--radius-um", 1, "--number", 2)
    return [(*command, "--out", tmp_path / "out") for command in (bubtub, LINES, beads)]


def test_a_second_run_into_one_folder_is_told(datagen, commands, contents, tmp_path):
    with claimed(tmp_path / "out" / "dataset"):
        for command in commands:
            refused = datagen(*command, "--overwrite")
            assert refused.code == 2
            assert "another run (process" in refused.error
            assert set(contents(tmp_path / "out")) == {".dataset.lock"}


@pytest.mark.parametrize("seed", ["99999999999999999999", "-5"])
def test_seeds_that_are_none(datagen, commands, tmp_path, seed):
    for command in commands:
        refused = datagen(*command, "--seed", seed)
        assert refused.code == 2
        assert "--seed" in refused.error
    assert list(tmp_path.iterdir()) == []
