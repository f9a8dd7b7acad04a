"""``serenet deconvolve``: quality, result files, resuming, windows, memory."""

import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
import yaml

from optics import (
    LightFieldOperator,
    open_psf,
    phase_space_psf,
    presets,
    sample_views,
    write_psf,
)
from scopekit.images.files import open_stack
from scopekit.memory import MemoryBudget
from serenet.deconvolution import frame as deconvolution_frame
from serenet.views.refocusing import decompose

COMMAND = (sys.executable, "-m", "serenet", "deconvolve")


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


@pytest.fixture(scope="module")
def scope():
    """The nnum13 microscope with its 25 central views and 9 planes 1 um apart."""
    whole = presets["nnum13"]
    depths = tuple(float(z) for z in range(-4, 5))
    return whole.with_depths(depths).with_views(whole.views[:25])


@pytest.fixture(scope="module")
def psf(tmp_path_factory, scope):
    path = tmp_path_factory.mktemp("psf") / "psf.h5"
    write_psf(path, phase_space_psf(scope, size=51), scope)
    return path


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, psf, scope):
    """Views (25, 33, 30) on disk, on a pedestal of 100, and the volume of blobs they show."""
    generator = np.random.default_rng(0)
    height, width = 143, 130
    truth = np.zeros((9, height, width), np.float32)
    y, x = np.mgrid[:height, :width]
    for _ in range(30):
        row, column = generator.uniform(0, height), generator.uniform(0, width)
        blob = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 32)
        truth[generator.integers(0, 9)] += blob
    operator = LightFieldOperator(open_psf(psf).read())
    views = sample_views(operator.forward(torch.from_numpy(truth)), scope.lateral_scale)
    views = generator.poisson(views.clamp(min=0) * (500 / views.max())) + 100
    path = tmp_path_factory.mktemp("views") / "views.tif"
    tifffile.imwrite(path, views.astype(np.float32))
    return path, truth


@pytest.fixture
def deconvolve(serenet, tmp_path, simulated, psf):
    def call(*arguments, out="out", optics=("--psf", psf), source=simulated[0]):
        common = (source, "--out", tmp_path / out, "--background", 100)
        return serenet("deconvolve", *common, *optics, *arguments)

    return call


@pytest.fixture
def result(tmp_path):
    def read(out="out", stem="views_deconvolved", frame=0):
        return open_stack(tmp_path / out / f"{stem}.tif").read(frame)

    return read


def record_of(folder, stem="views_deconvolved"):
    return yaml.safe_load((folder / f"{stem}.yaml").read_text())


def test_finds_the_truth(deconvolve, result, simulated, psf, scope):
    assert deconvolve("--iterations", 2).code == 0
    path, truth = simulated
    views = torch.from_numpy(tifffile.imread(path)) - 100
    shift = open_psf(psf).read_shift() / scope.lateral_scale
    refocused = F.interpolate(decompose(views, shift).mean(0)[None], size=truth.shape[1:])[0]
    volume = result()
    assert volume.shape == truth.shape
    assert volume.min() >= 0
    before, after = correlation(refocused, truth), correlation(volume, truth)
    assert after > 0.8
    assert after > before + 0.3


def test_leaves_volume_picture_and_settings(deconvolve, tmp_path, contents, scope, terminal):
    outcome = deconvolve("--iterations", 2, "--tv", 0.01)
    assert outcome.code == 0
    folder = tmp_path / "out"
    assert contents(folder) == [f"views_deconvolved{end}" for end in (".png", ".tif", ".yaml")]
    assert "deviance" in outcome.err
    record = record_of(folder)
    assert record["iterations"] == 2
    assert record["tv"] == 0.01
    assert record["background"] == 100
    (frame,) = record["frames"]
    assert frame["windows"] == 1
    first, second = frame["deviance_per_sweep"][0]
    assert second < 0.5 * first
    step = scope.voxel_um
    stack = open_stack(folder / "views_deconvolved.tif")
    assert stack.voxel_um == pytest.approx(step, rel=1e-3)


def test_longer_steps_fit_better_in_as_many_sweeps(deconvolve, tmp_path, monkeypatch):
    deviance = {}
    for name, exponent in (("as it is", deconvolution_frame.EXPONENT), ("classical", 1.0)):
        monkeypatch.setattr(deconvolution_frame, "EXPONENT", exponent)
        assert deconvolve("--no-preview", "--iterations", 2, out=name).code == 0
        (sweeps,) = record_of(tmp_path / name)["frames"][0]["deviance_per_sweep"]
        deviance[name] = sweeps[-1]
    assert deviance["as it is"] < deviance["classical"]


def test_total_variation_smooths(deconvolve, result):
    assert deconvolve("--no-preview", "--iterations", 1).code == 0
    assert deconvolve("--no-preview", "--iterations", 1, "--tv", 0.05, out="tv").code == 0
    rough, smooth = (np.abs(np.diff(v)).sum() / v.sum() for v in (result(), result("tv")))
    assert smooth < 0.96 * rough


def test_stops_when_a_sweep_changes_little(deconvolve, tmp_path):
    assert deconvolve("--iterations", 9, "--stop-at-change", 0.5, "--no-preview").code == 0
    (sweeps,) = record_of(tmp_path / "out")["frames"][0]["deviance_per_sweep"]
    assert 1 <= len(sweeps) < 9


def test_computes_the_psf_of_the_optics(deconvolve, tmp_path, result, scope):
    optics = tmp_path / "scope.yaml"
    settings = scope.model_dump(mode="json")
    settings["views"] = settings["views"][:5]
    optics.write_text(yaml.safe_dump(settings))
    some = tmp_path / "some.tif"
    tifffile.imwrite(some, np.random.default_rng(0).poisson(50, (5, 12, 12)).astype(np.float32))
    arguments = ("--no-preview", "--iterations", 1)
    assert deconvolve(*arguments, optics=("--microscope", optics), source=some).code == 0
    assert result(stem="some_deconvolved").shape == (9, 52, 52)
    assert record_of(tmp_path / "out", "some_deconvolved")["psf"] == "computed from the optics"


def test_voxels_can_be_coarser(deconvolve, tmp_path, result, scope):
    optics = tmp_path / "scope.yaml"
    settings = scope.model_dump(mode="json") | {"scanning": 1, "views": list(scope.views[:6])}
    optics.write_text(yaml.safe_dump(settings))
    some = tmp_path / "some.tif"
    tifffile.imwrite(some, np.random.default_rng(0).poisson(50, (6, 12, 12)).astype(np.float32))
    arguments = ("--no-preview", "--iterations", 1, "--supersample", 5)
    assert deconvolve(*arguments, optics=("--microscope", optics), source=some).code == 0
    assert result(stem="some_deconvolved").shape == (9, 60, 60)
    voxel = open_stack(tmp_path / "out/some_deconvolved.tif").voxel_um
    assert voxel[1] == pytest.approx(100 / 63 / 5, rel=1e-3)
    outcome = deconvolve(*arguments)
    assert outcome.code == 2
    assert "--supersample 5" in outcome.error


def test_series_are_deconvolved_frame_by_frame(deconvolve, tmp_path, result, simulated):
    views = tifffile.imread(simulated[0])[:, :15, :12]
    for name, stack in (("series", np.stack([views, 2 * views])), ("single", 2 * views)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack)
        source = tmp_path / f"{name}.tif"
        assert deconvolve("--no-preview", "--iterations", 1, source=source).code == 0
    np.testing.assert_array_equal(
        result(stem="series_deconvolved", frame=1), result(stem="single_deconvolved")
    )


@pytest.mark.parametrize(
    ("arguments", "optics", "message"),
    [
        ((), (), "give the PSF as a file, or the microscope"),
        ((), ("--psf", "missing.h5"), "missing.h5"),
        (("--microscope", "nnum15"), None, "the PSF of another microscope than the one named"),
        (("--max-memory-gb", "0.1"), None, "--max-memory-gb 0.10"),
    ],
)
def test_wrong_arguments_are_named(deconvolve, tmp_path, contents, arguments, optics, message):
    options = {} if optics is None else {"optics": optics}
    outcome = deconvolve(*arguments, **options)
    assert outcome.code == 2
    assert message in outcome.error
    assert not [name for name in contents(tmp_path) if name.endswith(".tif")]


def test_existing_results_are_kept(deconvolve, tmp_path):
    assert deconvolve("--iterations", 1, "--no-preview").code == 0
    volume = tmp_path / "out/views_deconvolved.tif"
    kept = volume.read_bytes()
    for other in (("--iterations", 1), ("--iterations", 2, "--tv", 0.01)):
        outcome = deconvolve(*other, "--no-preview")
        assert outcome.code == 2
        assert "add --overwrite" in outcome.error
        assert volume.read_bytes() == kept
    assert deconvolve("--iterations", 2, "--no-preview", "--overwrite").code == 0
    assert volume.read_bytes() != kept


def interrupt(arguments, folder, sweeps):
    """Start a run and kill it once its state holds so many sweeps."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    state = folder / ".views_deconvolved.state/frame0_window0.npz"
    end = time.monotonic() + 600  # on a busy machine it takes long to start
    while process.poll() is None and time.monotonic() < end:
        if state.exists() and len(np.load(state)["fits"]) >= sweeps:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def interrupted(simulated, psf, tmp_path_factory):
    """Arguments of a run of 6 sweeps, and the folder it left when killed after the second."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = (simulated[0], "--psf", psf, "--no-preview", "--iterations", 6)
    interrupt((*arguments, "--out", folder), folder, 2)
    assert not (folder / "views_deconvolved.tif").exists()
    return arguments, folder


def test_a_killed_run_goes_on_to_the_same_bytes(serenet, interrupted, tmp_path, contents):
    arguments, left = interrupted
    shutil.copytree(left, tmp_path / "out")
    outcome = serenet("deconvolve", *arguments, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "going on where an interrupted run stopped" in outcome.err
    assert serenet("deconvolve", *arguments, "--out", tmp_path / "whole").code == 0
    for name in ("views_deconvolved.tif", "views_deconvolved.yaml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "changed", [("--iterations", 1), ("--tv", 0.01), ("--background", 90), "data"]
)
def test_other_settings_or_data_start_anew(serenet, interrupted, tmp_path, simulated, changed):
    arguments, left = interrupted
    shutil.copytree(left, tmp_path / "out")
    stat = os.stat(simulated[0])
    if changed == "data":
        os.utime(simulated[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    else:
        arguments = (*arguments, *changed)
    outcome = serenet("deconvolve", *arguments, "--out", tmp_path / "out")
    os.utime(simulated[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert outcome.code == 0
    assert "going on" not in outcome.err


@pytest.mark.parametrize("also", [(), ("--overwrite",)])
def test_other_windows_start_anew(serenet, interrupted, tmp_path, monkeypatch, also):
    arguments, left = interrupted
    less = MemoryBudget(83_000_000, 83_000_000)
    monkeypatch.setattr(deconvolution_frame, "memory_budget", lambda *_: less)
    shutil.copytree(left, tmp_path / "out")
    outcome = serenet("deconvolve", *arguments, *also, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "the memory allows other windows" in outcome.err
    assert record_of(tmp_path / "out")["frames"][0]["windows"] > 1
    assert serenet("deconvolve", *arguments, "--out", tmp_path / "whole").code == 0
    names = [tmp_path / out / "views_deconvolved.tif" for out in ("out", "whole")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_another_psf_of_the_same_name_starts_anew(serenet, interrupted, tmp_path, psf):
    arguments, left = interrupted
    content = psf.read_bytes()
    shutil.copytree(left, tmp_path / "out")
    try:
        with h5py.File(psf, "r+") as file:
            file["psf"][0] *= 0.5
        outcome = serenet("deconvolve", *arguments, "--out", tmp_path / "out")
    finally:
        psf.write_bytes(content)
    assert outcome.code == 0, outcome.err
    assert "going on" not in outcome.err
