"""``serenet psf --aberration``."""

import json

import h5py
import pytest
import torch

from optics import open_psf, phase_space_psf, presets

SMALL = ("nnum13", "--depths", 2, "--size", 9)


def test_the_file_holds_the_aberrated_psf_and_tells_the_aberrations(serenet, tmp_path):
    path = tmp_path / "aberrated.h5"
    arguments = ("--aberration", "coma_x=0.1", "--aberration", "5=-0.05", "--out", path)
    outcome = serenet("psf", *SMALL, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    file = open_psf(path)
    microscope = presets["nnum13"].with_middle_depths(2)
    assert file.microscope == microscope
    aberrations = {"coma_x": 0.1, "5": -0.05}
    expected = phase_space_psf(microscope, size=9, aberrations=aberrations)
    torch.testing.assert_close(file.read(), expected)
    with h5py.File(path) as content:
        assert json.loads(content.attrs["aberrations"]) == aberrations


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["comma=0.1"], "aberration 'comma': give one of tilt_y"),
        (["coma_x"], "--aberration coma_x: give NAME=WAVES"),
        (["coma_x=much"], "--aberration coma_x=much: give NAME=WAVES"),
        (["coma_x=nan"], "'coma_x' of nan waves rms"),
        (["coma_x=0.1", "coma_x=0.2"], "--aberration coma_x is given twice"),
        (["coma_x=0.1", "8=0.2"], "'8' is given twice"),
    ],
)
def test_wrong_aberrations(serenet, tmp_path, contents, given, message):
    options = [part for text in given for part in ("--aberration", text)]
    outcome = serenet("psf", *SMALL, *options, "--out", tmp_path / "psf.h5")
    assert outcome.code == 2
    assert message in outcome.error
    assert contents(tmp_path) == []
