"""``datagen bubtub`` through the command line, with a small microscope of 25 views."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import tifffile
import torch
import yaml

from datagen.bubtub import groups as bubtub_groups
from datagen.bubtub.views import find_psf, plan_batches
from optics import (
    LightFieldOperator,
    phase_space_psf,
    presets,
    psf_shift,
    sample_views,
    write_psf,
)
from scopekit.images.files import open_stack
from scopekit.settings import read_yaml

DEPTHS_UM = (-0.4, -0.2, 0.0, 0.2, 0.4)
SIDE = 40


def small_microscope(**changes):
    """nnum13 with five views where it has thirteen."""
    values = {
        "n_num": 5,
        "microlens_pitch_um": 100 / 13 * 5,
        "microlens_focal_length_um": 2100 / 13 * 5,
        "depths_um": DEPTHS_UM,
        "views": tuple(range(25)),
    }
    return presets["nnum13"].model_copy(update=values | changes)


@pytest.fixture(scope="module")
def psfs(tmp_path_factory):
    """PSF files: all views, the same without scanning, and one that lacks views."""
    folder = tmp_path_factory.mktemp("psf")
    kinds = {
        "all": small_microscope(),
        "unscanned": small_microscope(scanning=1),
        "some": small_microscope(views=(12, 13)),
        "other": small_microscope(magnification=60.0),
    }
    for name, microscope in kinds.items():
        write_psf(folder / f"{name}.h5", phase_space_psf(microscope, size=21), microscope)
    psf = phase_space_psf(small_microscope(), size=21)
    torch.save(psf, folder / "plain.pt")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def bubtub(datagen, psfs):
    """Run ``datagen bubtub`` with the small microscope."""

    def call(out, *options, psf="all"):
        return datagen("bubtub", "--psf", psfs[psf], "--size", SIDE, "--out", out, *options)

    return call


def results(folder):
    """Return the bytes of the files a user sees."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not str(p.relative_to(folder)).startswith(".")
    }


def test_what_a_group_is(bubtub, tmp_path, psfs):
    assert bubtub(tmp_path, "--groups", 2, "--first", 9, "--seed", 3).code == 0
    assert sorted(results(tmp_path)) == [
        "GT_synthetic/group009.tif",
        "GT_synthetic/group010.tif",
        "bubtub.csv",
        "bubtub.png",
        "dataset.yaml",
        "x3_synthetic/group009_3x3.tif",
        "x3_synthetic/group010_3x3.tif",
    ]
    volume = open_stack(tmp_path / "GT_synthetic/group010.tif")
    views = open_stack(tmp_path / "x3_synthetic/group010_3x3.tif")
    pixel_um = 100 / 13 / 63
    assert (volume.shape, volume.dtype) == ((5, SIDE, SIDE), np.uint16)
    assert (views.shape, views.dtype) == ((25, 24, 24), np.uint16)
    assert volume.voxel_um == pytest.approx((0.2, pixel_um, pixel_um), rel=1e-4)
    assert views.voxel_um[1:] == pytest.approx((pixel_um * 5 / 3,) * 2, rel=1e-4)

    psf = phase_space_psf(small_microscope(), size=21)
    images = LightFieldOperator(psf).forward(torch.from_numpy(volume.read()))
    expected = sample_views(images, 5 / 3).clamp(min=0).numpy()
    assert expected.max() > 20
    np.testing.assert_allclose(views.read(), expected, atol=0.502)

    settings = read_yaml(tmp_path / "dataset.yaml")
    assert (settings["seed"], settings["size"], settings["n_num"]) == (3, SIDE, 5)
    with (tmp_path / "bubtub.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["kind"] for row in rows] == ["bubbles", "beads"]
    stored = tifffile.imread(volume.path)
    assert int(rows[1]["maximum"]) == stored.max()
    assert float(rows[1]["mean"]) == pytest.approx(stored.mean(), abs=1e-4)
    assert float(rows[1]["nonzero_percent"]) == pytest.approx(100 * (stored > 0).mean(), abs=1e-4)


def test_views_see_depth_from_their_side(bubtub, tmp_path):
    # The shift between opposite views tells the depth of what they show.
    assert bubtub(tmp_path, "--groups", 1, "--first", 14).code == 0
    volume = tifffile.imread(tmp_path / "GT_synthetic/group014.tif").astype(float)
    views = tifffile.imread(tmp_path / "x3_synthetic/group014_3x3.tif").astype(float)
    shift = psf_shift(phase_space_psf(small_microscope(), size=21)).numpy()
    weight = volume.sum(axis=(1, 2)) / volume.sum()
    x = np.arange(24) - 11.5
    centre = (volume.sum(axis=(0, 1)) @ (np.arange(SIDE) - (SIDE - 1) / 2)) / volume.sum()
    for view in (11, 12, 13):
        found = (views[view].sum(axis=0) @ x) / views[view].sum() * 5 / 3
        assert found == pytest.approx(centre + weight @ shift[view, :, 1], abs=0.3)


def test_unscanned_light_fields_are_sampled_at_the_lens_centres(bubtub, tmp_path):
    assert bubtub(tmp_path, "--groups", 1, "--first", 10, psf="unscanned").code == 0
    volume = open_stack(tmp_path / "GT_synthetic/group010.tif").read()
    views = open_stack(tmp_path / "x1_synthetic/group010_1x1.tif")
    assert views.shape == (25, 8, 8)
    assert views.voxel_um[1:] == pytest.approx((100 / 13 * 5 / 63,) * 2, rel=1e-4)
    psf = phase_space_psf(small_microscope(), size=21)
    images = LightFieldOperator(psf).forward(torch.from_numpy(volume)).numpy()
    np.testing.assert_allclose(views.read(), images[:, 2::5, 2::5].clip(0), atol=0.502)


def test_a_group_is_the_same_alone_with_others_and_by_any_workers(
    bubtub, tmp_path, monkeypatch, terminal
):
    alone, others, workers, threads = (
        tmp_path / name for name in ("alone", "others", "workers", "threads")
    )
    assert bubtub(alone, "--groups", 1, "--first", 2).code == 0
    assert bubtub(others, "--groups", 3).code == 0
    done = bubtub(workers, "--groups", 3, "--jobs", 2)
    assert done.code == 0
    assert "9/9" in done.err  # a volume and two batches of views each
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert bubtub(threads, "--groups", 3).code == 0
    assert results(others) == results(workers) == results(threads)
    for name in ("GT_synthetic/group002.tif", "x3_synthetic/group002_3x3.tif"):
        assert (alone / name).read_bytes() == (others / name).read_bytes()
    assert (others / "GT_synthetic/group001.tif").read_bytes() != (
        others / "GT_synthetic/group002.tif"
    ).read_bytes()


def test_a_second_run_says_what_exists_and_goes_on(bubtub, tmp_path):
    assert bubtub(tmp_path, "--groups", 1).code == 0
    before = results(tmp_path)
    again = bubtub(tmp_path, "--groups", 1)
    assert again.code == 2
    assert "group001.tif exists" in again.error
    assert "--overwrite" in again.error
    assert results(tmp_path) == before
    more = bubtub(tmp_path, "--groups", 2)
    assert more.code == 0
    assert "group001.tif exists: skipped" in more.err
    after = results(tmp_path)
    assert before.items() - after.items() == {
        (name, before[name]) for name in ("bubtub.csv", "bubtub.png")
    }
    assert b"2,tubes" in after["bubtub.csv"]
    # A table or picture that is gone is made again.
    (tmp_path / "bubtub.png").unlink()
    assert bubtub(tmp_path, "--groups", 2).code == 0
    assert results(tmp_path) == after
    # One of fewer groups too.
    (tmp_path / "bubtub.csv").write_bytes(before["bubtub.csv"])
    assert bubtub(tmp_path, "--groups", 2).code == 0
    assert results(tmp_path) == after


def test_groups_of_other_settings_are_not_mixed_in(bubtub, tmp_path):
    assert bubtub(tmp_path, "--groups", 1).code == 0
    before = results(tmp_path)
    for options, psf, named in (
        (("--seed", 1), "all", "seed: 0, now 1"),
        (("--size", 20), "all", "size: 40, now 20"),
        ((), "other", "psf"),
    ):
        refused = bubtub(tmp_path, "--groups", 2, *options, psf=psf)
        assert refused.code == 2
        assert str(tmp_path) in refused.error
        assert named in refused.error
        assert len(refused.error) < 400
    assert results(tmp_path) == before


def test_overwriting(bubtub, tmp_path):
    assert bubtub(tmp_path, "--groups", 2, "--first", 10).code == 0
    before = results(tmp_path)
    (tmp_path / "GT_synthetic/group010.tif").write_bytes(b"spoilt")
    # Of the same settings only the groups asked for are made anew.
    assert bubtub(tmp_path, "--groups", 1, "--first", 10, "--overwrite").code == 0
    assert results(tmp_path) == before
    # Of other settings none is left.
    assert bubtub(tmp_path, "--groups", 1, "--first", 12, "--seed", 1, "--overwrite").code == 0
    assert [p.name for p in (tmp_path / "GT_synthetic").iterdir()] == ["group012.tif"]
    assert [p.name for p in (tmp_path / "x3_synthetic").iterdir()] == ["group012_3x3.tif"]


# Kills itself when so many batches of views are done, the next one half-written.
KILLED = """
import os, signal, sys
from datagen import cli
from datagen.bubtub import groups as bubtub_groups
whole, after = bubtub_groups.project, int(sys.argv.pop(1))
def project(*arguments):
    global after
    after -= 1
    if after < 0:
        open(os.path.join(sys.argv[-1], ".bubtub_parts", ".group002_views01.npy.partial"), "w")
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)
bubtub_groups.project = project
sys.argv[0] = "datagen"
cli.main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_run_is_continued_without_redoing_its_parts(bubtub, tmp_path, psfs, monkeypatch):
    out, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    command = ["bubtub", "--psf", psfs["all"], "--size", SIDE, "--groups", 2, "--out", out]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "3", *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # one batch after the other
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert sorted(results(out)) == [
        "GT_synthetic/group001.tif",
        "dataset.yaml",
        "x3_synthetic/group001_3x3.tif",
    ]

    drawn, projected = [], []
    project = bubtub_groups.project
    monkeypatch.setattr(bubtub_groups, "draw_volume", lambda *_: drawn.append(1))
    monkeypatch.setattr(bubtub_groups, "project", lambda *a: projected.append(1) or project(*a))
    assert bubtub(out, "--groups", 2).code == 0
    assert (len(drawn), len(projected)) == (0, 1)
    assert not (out / ".bubtub_parts").exists()
    monkeypatch.undo()
    assert bubtub(uninterrupted, "--groups", 2).code == 0
    assert results(out) == results(uninterrupted)


def test_workers_end_with_the_program(tmp_path, psfs):
    command = ["bubtub", "--psf", psfs["all"], "--size", SIDE, "--groups", 500, "--jobs", 2]
    program = subprocess.Popen(
        [sys.executable, "-m", "datagen", *map(str, command), "--out", str(tmp_path)],
        stderr=subprocess.DEVNULL,
    )
    assert comes_true(lambda: list(tmp_path.glob(".bubtub_parts/group*")))
    children = psutil.Process(program.pid).children()
    program.kill()
    program.wait()
    assert len(children) >= 2
    assert comes_true(lambda: not any(is_at_work(child) for child in children))


def comes_true(condition, within_s=60):
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def is_at_work(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("limit", "jobs"), [(0, 1), (3000, 1), (20_000, 1), (5000, 2)])
def test_a_full_disk(bubtub, tmp_path, contents, full_disk, limit, jobs):
    out = tmp_path / "out"
    out.mkdir()
    with full_disk(limit):
        refused = bubtub(out, "--groups", 2, "--jobs", jobs)
    assert refused.code == 2
    assert str(out) in refused.error
    assert "Traceback" not in refused.err
    assert set(results(out)) <= {"dataset.yaml"}
    assert not [name for name in contents(out) if ".partial" in name]
    assert bubtub(out, "--groups", 2).code == 0
    assert not [name for name in contents(out) if ".partial" in name]


def test_a_disk_too_small_is_told_before_the_work(bubtub, tmp_path, contents, monkeypatch):
    import shutil

    free = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    refused = bubtub(tmp_path / "out")
    assert refused.code == 2
    assert "MB are needed, 10.00 kB are free" in refused.error
    assert contents(tmp_path / "out") == {}


def test_the_microscope_may_be_a_yaml_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small_microscope().model_dump(mode="json")))
    psf = find_psf(str(path), None)
    assert psf.microscope == small_microscope()
    assert psf.read([3, 12]).shape == (2, len(DEPTHS_UM), 75, 75)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--microscope", "nnum13", "--size", 430), "nearest: 429 or 442"),
        (("--microscope", "nnum13", "--size", 5), "nearest: 13 or 26"),
        (("--microscope", "nnum15", "--size", 4000), "nearest: 2025"),
        (("--microscope", "nnum14"), "nnum13, nnum15"),
        (("--preset", "nnum14"), "nnum13, nnum15"),
        (("--microscope", "{plain}"), "neither a preset"),
        ((), "give the microscope (nnum13, nnum15, or a YAML file), or a PSF file"),
        (("--psf", "missing.h5"), "missing.h5: no such file"),
        (("--psf", "{some}"), "all 25 are needed; make it with 'serenet psf"),
        (("--psf", "{plain}"), "does not tell its microscope: name it as well"),
        (("--psf", "{plain}", "--microscope", "nnum13"), "all 169 are needed"),
        (
            ("--psf", "{all}", "--microscope", "nnum13"),
            "tells its microscope: do not name it as well",
        ),
    ],
)
def test_wrong_options(datagen, tmp_path, contents, psfs, options, told):
    filled = [str(o).format(**psfs) for o in options]
    refused = datagen("bubtub", *filled, "--out", tmp_path / "out")
    assert refused.code == 2
    assert told in refused.error
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("n_num", [5, 13, 15])
def test_batches_hold_every_view_once_and_octants_together(n_num):
    batches = plan_batches(n_num)
    assert sorted(a for batch in batches for a in batch) == list(range(n_num**2))
    assert max(len(batch) for batch in batches) == 13
    # Views that differ by mirrors and turns follow each other: each batch adds one kind at most.
    middle = n_num // 2
    kinds = [
        {tuple(sorted(abs(n - middle) for n in divmod(a, n_num))) for a in batch}
        for batch in batches
    ]
    assert sum(len(k) for k in kinds) < len(set().union(*kinds)) + len(batches)
