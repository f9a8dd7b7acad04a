"""Sets of labels on disk: whole, the same however they are made, continued, never mixed."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from datagen.labels.making import SHEET_NAME
from datagen.labels.phantom_config import SECTION
from datagen.labels.sets import slab_projections
from scopekit.preview import orthogonal_projections

CONFIG = {
    "dataset_name": "set",
    "train_num": 3,
    "valid_num": 2,
    "image_size": [40, 60, 50],
    "train_object_num_min": 12,
    "train_object_num_max": 18,
    "valid_object_num_min": 10,
    "valid_object_num_max": 14,
}
COUNTS = [18, 16, 14, 14, 12]
NAMES = [f"{i:04d}_label{kind}.npy" for i in range(5) for kind in "xz"]


@pytest.fixture
def config(tmp_path):
    """A configuration of five small phantoms."""

    def write(**changes):
        path = tmp_path / "small.json"
        path.write_text(json.dumps({SECTION: {**CONFIG, **changes}}))
        return path

    return write


@pytest.fixture
def made(datagen, config, tmp_path):
    """The five phantoms in ``tmp_path / "a" / "set"``."""
    assert datagen("phantoms", config(), "--out", tmp_path / "a").code == 0
    return tmp_path / "a" / "set"


def test_the_files_are_those_of_the_configuration(made, labels):
    rest = [SHEET_NAME, "dataset.yaml", "statistics.csv"]
    assert sorted(p.name for p in made.iterdir()) == sorted(NAMES + rest)
    with (made / "statistics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["objects"]) for row in rows] == COUNTS
    for i, row in enumerate(rows):
        labelx, labelz = labels(made, i)
        assert labelx.shape == labelz.shape == (40, 60, 50)
        np.testing.assert_array_equal(labelx, labelz > 0)
        assert float(row["filled_share"]) == pytest.approx(labelx.mean(dtype=float))
        assert float(row["mean_brightness"]) == pytest.approx(labelz[labelx > 0].mean(), rel=1e-5)
    assert "objects: mixture" in (made / "dataset.yaml").read_text()


def test_the_contact_sheet_shows_something(made):
    picture = imread(made / SHEET_NAME)[..., :3]
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 0.1


def test_the_same_seed_gives_the_same_bytes_whatever_the_jobs(
    datagen, config, made, tmp_path, contents
):
    again = datagen("phantoms", config(), "--out", tmp_path / "b", "--jobs", 2)
    assert again.code == 0
    assert contents(tmp_path / "b" / "set") == contents(made)
    other = datagen("phantoms", config(), "--out", tmp_path / "c", "--seed", 1)
    assert other.code == 0
    assert contents(tmp_path / "c" / "set")[NAMES[0]] != contents(made)[NAMES[0]]


def test_a_second_run_makes_what_is_missing(datagen, config, made, tmp_path, contents):
    before = contents(made)
    for name in ("0001_labelz.npy", "0003_labelx.npy"):
        (made / name).unlink()
    whole = (made / "0000_labelx.npy").stat().st_mtime_ns
    killed = made / ".0000_labelx.npy.lock"  # when the volume was there already
    killed.touch()
    outcome = datagen("phantoms", config(), "--out", tmp_path / "a")
    assert outcome.code == 0
    assert not killed.exists()
    for index, named in enumerate((True, False, True, False, True)):
        assert (f"{index:04d}_labelx.npy exists: skipped" in outcome.err) == named
    assert contents(made) == before
    assert (made / "0000_labelx.npy").stat().st_mtime_ns == whole


def test_a_second_run_without_anything_missing_says_so(datagen, config, made, tmp_path, contents):
    before = contents(made)
    outcome = datagen("phantoms", config(), "--out", tmp_path / "a")
    assert outcome.code == 2
    assert "0000_labelx.npy exists (as do all 5): add --overwrite" in outcome.error
    assert contents(made) == before
    (made / SHEET_NAME).unlink()
    assert datagen("phantoms", config(), "--out", tmp_path / "a").code == 0
    assert contents(made) == before


@pytest.mark.parametrize(
    ("changes", "options", "named"),
    [
        ({}, ("--seed", 1), "seed: 0, now 1"),
        ({"image_size": [40, 60, 51]}, (), "size: [40, 60, 50], now [40, 60, 51]"),
        ({"valid_object_num_max": 15}, (), "counts"),
        ({}, ("--objects", "thin-lines"), "objects: mixture, now thin-lines"),
    ],
)
def test_other_settings_are_not_mixed(
    datagen, config, made, tmp_path, contents, changes, options, named
):
    before = contents(made)
    command = ("phantoms", config(**changes), "--out", tmp_path / "a", *options)
    outcome = datagen(*command)
    assert outcome.code == 2
    assert f"{made} was made with other settings ({named}" in outcome.error
    assert contents(made) == before
    assert datagen(*command, "--overwrite").code == 0
    after = contents(made)
    assert after.keys() == before.keys()
    assert after["0000_labelx.npy"] != before["0000_labelx.npy"] or "counts" in named


def test_lines_in_the_same_folder_are_refused(datagen, made, contents):
    before = contents(made)
    outcome = datagen("lines", "--angle", 0, "--size", 50, 50, 50, "--out", made)
    assert outcome.code == 2
    assert "other settings (dataset: phantoms, now lines)" in outcome.error
    assert contents(made) == before


def test_more_volumes_of_the_same_settings_are_added(datagen, tmp_path, contents):
    command = ("lines", "--angle", 45, "--size", 50, 50, 50, "--count", 3, "--out", tmp_path)
    assert datagen(*command, "--number", 2).code == 0
    before = contents(tmp_path)
    assert datagen(*command, "--number", 3).code == 0
    after = contents(tmp_path)
    assert len(after) == len(before) + 2
    assert all(after[name] == before[name] for name in before if name.startswith("000"))
    assert after[SHEET_NAME] != before[SHEET_NAME]


@pytest.mark.parametrize(("limit", "jobs"), [(0, 1), (1000, 1), (300_000, 1), (300_000, 2)])
def test_a_full_disk(datagen, config, tmp_path, full_disk, limit, jobs):
    out, command = tmp_path / "a", ("phantoms", config(), "--jobs", jobs)
    out.mkdir()
    with full_disk(limit):
        outcome = datagen(*command, "--out", out)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "cannot write" in outcome.error
    assert str(out) in outcome.error
    assert [p.name for p in out.rglob("*") if p.is_file()] in ([], ["dataset.yaml"])


def test_a_disk_too_small_is_told_before_anything_is_made(datagen, config, tmp_path):
    outcome = datagen("phantoms", config(image_size=[100_000] * 3), "--out", tmp_path / "a")
    assert outcome.code == 2
    assert "40000000.00 GB are needed" in outcome.error
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs the proc file system")
def test_a_folder_that_takes_no_files(datagen, config):
    outcome = datagen("phantoms", config(), "--out", "/proc/self/out")
    assert outcome.code == 2
    assert "/proc/self/out" in outcome.error


@pytest.mark.parametrize("cut", [0, 50, 200_000])
def test_a_damaged_volume_is_named(datagen, config, made, tmp_path, cut):
    broken = made / "0002_labelz.npy"
    broken.write_bytes(broken.read_bytes()[:cut])
    (made / SHEET_NAME).unlink()
    outcome = datagen("phantoms", config(), "--out", tmp_path / "a")
    assert outcome.code == 2
    assert f"{broken}: damaged or cut short; delete it" in outcome.error


def children(pid):
    """Return the processes that a process has started, where the system tells."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_goes_on_to_the_same_result(datagen, config, made, tmp_path, contents, jobs):
    out = tmp_path / "b"
    command = [sys.executable, "-m", "datagen", "phantoms", config(), "--out", out]
    program = subprocess.Popen([*map(str, command), "--jobs", str(jobs)], stderr=subprocess.DEVNULL)
    while not list(out.rglob("0000_labelx.npy")):
        assert program.poll() is None
        time.sleep(0.002)
    workers = children(program.pid)
    program.kill()
    program.wait()
    # Workers see it and end, instead of writing on.
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    left = [p.name for p in (out / "set").iterdir()]
    assert SHEET_NAME not in left
    outcome = datagen("phantoms", config(), "--out", out)
    assert outcome.code == 0
    assert "0000_labelx.npy exists: skipped" in outcome.err
    after = contents(out / "set")
    assert {n: b for n, b in after.items() if not n.startswith(".")} == contents(made)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs the proc file system")
@pytest.mark.parametrize("when", ["starting", "drawing"])
def test_ctrl_c_leaves_nothing_half_written(config, tmp_path, when):
    out = tmp_path / "b"
    many = config(train_num=2, image_size=[300, 200, 200], train_object_num_max=60, valid_num=0)
    command = [sys.executable, "-m", "datagen", "phantoms", many, "--out", out, "--jobs", 2]
    program = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while len(children(program.pid)) < 2 or (
        when == "drawing" and not list(out.rglob(".*.partial"))
    ):
        assert program.poll() is None
        time.sleep(0.01)
    time.sleep(0.3 if when == "starting" else 0)
    os.killpg(program.pid, signal.SIGINT)  # all of them, as a terminal does
    _, err = program.communicate(timeout=60)
    assert program.returncode not in (0, None)
    assert "Traceback" not in err
    assert [p.name for p in out.rglob("*.npy*")] == []


@pytest.mark.parametrize("command", ["phantoms", "lines", "beads"])
def test_help_shows_an_example(datagen, command):
    outcome = datagen(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(rf"Example:\s+datagen {command} .*--out", outcome.out)


@pytest.mark.parametrize(
    "options", [("--seed", -1), ("--jobs", 0), ("--size", 0, 50, 50), ("--count", 0)]
)
def test_numbers_below_their_range_are_refused(datagen, tmp_path, options):
    outcome = datagen("lines", "--angle", 0, "--out", tmp_path / "a", *options)
    assert outcome.code == 2
    assert options[0] in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "a").exists()


def test_projections_of_middle_slabs():
    volume = np.random.default_rng(0).random((9, 12, 15)).astype(np.float32)
    for one, other in zip(
        slab_projections(iter(volume), volume.shape, None),
        orthogonal_projections(volume),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    xy, zx, yz = slab_projections(iter(volume), volume.shape, 3)
    np.testing.assert_array_equal(xy, volume[3:6].max(axis=0))
    np.testing.assert_array_equal(zx, volume[:, 4:7].max(axis=1))
    np.testing.assert_array_equal(yz, volume[:, :, 6:9].max(axis=2).T)
