"""Accidents at the microscope: two runs at once, equal names, own results, bad weights."""

import os

import numpy as np
import pytest
import tifffile
import torch
import yaml

from scopekit.images.files import write_volume
from scopekit.outputs import claimed
from tenet.data.recordings import find_recordings

VOXEL_UM = (0.8, 0.2, 0.2)


@pytest.fixture
def stack(work):
    """Write a stack (2, 9, 8), or a series; return its path."""

    def write(name="cell.tif", seed=0, frames=0):
        path = work / name
        path.parent.mkdir(exist_ok=True)
        shape = (frames, 2, 9, 8) if frames else (2, 9, 8)
        values = np.random.default_rng(seed).integers(90, 400, shape).astype(np.float32)
        write_volume(path, values, VOXEL_UM, overwrite=False)
        return path

    return write


@pytest.fixture
def enhance(tenet):
    """Enhance files into a folder by random weights."""

    def call(*files, out="out", more=(), checkpoint="model/small.pt"):
        how = ("--config", "small.json", "--checkpoint", checkpoint, "--out", out)
        return tenet("enhance", *files, *how, "--value-range", 0, 1000, *more)

    return call


def error_of(outcome):
    assert outcome.returncode == 2, outcome
    assert "Traceback" not in outcome.stderr
    return outcome.stderr.splitlines()[-1]


def test_a_second_run_into_one_folder_is_told(enhance, stack, work):
    path = stack()
    with claimed(work / "out" / "cell_tenet"):
        told = error_of(enhance(path, more=("--overwrite",)))
    assert "cell_tenet: another run (process" in told
    assert list((work / "out").iterdir()) == []
    assert enhance(path).returncode == 0


@pytest.mark.parametrize(
    ("command", "name"),
    [("pretrain", "small"), ("finetune", "tuned"), ("train-aligner", "small_align")],
)
def test_a_second_run_of_a_training_is_told(tenet, work, command, name):
    (work / "model" / f"{name}.pt").unlink(missing_ok=True)
    with claimed(work / "train" / name / "run"):
        told = error_of(tenet(command, "tuned.json"))
    assert f"train/{name}/run: another run (process" in told
    assert not (work / "model" / f"{name}.pt").exists()


def test_results_of_another_input_of_that_name(enhance, stack, work):
    first, second = stack("m1/cell.tif"), stack("m2/cell.tif", 1)
    stack("m2/other.tif", 2)
    assert enhance(work / "m1").returncode == 0
    done = enhance(work / "m2")
    assert f"exists, made from another input, {first}: add --overwrite" in done.stderr
    assert "1 of 2 inputs failed, the rest is done" in error_of(done)
    assert (work / "out" / "other_tenet_structure.tif").exists()
    assert yaml.safe_load((work / "out" / "cell_tenet.yaml").read_text())["input"] == str(first)
    again = enhance(first, stack("new.tif", 3))
    assert again.returncode == 0
    assert "cell_tenet_structure.tif exists: skipped" in again.stderr
    assert enhance(second, more=("--overwrite",)).returncode == 0


def test_a_series_and_a_stack_of_its_frames_name(enhance, stack, work):
    stack("in/day.tif", frames=2)
    stack("in/day_t000.tif", 1)
    done = enhance(work / "in")
    assert "day_t000_tenet_structure.tif exists, made from another input" in done.stderr
    assert "day_t000.tif" in error_of(done)


def test_own_results_are_no_recordings(tenet, enhance, stack, work):
    path = stack("in/cell.tif")
    stack("in/other.tif", 1)
    assert enhance(path, out=path.parent).returncode == 0
    assert (path.parent / "cell_tenet_mask.tif").exists()
    found = [p.name for p in find_recordings(path.parent)]
    assert found == ["cell.tif", "other.tif"]
    assert enhance(path, out="elsewhere").returncode == 0
    error = error_of(
        tenet("evaluate", "microglia", "elsewhere", "--config", "small.json", "--out", "e")
    )
    assert error.startswith("error: elsewhere: no stack to use")
    how = ("--config", "small.json", "--checkpoint", "model/small.pt", "--out", "e")
    assert tenet("evaluate", "microglia", path.parent, *how).returncode == 0
    images = (work / "e" / "microglia_images.csv").read_text()
    assert "cell" in images
    assert "_tenet" not in images


def test_a_result_is_no_input_that_is_replaced(enhance, stack, work):
    stack("cell.tif")
    theirs = stack("cell_tenet_structure.tif", 1)
    kept = theirs.read_bytes()
    done = enhance("cell.tif", out=".", more=("--overwrite",))
    assert done.returncode == 0, "a file that is no input may be replaced"
    theirs.write_bytes(kept)
    (work / "cell.tif").unlink()
    (work / "cell.tif").symlink_to(theirs)
    told = error_of(enhance("cell.tif", out=".", more=("--overwrite",)))
    assert "is an input, which is never replaced" in told
    assert theirs.read_bytes() == kept


@pytest.mark.parametrize("ending", ["structure.tif", "mask.tif"])
def test_nor_is_another_input(enhance, stack, work, ending):
    stack("cell.tif")
    theirs = stack(f"cell_tenet_{ending}", 1)
    kept = theirs.read_bytes()
    done = enhance("cell.tif", theirs.name, out=".", more=("--overwrite",))
    assert f"cell_tenet_{ending} is an input, which is never replaced" in done.stderr
    assert "1 of 2 inputs failed, the rest is done: cell.tif" in error_of(done)
    assert theirs.read_bytes() == kept
    assert (work / f"{theirs.stem}_tenet_structure.tif").exists()


@pytest.mark.parametrize("link", [True, False])
def test_an_empty_folder_hides_no_cause(enhance, stack, work, link):
    bad = np.full((2, 9, 8), np.nan, np.float32)
    (work / "in").mkdir()
    tifffile.imwrite(work / "in" / "a_bad.tif", bad)
    stack("in/b_good.tif")
    (work / "real").mkdir()
    (work / "link").symlink_to("real")
    done = enhance(work / "in", out=work / ("link" if link else "real"))
    assert "a_bad.tif: NaN or infinite values" in done.stderr
    assert "1 of 2 inputs failed, the rest is done" in error_of(done)
    assert len(list((work / "real").iterdir())) == 8


@pytest.mark.parametrize("name", ["a$b$c", os.fsdecode(b"caf\xe9"), "x" * 231])
def test_odd_names(tenet, enhance, stack, work, name):
    path = stack(f"{name}.tif")
    done = enhance(path)
    if len(name) > 100:
        assert "its name is 1 bytes too long; give the input a shorter one" in error_of(done)
        assert not (work / "out").exists()
        return
    assert done.returncode == 0, done.stderr
    assert (work / "out" / f"{name}_tenet.png").exists()
    how = ("--config", "small.json", "--checkpoint", "model/small.pt", "--out", "e")
    assert tenet("evaluate", "microglia", path, *how).returncode == 0


def test_weights_that_are_no_numbers(enhance, stack, work):
    state = torch.load(work / "model" / "small.pt")
    name = next(iter(state))
    state[name] = state[name] * float("nan")
    torch.save(state, work / "nan.pt")
    told = error_of(enhance(stack(), checkpoint="nan.pt"))
    assert told.startswith(f"error: nan.pt: {name} holds NaN or infinite values")
    assert not (work / "out").exists()


def test_results_that_are_not_finite_never_land(enhance, stack, work):
    state = {name: t * 1e30 for name, t in torch.load(work / "model" / "small.pt").items()}
    torch.save(state, work / "huge.pt")
    told = error_of(enhance(stack(), checkpoint="huge.pt"))
    assert "NaN or infinite values" in told
    assert not (work / "out").exists()


@pytest.mark.parametrize("loss", ["nn.BCELoss()", "nn.MSELoss()"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_diverging_pretraining_is_told(tenet, work, write_config, loss, epochs):
    changes = {"lr": 1e30, "loss_fnx": loss, "n_epochs": epochs}
    loop = {f"pretrain_loop__{key}": value for key, value in changes.items()}
    write_config("wild", pretrained_model="wild", **loop)
    told = error_of(tenet("pretrain", "wild.json"))
    assert "lower pretrain_loop.lr" in told
    assert not (work / "model" / "wild.pt").exists()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("wavelength", 910.0, "Is it in nm? Then give 0.91"),
        ("res_lateral", 200.0, "Is it in nm? Then give 0.2"),
        ("tg", 1e6, "tg is 1e+06; it must lie between 0 and 20000 um"),
    ],
)
def test_optics_in_other_units(tenet, work, write_config, key, value, told):
    write_config("units", **{f"params__{key}": value})
    line = error_of(tenet("psf", "units.json", "--out", "psf"))
    assert line.startswith("error: units.json: ")
    assert told in line
    assert not (work / "psf").exists()


@pytest.mark.parametrize("seed", ["99999999999999999999", "-5"])
def test_seeds_that_are_none(tenet, work, seed):
    before = sorted(work.rglob("*"))
    for command in (("psf", "small.json", "--out", "psf"), ("demo",), ("pretrain", "tuned.json")):
        assert "--seed" in error_of(tenet(*command, "--seed", seed))
    assert sorted(work.rglob("*")) == before
