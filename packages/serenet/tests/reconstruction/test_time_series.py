"""Time series to OME-Zarr: frame by frame, resumed, the same as one by one, and on a cluster."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from scopekit.images.files import open_stack, write_volume
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame
from scopekit.series import dask
from scopekit.series.store import begin_series
from serenet import save_checkpoint
from serenet.reconstruction.frame import FrameReconstructor
from serenet.reconstruction.setup import ReconstructOptions, set_up
from serenet.reconstruction.workers import ReconstructedFrames
from serenet.results.contents import digests, fingerprint
from serenet.results.workers import absolute_options, frame_job
from serenet.views.files import open_views

pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")

N_FRAMES = 4


@pytest.fixture
def frames(light_field):
    return np.stack([light_field(seed=s, height=10, width=12) for s in range(N_FRAMES)])


@pytest.fixture
def series_file(tmp_path, frames):
    path = tmp_path / "series.tif"
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TZYX"})
    return path


@pytest.fixture
def reconstruct(serenet, tmp_path, weights, small_psf):
    def call(*arguments, out=tmp_path / "out"):
        model = ("--checkpoint", weights["serenet"], "--psf", small_psf)
        return serenet("reconstruct", *arguments, *model, "--out", out, "--no-preview")

    return call


@pytest.fixture
def expected(reconstruct, series_file, tmp_path):
    """The frames' volumes, reconstructed as TIFF."""
    outcome = reconstruct(series_file, out=tmp_path / "expected")
    assert outcome.code == 0, outcome.err
    stack = open_stack(tmp_path / "expected" / "series_serenet.tif")
    return np.stack([stack.read(frame) for frame in range(N_FRAMES)])


def volumes(path):
    stack = open_stack(path)
    return np.stack([stack.read(frame) for frame in range(stack.n_frames)])


def settings_of(tmp_path, stem="series_serenet"):
    return yaml.safe_load((tmp_path / "out" / f"{stem}.yaml").read_text())


def visible(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_series_becomes_one_store(reconstruct, series_file, tmp_path, expected):
    assert reconstruct(series_file, "--format", "zarr").code == 0
    result = tmp_path / "out" / "series_serenet.ome.zarr"
    stack = open_stack(result)
    assert stack.voxel_um == pytest.approx((0.2, 0.1221, 0.1221), rel=1e-3)
    assert np.array_equal(volumes(result), expected)
    (alike,) = settings_of(tmp_path)["frames"]
    assert alike == {"frame": "0-3", "brightness_gain": 1.0, "tiles": 1}
    assert visible(tmp_path / "out") == ["series_serenet.ome.zarr", "series_serenet.yaml"]
    outcome = reconstruct(series_file, "--format", "zarr")
    assert outcome.code == 2
    assert "add --overwrite" in outcome.error


def test_zarr_gives_zarr_and_tiff_if_wanted(
    reconstruct, serenet, tmp_path, frames, expected, contents
):
    path = tmp_path / "series.ome.zarr"
    create_store(path, frames.shape, (1.0, 0.37, 0.37), "series")
    for frame, views in enumerate(frames):
        write_frame(path, frame, views)
    declare_whole(path, [])
    assert reconstruct(path).code == 0
    result = tmp_path / "out" / "series_serenet.ome.zarr"
    assert np.array_equal(volumes(result), expected)
    assert reconstruct(path, "--format", "tif").code == 0
    assert np.array_equal(volumes(result.with_name("series_serenet.tif")), expected)
    single = tmp_path / "one.zarr"
    create_store(single, frames.shape[1:], (1.0, 0.37, 0.37), "one")
    write_frame(single, 0, frames[2])
    assert reconstruct(single).code == 0
    one = tmp_path / "out" / "one_serenet.ome.zarr"
    assert np.array_equal(open_stack(one).read(), expected[2])
    # Volumes in OME-Zarr are welcome too.
    write_volume(tmp_path / "truth.tif", expected[2], (0.2, 0.122, 0.122), overwrite=False)
    outcome = serenet("compare", tmp_path / "truth.tif", one, "--out", tmp_path / "comparison")
    assert outcome.code == 0, outcome.err
    assert "1.0000" in outcome.out + outcome.err


def test_a_folder_is_a_series_whose_bad_frames_are_made_up_for(
    reconstruct, tmp_path, frames, expected
):
    folder = tmp_path / "series"
    folder.mkdir()
    for frame, views in enumerate(frames):
        tifffile.imwrite(folder / f"t{frame + 8}.tif", views)
    whole = (folder / "t10.tif").read_bytes()
    (folder / "t10.tif").write_bytes(whole[:3000])
    outcome = reconstruct(folder, "--format", "zarr")
    assert outcome.code == 2
    lines = [line for line in outcome.err.splitlines() if line.startswith("error:")]
    assert lines[0].startswith(f"error: frame 2: {folder / 't10.tif'}: damaged")
    assert "failed: frame 2; the other 3 of 4 are in" in lines[1]
    result = tmp_path / "out" / "series_serenet.ome.zarr"
    for frame in (0, 1, 3):
        assert np.array_equal(open_stack(result).read(frame), expected[frame])
    assert list(settings_of(tmp_path)["failed_frames"]) == [2]
    assert [made["frame"] for made in settings_of(tmp_path)["frames"]] == ["0-1", 3]

    (folder / "t10.tif").write_bytes(whole)
    assert reconstruct(folder, "--format", "zarr").code == 0
    assert np.array_equal(volumes(result), expected)
    assert "failed_frames" not in settings_of(tmp_path)
    assert visible(tmp_path / "out") == ["series_serenet.ome.zarr", "series_serenet.yaml"]


def test_if_all_frames_are_bad_nothing_is_left(reconstruct, tmp_path, frames):
    tifffile.imwrite(tmp_path / "bad.tif", np.full_like(frames, np.nan))
    outcome = reconstruct(tmp_path / "bad.tif", "--format", "zarr")
    assert outcome.code == 2
    assert "NaN" in outcome.err
    assert not (tmp_path / "out").exists()


# Kills itself while frame 2 is reconstructed.
KILLED = """
import os, sys
from serenet import cli
from serenet.reconstruction import frame as frame_reconstruction
whole = frame_reconstruction.FrameReconstructor.__call__
def deadly(self, stack, frame, target):
    if frame == 2:
        os.kill(os.getpid(), 9)
    return whole(self, stack, frame, target)
frame_reconstruction.FrameReconstructor.__call__ = deadly
sys.argv = ["serenet", *sys.argv[1:]]
cli.main()
"""


def test_a_killed_run_goes_on(
    reconstruct, serenet, series_file, tmp_path, weights, small_psf, expected, monkeypatch
):
    arguments = ("reconstruct", series_file, "--checkpoint", weights["serenet"], "--psf", small_psf)
    arguments = (*arguments, "--out", tmp_path / "out", "--format", "zarr", "--no-preview")
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], timeout=60)
    assert killed.returncode == -9
    assert not (tmp_path / "out" / "series_serenet.ome.zarr").exists()
    finished = {int(p.stem) for p in (tmp_path / "out").glob(".*.state/*.json")}
    assert {0} <= finished <= {0, 1}

    made = []
    whole = FrameReconstructor.__call__

    def watched(self, stack, frame, target):
        made.append(frame)
        return whole(self, stack, frame, target)

    monkeypatch.setattr(FrameReconstructor, "__call__", watched)
    outcome = serenet(*arguments)
    assert outcome.code == 0, outcome.err
    assert "going on where an interrupted run stopped" in outcome.err
    assert set(made) == set(range(N_FRAMES)) - finished
    assert np.array_equal(volumes(tmp_path / "out" / "series_serenet.ome.zarr"), expected)


@pytest.fixture
def interrupted_after_two(monkeypatch):
    """Press Ctrl-C when frame 2 begins; once."""
    whole = FrameReconstructor.__call__

    def impatient(self, stack, frame, target):
        if frame == 2:
            monkeypatch.setattr(FrameReconstructor, "__call__", whole)
            raise KeyboardInterrupt
        return whole(self, stack, frame, target)

    monkeypatch.setattr(FrameReconstructor, "__call__", impatient)


@pytest.mark.parametrize("replaced", ["checkpoint", "psf"])
def test_frames_of_another_file_of_the_same_name_are_not_mixed(
    serenet,
    series_file,
    tmp_path,
    weights,
    small_psf,
    interrupted_after_two,
    replaced,
    random_model,
):
    files = {"checkpoint": tmp_path / "network.pth", "psf": tmp_path / "psf.h5"}
    shutil.copy(weights["serenet"], files["checkpoint"])
    shutil.copy(small_psf, files["psf"])
    given = [argument for name in files for argument in (f"--{name}", files[name])]
    command = ("reconstruct", series_file, *given, "--out", tmp_path / "out", "--format", "zarr")
    assert serenet(*command).code not in (0, 2)
    if replaced == "checkpoint":
        other = random_model("serenet", seed=1, inChannels=49)
        save_checkpoint(files["checkpoint"], other, overwrite=True)
    else:
        with h5py.File(files["psf"], "r+") as file:
            file["psf"][...] *= 2
    outcome = serenet(*command)
    assert outcome.code == 2
    assert f"2 finished frames of other input or settings ({replaced} sha256)" in outcome.error
    assert serenet(*command, "--overwrite", "--no-preview").code == 0
    fresh = ("reconstruct", series_file, *given, "--out", tmp_path / "fresh", "--format", "zarr")
    assert serenet(*fresh).code == 0
    name = "series_serenet.ome.zarr"
    assert np.array_equal(volumes(tmp_path / "out" / name), volumes(tmp_path / "fresh" / name))


def test_maps_of_shifts_lie_beside_a_store_as_beside_a_file(reconstruct, series_file, tmp_path):
    aligned = ("--predao", "--predao-by", "subpixel")
    assert reconstruct(series_file, *aligned, "--format", "zarr").code == 0
    assert reconstruct(series_file, *aligned, out=tmp_path / "tiff").code == 0
    maps = [f"series_serenet_shifts_000{n}.csv" for n in range(N_FRAMES)]
    for name in maps:
        table = (tmp_path / "out" / name).read_text()
        assert table == (tmp_path / "tiff" / name).read_text()
    assert len({(tmp_path / "out" / name).read_text() for name in maps}) == N_FRAMES
    assert "view_shifts" not in (tmp_path / "out" / "series_serenet.yaml").read_text()


def test_deconvolution_of_a_series(serenet, tmp_path, frames, small_psf):
    tifffile.imwrite(tmp_path / "s.tif", frames[:3], imagej=True, metadata={"axes": "TZYX"})
    command = ("deconvolve", tmp_path / "s.tif", "--psf", small_psf, "--iterations", 1)
    command = (*command, "--out", tmp_path / "out", "--no-preview")
    assert serenet(*command).code == 0
    outcome = serenet(*command, "--format", "zarr")
    assert outcome.code == 0, outcome.err
    tiff = volumes(tmp_path / "out" / "s_deconvolved.tif")
    assert np.array_equal(volumes(tmp_path / "out" / "s_deconvolved.ome.zarr"), tiff)
    assert not list((tmp_path / "out").glob(".*"))


def test_motion_in_a_store_is_corrected_to_tiff(serenet, tmp_path, frames):
    path = tmp_path / "scan.zarr"
    create_store(path, (5, 12, 12), (1.0, 0.37, 0.37), "scan")
    write_frame(path, 0, np.pad(frames[0, :5], ((0, 0), (0, 2), (0, 0))))
    command = ("correct-motion", path, "--checkpoint", "demo_twnet", "--out", tmp_path / "out")
    outcome = serenet(*command)
    assert outcome.code == 0, outcome.err
    assert open_stack(tmp_path / "out" / "scan_twnet.tif").shape == (5, 12, 12)


def test_what_does_not_go_together(reconstruct, series_file, tmp_path):
    outcome = reconstruct(series_file, "--format", "zarr", "--dtype", "uint16")
    assert outcome.code == 2
    assert "--format tif" in outcome.error
    outcome = reconstruct(series_file, "--dask", "tcp://localhost:1", "--format", "tif")
    assert outcome.code == 2
    assert "--dask" in outcome.error


def test_a_scheduler_that_is_not_there(reconstruct, series_file, tmp_path):
    pytest.importorskip("distributed", reason="dask is an extra: pip install distributed")
    outcome = reconstruct(series_file, "--dask", tmp_path / "scheduler.json")
    assert outcome.code == 2
    assert "no such file" in outcome.error
    assert not (tmp_path / "out").exists()


def test_workers_take_shipped_weights_although_a_folder_has_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "own.pt").touch()
    for given, expected in (("demo", Path("demo")), ("own.pt", tmp_path / "own.pt")):
        options = ReconstructOptions(checkpoint=Path(given), out=Path("demo"))
        absolute = absolute_options(options)
        assert absolute.checkpoint == expected
        assert absolute.out == tmp_path / "demo"


def test_a_worker_takes_the_network_and_the_views_that_are_there_now(
    tmp_path, series_file, frames, weights, small_psf, random_model, monkeypatch
):
    monkeypatch.setattr(dask, "take_worker_share", lambda: None)
    monkeypatch.setattr(dask.console, "quiet", False)  # restored afterwards
    checkpoint = tmp_path / "network.pth"
    shutil.copy(weights["serenet"], checkpoint)
    options = ReconstructOptions(checkpoint=checkpoint, psf=small_psf, out=tmp_path, device="cpu")

    def made(name):
        """Reconstruct frame 0, as a worker that is told the present contents."""
        setup = set_up(options)
        stack, _ = open_views(series_file, setup.recorded)
        shape = (N_FRAMES, *setup.volume_shape(stack.shape[-2:]))
        series = begin_series(tmp_path / name, shape, (1, 1, 1), {}, overwrite=False)
        contents = str(digests(checkpoint=checkpoint))
        source = ReconstructedFrames(series_file, options, contents, str(fingerprint(stack)))
        assert frame_job(source, series)(0) is None
        return open_stack(series.store).read(0)

    first = made("a.ome.zarr")
    assert np.array_equal(made("b.ome.zarr"), first)
    save_checkpoint(checkpoint, random_model("serenet", seed=1, inChannels=49), overwrite=True)
    second = made("c.ome.zarr")
    assert not np.allclose(second, first)
    tifffile.imwrite(series_file, frames[::-1, :, :9], imagej=True, metadata={"axes": "TZYX"})
    assert made("d.ome.zarr").shape != second.shape


def test_refinement_on_a_cluster_of_which_a_worker_is_killed(
    reconstruct, series_file, tmp_path, cluster
):
    refined = ("--refine", 2, "--max-memory-gb", 3)
    assert reconstruct(series_file, *refined, out=tmp_path / "serial").code == 0
    died = tmp_path / "died"
    cluster.spoil("serenet.reconstruction.frame", "FrameReconstructor", "_refine", died)
    outcome = reconstruct(series_file, *refined, "--dask", cluster.address)
    assert died.exists()
    assert outcome.code == 0, outcome.err
    serial = volumes(tmp_path / "serial" / "series_serenet.tif")
    assert np.array_equal(volumes(tmp_path / "out" / "series_serenet.ome.zarr"), serial)


def test_deconvolution_on_a_cluster_of_which_a_worker_is_killed(
    serenet, tmp_path, series_file, small_psf, cluster, contents
):
    command = ("deconvolve", series_file, "--psf", small_psf, "--iterations", 2, "--no-preview")
    assert serenet(*command, "--out", tmp_path / "serial").code == 0
    died = tmp_path / "died"
    # After the first sweep of a frame: the worker that does the frame again goes on from there.
    cluster.spoil("serenet.deconvolution.resume", "SavedSweeps", "save", died)
    outcome = serenet(*command, "--out", tmp_path / "out", "--dask", cluster.address)
    assert died.exists()
    assert outcome.code == 0, outcome.err
    serial = volumes(tmp_path / "serial" / "series_deconvolved.tif")
    assert np.array_equal(volumes(tmp_path / "out" / "series_deconvolved.ome.zarr"), serial)
    assert not [name for name in contents(tmp_path / "out") if name.startswith(".")]
    outcome = serenet(*command, "--out", tmp_path / "out", "--dask", "tcp://x:1", "--format", "tif")
    assert "--dask" in outcome.error
