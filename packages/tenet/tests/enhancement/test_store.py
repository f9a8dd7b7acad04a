"""``tenet enhance --format zarr``: one store of a recording, gone on with where a run stopped."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
import yaml

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_stack, write_volume
from scopekit.memory import MemoryBudget
from tenet.config.files import load_config
from tenet.enhancement import store as enhanced_store
from tenet.enhancement.stack import StackWork
from tenet.network.jnet import JNet

pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")

VOXEL_UM = (0.8, 0.2, 0.2)
NAMES = ("structure", "brightness", "reconstruction")
FIXED = ("--config", "small.json", "--checkpoint", "model.pt", "--out", "out")
LARGE = (5, 190, 190)
# So little that a stack of that size is cut.
BUDGET = MemoryBudget(155_000_000, 10**9)


def stack_of(*shape):
    return np.random.default_rng(0).integers(90, 400, shape, dtype=np.uint16).astype(np.float32)


@pytest.fixture
def run(write_config, tenet, tmp_path, monkeypatch):
    """Return ``run(*arguments)``: `tenet enhance` of them into a store in the folder out."""
    monkeypatch.chdir(tmp_path)
    config = load_config(write_config())
    torch.manual_seed(0)
    torch.save(JNet(config.params).state_dict(), "model.pt")

    def call(*arguments):
        return tenet("enhance", *arguments, *FIXED, "--device", "cpu", "--format", "zarr")

    return call


@pytest.fixture
def little(monkeypatch):
    """Let the work take so little memory that a large stack is cut."""
    monkeypatch.setattr(enhanced_store, "memory_budget", lambda *_: BUDGET)


@pytest.fixture
def large(tmp_path):
    np.save(tmp_path / "cell.npy", stack_of(*LARGE))
    return "cell.npy"


def contents(folder):
    """Return all that a run leaves but what tells the time, by name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_store_holds_what_the_files_hold(run, tenet, tmp_path):
    write_volume(tmp_path / "cell.tif", stack_of(3, 40, 37), VOXEL_UM, overwrite=False)
    plain = (*FIXED[:-1], "plain", "--threshold", "0.56")
    assert tenet("enhance", "cell.tif", *plain, "--device", "cpu").returncode == 0
    done = run("cell.tif", "--threshold", "0.56")
    assert done.returncode == 0, done.stderr
    store = tmp_path / "out" / "cell_tenet.ome.zarr"
    for number, name in enumerate(NAMES):
        expected = tifffile.imread(tmp_path / "plain" / f"cell_tenet_{name}.tif")
        by_name, by_number = open_stack(store / name), open_stack(store, Selection(None, number))
        np.testing.assert_allclose(by_name.read(), expected, atol=1e-5)
        np.testing.assert_array_equal(by_name.read(), by_number.read())
        assert by_name.voxel_um == pytest.approx((0.8 if number == 2 else 0.2, 0.2, 0.2))
    labels = tifffile.imread(tmp_path / "plain" / "cell_tenet_labels.tif")
    assert labels.max() > 1
    found = open_stack(store / "structure" / "labels" / "objects")
    np.testing.assert_array_equal(found.read(), labels)
    tables = [tmp_path / folder / "cell_tenet_objects.csv" for folder in ("plain", "out")]
    plain_rows, rows = (list(csv.DictReader(path.read_text().splitlines())) for path in tables)
    assert [row["volume_um3"] for row in rows] == [row["volume_um3"] for row in plain_rows]
    settings = yaml.safe_load((tmp_path / "out" / "cell_tenet.yaml").read_text())
    assert settings["objects"] == labels.max()
    with pytest.raises(UserError, match="images structure, brightness, reconstruction; choose"):
        open_stack(store)

    again = run("cell.tif")
    assert "exists, made with another threshold: skipped" in again.stderr
    own = tenet("enhance", "out", *FIXED)  # no results are enhanced
    assert "no file to use in this folder" in own.stderr


def test_metadata_are_those_of_ngff(run, tmp_path):
    write_volume(tmp_path / "cell.tif", stack_of(2, 12, 10), VOXEL_UM, overwrite=False)
    assert run("cell.tif").returncode == 0
    store = tmp_path / "out" / "cell_tenet.ome.zarr"

    def told(*folders):
        path = store.joinpath(*folders, "zarr.json")
        return json.loads(path.read_text())["attributes"]["ome"]

    assert told()["bioformats2raw.layout"] == 3
    assert told("OME")["series"] == list(NAMES)
    assert told("structure", "labels")["labels"] == ["objects"]
    image = told("structure", "labels", "objects")
    assert image["image-label"] == {"source": {"image": "../../"}}
    assert image["multiscales"][0]["axes"] == told("structure")["multiscales"][0]["axes"]
    array = json.loads((store / "structure/labels/objects/0/zarr.json").read_text())
    assert array["data_type"] == "uint32"


def test_ome_zarr_gives_ome_zarr_and_time_points_an_axis(run, tenet, tmp_path):
    series = stack_of(3, 1, 2, 12, 10)
    series[1, 0, 1, 3, 4] = np.nan
    np.save(tmp_path / "day.npy", series)
    done = run("day.npy")
    assert done.returncode == 2
    assert "1 of 3 time points failed (time point 1), the rest is done" in done.stderr
    structure = open_stack(tmp_path / "out" / "day_tenet.ome.zarr" / "structure")
    assert structure.shape == (3, 8, 12, 10)
    assert not np.array_equal(structure.read(0), structure.read(2))
    with pytest.raises(UserError, match="frame 1 is missing"):
        structure.read(1)
    settings = yaml.safe_load((tmp_path / "out" / "day_tenet.yaml").read_text())
    assert [frame["time_point"] for frame in settings["frames"]] == [0, 2]
    assert list(settings["failed_frames"]) == [1]
    tables = sorted(path.name for path in (tmp_path / "out").glob("*.csv"))
    assert tables == [f"day_t{t:03d}_tenet_objects.csv" for t in (0, 2)]

    inside = str(tmp_path / "out" / "day_tenet.ome.zarr" / "reconstruction")
    out = (*FIXED[:-1], "again", "--time-points", "2", "--device", "cpu")
    assert tenet("enhance", inside, *out).returncode == 0
    again = open_stack(tmp_path / "again" / "reconstruction_tenet.ome.zarr" / "structure")
    assert again.shape == (3, 8, 12, 10)


def test_time_points_that_a_store_lacks_are_made_later(run, tmp_path):
    np.save(tmp_path / "day.npy", stack_of(3, 1, 2, 12, 10))
    assert run("day.npy").returncode == 0
    (tmp_path / "out").rename(tmp_path / "whole")
    assert run("day.npy", "--time-points", "2").returncode == 0
    assert "exists: skipped" in run("day.npy", "--time-points", "2").stderr
    later = run("day.npy")
    assert later.returncode == 0, later.stderr
    assert "making the frames that it lacks" in later.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


KILLED = """
import os, signal, sys
from scopekit.memory import MemoryBudget
from tenet.cli.app import main
from tenet.enhancement import store
from tenet.enhancement.stack import StackWork
budget = MemoryBudget(int(sys.argv.pop(1)), 10**9)
store.memory_budget = lambda *_: budget
do = StackWork.do
def killed(self, part):
    if part == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    do(self, part)
StackWork.do = killed
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_killed_run_goes_on_within_the_stack(run, little, large, tmp_path, monkeypatch):
    assert run(large).returncode == 0
    (tmp_path / "out").rename(tmp_path / "whole")
    arguments = ("enhance", large, *FIXED, "--device", "cpu", "--format", "zarr")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(BUDGET.available), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    halves = tmp_path / "out" / ".cell_tenet.ome.zarr.partial" / "structure" / "0"
    (halves / "0.1f2e.partial").touch()  # of a chunk that was being written
    more = MemoryBudget(10**9, 10**9)  # in which it would be cut otherwise
    monkeypatch.setattr(enhanced_store, "memory_budget", lambda *_: more)
    done = []
    do = StackWork.do
    monkeypatch.setattr(StackWork, "do", lambda self, part: done.append(part) or do(self, part))
    going_on = run(large)
    assert going_on.returncode == 0, going_on.stderr
    assert "going on where an interrupted run stopped" in going_on.stderr
    assert done == list(range(2, done[-1] + 1))
    noted = yaml.safe_load((tmp_path / "out" / "cell_tenet.yaml").read_text())
    assert noted["chunks"] > 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert hidden(tmp_path / "out") == []


@pytest.fixture
def interrupted(run, little, large, monkeypatch):
    """Interrupt a run after two parts."""
    do = StackWork.do

    def interrupt(self, part):
        if part == 2:
            raise UserError("cannot write: the disk is full")
        do(self, part)

    monkeypatch.setattr(StackWork, "do", interrupt)
    assert run(large).returncode == 2
    monkeypatch.setattr(StackWork, "do", do)


def test_another_input_network_or_option_is_not_mixed_in(interrupted, run, large, tmp_path):
    refused = run(large, "--threshold", "0.4")
    assert refused.returncode == 2
    expected = "a frame done in part of other input or settings (params, threshold)"
    assert expected in refused.stderr
    np.save(tmp_path / "cell.npy", stack_of(*LARGE) + 1)
    refused = run(large)
    assert refused.returncode == 2
    assert "other input or settings (input changed)" in refused.stderr
    assert run(large, "--overwrite").returncode == 0


def test_a_network_of_the_same_name_is_another(interrupted, run, large, tmp_path):
    torch.manual_seed(1)
    torch.save(JNet(load_config(tmp_path / "small.json").params).state_dict(), "model.pt")
    refused = run(large)
    assert refused.returncode == 2
    assert "(checkpoint sha256)" in refused.stderr


def test_parts_stay_those_of_the_device_that_they_were_planned_for(
    interrupted, run, large, tmp_path
):
    """Less of the memory of a GPU is planned with: here too little for any part."""
    (path,) = (tmp_path / "out").glob(".*.state/0.parts/plan.json")
    noted = json.loads(path.read_text())
    assert noted["device"] == "cpu"
    path.write_text(json.dumps(noted | {"device": "cuda"}))
    refused = run(large)
    assert refused.returncode == 2
    assert "too small for a stack" in refused.stderr


def test_parts_that_no_longer_fit_the_memory_are_told(interrupted, run, large, monkeypatch):
    less = MemoryBudget(BUDGET.available - 20_000_000, 10**9)
    monkeypatch.setattr(enhanced_store, "memory_budget", lambda *_: less)
    refused = run(large)
    assert refused.returncode == 2
    assert "an interrupted run began with larger parts than fit --max-memory-gb" in refused.stderr
    assert "or --overwrite to start anew" in refused.stderr


def test_what_cannot_be_enhanced_leaves_nothing(run, tmp_path):
    np.save(tmp_path / "cell.npy", np.ones((2, 9, 9), np.float32))
    refused = run("cell.npy")
    assert refused.returncode == 2
    assert "constant, every voxel is 1; leave it out" in refused.stderr
    assert not (tmp_path / "out").exists()
    np.save(tmp_path / "cell.npy", stack_of(2, 9, 9))
    refused = run("cell.npy", "--dtype", "uint16")
    assert refused.returncode == 2
    assert "give --format tif" in refused.stderr


def test_the_parts_of_a_stack_on_a_cluster_of_which_a_worker_is_killed(
    run, little, large, tmp_path, cluster
):
    assert run(large).returncode == 0
    (tmp_path / "out").rename(tmp_path / "serial")
    died = tmp_path / "died"
    cluster.spoil("tenet.enhancement.stack", "StackWork", "do", died)
    done = run(large, "--dask", cluster.address)
    assert done.returncode == 0, done.stderr
    assert died.exists()
    assert contents(tmp_path / "out") == contents(tmp_path / "serial")


def test_the_time_points_of_a_store_on_a_cluster(run, tmp_path, cluster):
    series = stack_of(3, 1, 2, 12, 10)
    series[1, 0, 1, 3, 4] = np.nan
    np.save(tmp_path / "day.npy", series)
    assert run("day.npy").returncode == 2
    (tmp_path / "out").rename(tmp_path / "serial")
    done = run("day.npy", "--dask", cluster.address)
    assert done.returncode == 2
    assert "1 of 3 time points failed (time point 1), the rest is done" in done.stderr
    found, serial = (contents(tmp_path / folder) for folder in ("out", "serial"))
    assert found.keys() == serial.keys()
    assert all(found[n] == serial[n] for n in found if "/c/" in n or n.endswith(".csv"))
