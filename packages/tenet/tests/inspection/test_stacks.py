"""``tenet check`` says what was put into a file, and its next commands are understood."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer.main
from scipy import ndimage

from tenet.cli.app import app


@pytest.fixture
def check(tenet):
    """Run ``tenet check``; the next commands that it prints must be understood."""

    def call(*arguments):
        outcome = tenet("check", *arguments)
        for line in outcome.stdout.splitlines():
            heading, _, step = line.strip().partition(":")
            if heading in ("next", "or"):
                program, name, *rest = shlex.split(step, comments=True)
                assert program == "tenet"
                typer.main.get_command(app).commands[name].make_context(name, rest)
        return outcome

    return call


def facts(outcome):
    lines = (line.strip().partition(":") for line in outcome.stdout.splitlines()[1:])
    return {heading: text.strip() for heading, _, text in lines}


def scene(seed=0):
    """Smooth blobs over an offset of 100 counts, (12, 64, 64)."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.normal(0, 1, (12, 64, 64)), (3, 4, 4), mode="nearest")
    return 100 + rng.poisson(400 * np.clip(blobs / blobs.max(), 0, None))


@pytest.fixture
def write(tmp_path):
    def to(values, voxel=(2.0, 0.5, 0.5), name="stack.tif"):
        path = tmp_path / name
        told = {}
        if voxel is not None:
            told = {
                "imagej": True,
                "resolution": (1 / voxel[1], 1 / voxel[2]),
                "metadata": {"spacing": voxel[0], "unit": "um", "axes": "ZYX"},
            }
        tifffile.imwrite(path, values.astype(np.uint16), **told)
        return path

    return to


def test_a_stack_of_another_microscope(check, write):
    outcome = check(write(scene()))
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "12 planes of 64 x 64 pixels, uint16" in outcome.stdout
    found = facts(outcome)
    assert found["voxels"].startswith("z 2 um, y 0.5 um, x 0.5 um (ImageJ metadata); 24 x 32 x 32")
    assert "4 times as deep as wide" in found["voxels"]
    assert "NOT as these are" in found["network"]
    assert found["slices"].startswith("in place")
    assert found["next"].startswith("tenet pretrain my.json")
    assert Path(found["next"].partition("a copy of ")[2]).is_file()


def test_a_stack_of_the_voxels_of_the_network_that_ships(check, write):
    found = facts(check(write(scene(), (0.8, 0.2, 0.2))))
    assert found["network"].endswith("as these are")
    assert "--checkpoint demo_pretrain --out" in found["next"]


def test_views_of_a_light_field_are_sent_to_serenet(check, write):
    views = np.random.default_rng(0).integers(90, 400, (49, 36, 36))
    told = check(write(views, None)).stdout
    assert "7 x 7 views or exposures of a light field" in told
    assert "'serenet check'" in told
    for planes, voxel in ((views, (1.0, 0.5, 0.5)), (views[:48], None), (views[:16], None)):
        assert "serenet" not in check(write(planes, voxel)).stdout


def test_the_configuration_that_is_named(check, write, tmp_path, monkeypatch, write_config):
    monkeypatch.chdir(tmp_path)
    config_file = write_config()
    outcome = check(write(scene()), "--config", config_file)
    assert "NOT as these are" in facts(outcome)["network"]
    assert facts(outcome)["next"] == f"tenet pretrain {config_file} --minutes 20"


def test_displaced_slices(check, write):
    rng = np.random.default_rng(3)
    shaken = [ndimage.shift(plane, rng.normal(0, 3, 2), mode="nearest") for plane in scene()]
    assert facts(check(write(np.stack(shaken))))["slices"].startswith("DISPLACED")


def test_voxels_that_are_not_told(check, write):
    found = facts(check(write(scene(), None)))
    assert found["voxels"].startswith("the file tells no voxel size")
    assert "as these are" not in found["network"]


def test_a_movie_without_named_axes_is_doubted(check, write):
    frames = np.tile(scene()[:, :16, :16], (5, 1, 1))
    outcome = check(write(frames))
    assert "a movie perhaps?" in outcome.stdout
    assert "next" not in facts(outcome)  # none of them takes a movie
    assert "a movie perhaps?" not in check(write(scene())).stdout


def test_a_saturated_stack(check, write):
    values = np.where(scene() > 300, 4095, scene())
    assert "SATURATED" in facts(check(write(values)))["counts"]


def test_what_cannot_be_used_ends_in_one_line(check, write, tmp_path):
    outcome = check(write(np.full((5, 32, 32), 7)), tmp_path / "missing.tif")
    assert outcome.returncode == 2
    assert "stack.tif: constant" in outcome.stderr
    assert "missing.tif" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_channel_that_was_chosen_stands_in_the_next_command(check, tmp_path):
    both = np.stack([scene(), scene(1)], axis=1).astype(np.uint16)
    told = {"axes": "ZCYX", "spacing": 0.8, "unit": "um"}
    tifffile.imwrite(tmp_path / "both.tif", both, imagej=True, resolution=(5, 5), metadata=told)
    outcome = check(tmp_path / "both.tif", "--config", "demo", "--channel", 1)
    assert "both.tif --channel 1 --config demo" in facts(outcome)["next"]
