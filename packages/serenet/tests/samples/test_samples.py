"""The recorded frame that ships is copied whole, with its licence, and goes through."""

import tifffile

from serenet.samples.files import SAMPLES, sample_folder
from serenet.views.microscope import load_microscope


def test_the_list_names_every_sample(serenet):
    outcome = serenet("samples")
    assert outcome.code == 0
    assert all(f"serenet samples get {name}" in outcome.out for name in SAMPLES)


def test_a_sample_is_copied_with_its_licence(serenet, tmp_path, contents):
    outcome = serenet("samples", "get", "guv", "--out", tmp_path / "guv")
    assert outcome.code == 0
    names = ["LICENSE.txt", "guv.yaml", "light_field.tif", "radiometry_frame.tif"]
    assert contents(tmp_path / "guv") == names
    for name in names:
        assert (tmp_path / "guv" / name).read_bytes() == (sample_folder("guv") / name).read_bytes()
    assert "Redistribution" in (tmp_path / "guv/LICENSE.txt").read_text()
    assert load_microscope(str(tmp_path / "guv/guv.yaml")).n_num == 15


def test_files_are_kept(serenet, tmp_path):
    folder = tmp_path / "guv"
    folder.mkdir()
    (folder / "guv.yaml").write_text("mine")
    outcome = serenet("samples", "get", "guv", "--out", folder)
    assert outcome.code == 2
    assert "guv.yaml" in outcome.error
    assert [path.name for path in folder.iterdir()] == ["guv.yaml"]
    assert serenet("samples", "get", "guv", "--out", folder, "--overwrite").code == 0
    assert (folder / "guv.yaml").read_text() != "mine"


def test_an_unknown_sample_is_told(serenet):
    outcome = serenet("samples", "get", "cell")
    assert (outcome.code, "known are guv" in outcome.error) == (2, True)


def test_the_next_command_that_is_told_runs(serenet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = serenet("samples", "get", "guv").out.splitlines()[-1]
    outcome = serenet(*said.split()[2:])
    assert outcome.code == 0
    assert tifffile.imread("guv.tif").shape == (225, 28, 28)
