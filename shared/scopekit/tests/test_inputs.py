"""Files and folders that the user gives, and what becomes of each."""

import os
from pathlib import Path

import pytest

from scopekit.errors import UserError
from scopekit.inputs import (
    find_inputs,
    input_record,
    is_made_from,
    require_same_input,
    run_all,
)
from scopekit.settings import write_yaml


def no_result(path, stems):
    return False


def test_files_and_folders_are_mixed_and_results_left_out(tmp_path):
    for name in ("b.tif", "a.TIF", "a_done.tif", "c.txt", ".d.tif", "e.npy"):
        (tmp_path / name).touch()
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "sub").mkdir()
    alone = tmp_path / "sub" / "c.txt"
    alone.touch()

    def is_result(path, stems):
        return path.stem.removesuffix("_done") in stems - {path.stem}

    found = find_inputs([alone, tmp_path, tmp_path / "b.tif"], (".tif", ".zarr"), is_result)
    assert [path.name for path in found] == ["c.txt", "a.TIF", "b.tif", "f.zarr"]


def test_numbers_in_the_names_of_a_folder_count_as_numbers(tmp_path):
    names = ["No1.tif", "No2.tif", "No10.tif", "No11.tif"]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [f.name for f in find_inputs([tmp_path], (".tif",), no_result)] == names


def test_what_cannot_be_used_is_told(tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(UserError, match=r"one: no file to use in this folder \(.tif\)"):
        find_inputs([tmp_path / "one"], (".tif",), no_result)
    with pytest.raises(UserError, match="none: no such file or folder"):
        find_inputs([tmp_path / "none"], (".tif",), no_result)
    for name in ("a.tif", "a.npy"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="would give results of one name; rename one"):
        find_inputs([tmp_path / "a.tif", tmp_path / "a.npy"], (".tif",), no_result)


def test_the_rest_is_done_after_a_failure(tmp_path, capsys):
    files = [tmp_path / name for name in "abc"]

    def work(path):
        if path.name == "b":
            raise UserError("b is broken")
        done.append(path.name)
        return path

    done = []
    with pytest.raises(UserError, match=r"1 of 3 inputs failed, the rest is done: .*b$"):
        run_all(files, work)
    assert done == ["a", "c"]
    assert "error: b is broken" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^b is broken$"):
        run_all([files[1]], work)


@pytest.mark.parametrize("others", [[], [Path("fine.tif")]])
def test_a_fault_that_names_no_file_gets_its_name(capsys, others):
    def work(file):
        if file in others:
            return file
        raise UserError("the result would hold NaN")

    with pytest.raises(UserError) as failure:
        run_all([Path("in/cell.tif"), *others], work)
    told = capsys.readouterr().err if others else str(failure.value)
    assert "in/cell.tif: the result would hold NaN" in told


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return settings of a result that was made from m1/cell.tif, named from its folder."""
    for name in ("m1", "m2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cell.tif").write_text(name)
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "cell_done.yaml"
    write_yaml(settings, input_record(tmp_path / "m1" / "cell.tif"), overwrite=False)
    return settings


def test_results_of_another_input_are_told(made, tmp_path):
    own, other = (tmp_path / name / "cell.tif" for name in ("m1", "m2"))
    require_same_input(made, tmp_path / "cell_done.tif", own.relative_to(tmp_path))
    assert is_made_from(made, own)
    assert not is_made_from(made, other)
    expected = rf"cell_done\.tif exists, made from another input, {own}: add `overwrite=True`"
    with pytest.raises(UserError, match=expected):
        require_same_input(made, tmp_path / "cell_done.tif", other)
    assert is_made_from(tmp_path / "none.yaml", other), "without settings nothing is known"


def test_an_input_that_changed_is_another(made, tmp_path):
    own = tmp_path / "m1" / "cell.tif"
    changed = own.stat().st_mtime_ns
    own.write_text("anew")
    with pytest.raises(UserError, match=r"made from .*cell\.tif as it was before it changed"):
        require_same_input(made, tmp_path / "cell_done.tif", own)
    own.write_text("m1")
    os.utime(own, ns=(changed, changed))
    (tmp_path / "m1").rename(tmp_path / "moved")
    assert is_made_from(made, tmp_path / "moved" / "cell.tif")
