"""``tenet enhance``: recordings on disk to results on disk."""

import csv
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
import yaml
from scipy.ndimage import label

from scopekit.images.files import open_stack, write_volume
from tenet.config.files import load_config
from tenet.enhancement.stack import enhance
from tenet.network.jnet import JNet

VOXEL_UM = (0.8, 0.2, 0.2)
FILES = [
    "tenet.png",
    "tenet.yaml",
    "tenet_brightness.tif",
    "tenet_labels.tif",
    "tenet_mask.tif",
    "tenet_objects.csv",
    "tenet_reconstruction.tif",
    "tenet_structure.tif",
]


def stack_of(*shape):
    return np.random.default_rng(0).integers(90, 400, shape, dtype=np.uint16).astype(np.float32)


@pytest.fixture
def setting(write_config, tmp_path, monkeypatch):
    """Return configuration and model, which lie beside the inputs; work there."""
    monkeypatch.chdir(tmp_path)
    config = load_config(write_config())
    torch.manual_seed(0)
    model = JNet(config.params).eval()
    torch.save(model.state_dict(), "model.pt")
    return config, model


@pytest.fixture
def run(setting, tenet):
    """Return ``run(*arguments)``: `tenet enhance` of them into the folder out."""

    def call(*arguments):
        fixed = ("--config", "small.json", "--checkpoint", "model.pt", "--out", "out")
        return tenet("enhance", *arguments, *fixed, "--device", "cpu")

    return call


def test_values_that_are_0_and_1_can_be_named(run, setting, tmp_path):
    volume = stack_of(2, 9, 8)
    write_volume(tmp_path / "cell.tif", volume, VOXEL_UM, overwrite=False)
    done = run("cell.tif", "--value-range", "100", "1000")
    assert done.returncode == 0, done.stderr
    expected = enhance(setting[1], torch.from_numpy(volume), value_range=(100, 1000))
    structure = tifffile.imread(tmp_path / "out" / "cell_tenet_structure.tif")
    np.testing.assert_allclose(structure, expected.structure.numpy(), atol=1e-5)
    settings = yaml.safe_load((tmp_path / "out" / "cell_tenet.yaml").read_text())
    assert settings["recorded_range"] == [100, 1000]
    done = run("cell.tif", "--threshold", "0.3")
    assert "exists, made with another value_range, threshold: skipped" in done.stderr
    done = run("cell.tif", "--value-range", "500", "600", "--overwrite")
    assert done.returncode == 2
    assert "all lie outside --value-range 500 600" in done.stderr
    done = run("cell.tif", "--value-range", "7", "7", "--overwrite")
    assert done.returncode == 2
    assert "--value-range 7 7: give the lower value first" in done.stderr


def results(tmp_path):
    folder = tmp_path / "out"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_recording_gives_volumes_objects_table_picture_and_settings(run, setting, tmp_path):
    volume = stack_of(3, 20, 17)
    write_volume(tmp_path / "cell.tif", volume, VOXEL_UM, overwrite=False)
    expected = enhance(setting[1], torch.from_numpy(volume))
    threshold = float(expected.structure.quantile(0.98))
    done = run("cell.tif", "--threshold", f"{threshold:.6f}")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == [f"cell_{name}" for name in FILES]
    for name, step in (("structure", 0.2), ("brightness", 0.2), ("reconstruction", 0.8)):
        path = tmp_path / "out" / f"cell_tenet_{name}.tif"
        np.testing.assert_allclose(
            tifffile.imread(path), getattr(expected, name).numpy(), atol=1e-5
        )
        assert open_stack(path).voxel_um == pytest.approx((step, 0.2, 0.2))

    mask = tifffile.imread(tmp_path / "out" / "cell_tenet_mask.tif")
    labels = tifffile.imread(tmp_path / "out" / "cell_tenet_labels.tif")
    assert set(np.unique(mask)) == {0, 255}
    assert (mask > 0).mean() == pytest.approx(0.02, abs=0.002)
    number = label(mask, np.ones((3, 3, 3)))[1]
    assert number == labels.max() > 1
    with (tmp_path / "out" / "cell_tenet_objects.csv").open() as handle:
        table = list(csv.DictReader(handle))
    assert [int(row["label"]) for row in table] == list(range(1, number + 1))
    total = sum(float(row["volume_um3"]) for row in table)
    assert total == pytest.approx((mask > 0).sum() * 0.2**3, rel=1e-4)

    settings = yaml.safe_load((tmp_path / "out" / "cell_tenet.yaml").read_text())
    assert settings["threshold"] == pytest.approx(threshold, abs=1e-5)
    assert settings["objects"] == number
    assert settings["voxel_um"] == pytest.approx({"z": 0.2, "y": 0.2, "x": 0.2})
    assert settings["recorded_range"] == [volume.min(), volume.max()]
    assert settings["params"]["scale"] == 4


def test_a_series_is_enhanced_point_by_point_but_for_the_bad_one(run, setting, tmp_path):
    series = stack_of(3, 1, 2, 12, 10)
    series[1, 0, 1, 3, 4] = np.nan
    np.save(tmp_path / "day.npy", series)
    done = run("day.npy")
    assert done.returncode == 2
    assert "error: day.npy, time point 1: NaN or infinite values" in done.stderr
    assert "1 of 3 time points failed (time point 1), the rest is done" in done.stderr
    assert results(tmp_path) == [f"day_t{t}_{name}" for t in ("000", "002") for name in FILES]
    for point in (0, 2):
        expected = enhance(setting[1], torch.from_numpy(series[point, 0]))
        found = tifffile.imread(tmp_path / "out" / f"day_t{point:03d}_tenet_structure.tif")
        np.testing.assert_allclose(found, expected.structure.numpy(), atol=1e-5)

    killed = tmp_path / "out" / ".day_t000_tenet.lock"  # when the results were there already
    killed.touch()
    again = run("day.npy")
    assert again.returncode == 2
    assert again.stderr.count("exists: skipped") == 2
    assert not killed.exists()
    wanted = run("day.npy", "--time-points", "2")
    assert "all results exist" in wanted.stderr
    assert run("day.npy", "--time-points", "3").returncode == 2


def test_a_batch_goes_on_after_a_bad_file_and_takes_up_what_is_left(run, tmp_path):
    folder = tmp_path / "day"
    folder.mkdir()
    write_volume(folder / "a.tif", stack_of(2, 12, 10), VOXEL_UM, overwrite=False)
    (folder / "b.tif").write_bytes((folder / "a.tif").read_bytes()[:-300])
    torch.save(torch.from_numpy(stack_of(1, 2, 9, 11)), folder / "c.pt")
    np.save("d.npy", stack_of(2, 9, 9))
    first = run("day", "d.npy")
    assert first.returncode == 2
    assert "b.tif: damaged or cut short" in first.stderr
    assert "1 of 4 inputs failed, the rest is done: day/b.tif" in first.stderr
    assert results(tmp_path) == [f"{name}_{file}" for name in "acd" for file in FILES]

    write_volume(folder / "b.tif", stack_of(2, 12, 10), VOXEL_UM, overwrite=True)
    (tmp_path / "out" / ".b_tenet.partial").mkdir()
    (tmp_path / "out" / ".b_tenet.partial" / "result_structure.tif").touch()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("[acd]_*")}
    second = run("day", "d.npy")
    assert second.returncode == 0, second.stderr
    assert results(tmp_path) == [f"{name}_{file}" for name in "abcd" for file in FILES]
    assert times == {path: path.stat().st_mtime_ns for path in times}
    third = run("day", "d.npy")
    assert third.returncode == 2
    assert third.stderr.splitlines()[-1].startswith("error: out: all results exist (4 inputs)")
    assert run("d.npy", "--overwrite").returncode == 0


def test_results_beside_their_recordings_are_not_enhanced_again(run, tmp_path, tenet):
    (tmp_path / "out").mkdir()
    write_volume(tmp_path / "out" / "a.tif", stack_of(2, 12, 10), VOXEL_UM, overwrite=False)
    assert run("out").returncode == 0
    assert run("out", "--overwrite").returncode == 0
    assert results(tmp_path) == sorted(["a.tif", *(f"a_{name}" for name in FILES)])


def test_numbers_of_16_bits_are_of_full_range(run, setting, tmp_path):
    volume = stack_of(2, 12, 10)
    write_volume(tmp_path / "a.tif", volume, VOXEL_UM, overwrite=False)
    done = run("a.tif", "--dtype", "uint16")
    assert done.returncode == 0
    assert "a.tif structure: stored value = " in done.stderr
    factors = yaml.safe_load((tmp_path / "out" / "a_tenet.yaml").read_text())["uint16_factors"]
    expected = enhance(setting[1], torch.from_numpy(volume))
    for name, factor in factors.items():
        found = tifffile.imread(tmp_path / "out" / f"a_tenet_{name}.tif")
        assert (found.dtype, found.max()) == (np.uint16, 65535)
        np.testing.assert_allclose(found / factor, getattr(expected, name).numpy(), atol=2e-5)


def test_views_of_a_light_field_are_doubted(run, tmp_path):
    tifffile.imwrite(tmp_path / "views.tif", stack_of(9, 9, 8).astype(np.uint16))
    outcome = run("views.tif")
    assert outcome.returncode == 0, outcome.stderr
    assert "views.tif: 9 pages without a step along z: if they are 3 x 3 views" in outcome.stderr
    assert "'serenet check' tells" in outcome.stderr


def test_a_store_without_the_package_is_told_before_any_work(run, tmp_path, monkeypatch):
    np.save(tmp_path / "cell.npy", stack_of(2, 9, 8))
    monkeypatch.setitem(sys.modules, "zarr", None)
    outcome = run("cell.npy", "--format", "zarr")
    assert outcome.returncode == 2
    assert outcome.stderr.strip().count("\n") == 0
    assert "run 'pip install zarr'" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_voxels_unlike_those_of_the_training_are_told(run, tmp_path):
    volume = stack_of(2, 12, 10)
    write_volume(tmp_path / "a.tif", volume, (0.8, 0.3, 0.3), overwrite=False)
    np.save("b.npy", volume)
    done = run("a.tif", "b.npy")
    assert done.returncode == 0
    assert "warning: a.tif: voxels of 0.8 x 0.3 x 0.3 um" in done.stderr
    assert "b.npy: tells no voxel size; taken from the configuration" in done.stderr
    steps = [
        open_stack(tmp_path / "out" / f"{name}_tenet_mask.tif").voxel_um for name in ("a", "b")
    ]
    assert np.allclose(steps, [(0.2, 0.3, 0.3), (0.2, 0.2, 0.2)], rtol=1e-5)


def hole():
    volume = stack_of(2, 9, 9)
    volume[1, 2, 3] = np.inf
    return volume


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.ones((2, 9, 9), np.float32), "constant, every voxel is 1; leave it out"),
        (hole(), "NaN or infinite values; replace them by numbers first"),
        (np.ones((9, 9), np.float32), r"shape \(9, 9\) of float32; allowed: numbers \(Z, Y, X\)"),
        (np.ones((2, 2, 9, 9)), "2 channels x 2 planes; choose a channel, 0 to 1, by --channel N"),
        (np.ones((2, 9, 9), complex), "allowed: numbers"),
    ],
)
def test_what_cannot_be_enhanced_is_told_in_one_line(run, tmp_path, volume, message):
    np.save("a.npy", volume)
    done = run("a.npy")
    assert done.returncode == 2
    assert re.match(f"error: a.npy.*{message}", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_files_are_told_before_anything_is_made(run, tenet, write_config, tmp_path):
    write_volume(tmp_path / "a.tif", stack_of(2, 9, 9), VOXEL_UM, overwrite=False)
    assert "none.tif: no such file or folder" in run("none.tif").stderr
    write_config("wide", params__hidden_channels_list=[4, 16])
    out = ("--out", "out", "--device", "cpu")
    wrong = tenet("enhance", "a.tif", "--config", "wide.json", "--checkpoint", "model.pt", *out)
    assert wrong.returncode == 2
    assert "model.pt: the checkpoint is of another network" in wrong.stderr
    lost = tenet("enhance", "a.tif", "--config", "wide.json", "--checkpoint", "no.pt", *out)
    assert lost.stderr.startswith("error: no.pt: ")
    small = run("a.tif", "--max-memory-gb", "0.1")
    assert small.returncode == 2
    assert re.search(r"--max-memory-gb 0.10: the program itself holds", small.stderr)
    assert not (tmp_path / "out").exists()


LIMITED = """
import resource, subprocess, sys
def limit():
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
done = subprocess.run([sys.executable, "-m", "tenet", *sys.argv[2:]], preexec_fn=limit)
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(done.returncode)
"""
# What the program holds before it does anything depends on the build of PyTorch.
HELD = """
import matplotlib.figure, psutil, tenet.cli.app, tenet.enhancement.files
held = psutil.Process().memory_info()
print(held.rss, held.vms)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and peaks as Linux has them")
def test_a_stack_larger_than_the_memory_goes_through(setting, tmp_path):
    """As a whole it would take 0.35 GB more than the program holds at first."""
    np.save("large.npy", stack_of(40, 160, 140).astype(np.uint16))
    found = subprocess.run([sys.executable, "-c", HELD], capture_output=True, check=True)
    held, mapped = map(int, found.stdout.split())
    budget = held + 0.25e9
    arguments = (
        *("enhance", "large.npy", "--config", "small.json", "--checkpoint", "model.pt"),
        *("--out", "out", "--device", "cpu", "--threshold", "0.9"),
        *("--max-memory-gb", f"{budget / 1e9:.3f}"),
    )
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(mapped + 5_000_000_000), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "out" / "large_tenet.yaml").read_text())["chunks"] > 1
    assert float(done.stdout.split()[-1]) < budget


def write_channels(path, volume, axes, **metadata):
    told = {"axes": axes, "unit": "um"} | metadata
    tifffile.imwrite(path, volume, imagej=True, resolution=(5, 5), metadata=told)


def test_a_channel_is_enhanced_and_noted(run, setting, tmp_path):
    volume = stack_of(2, 9, 8)
    both = np.stack([volume, volume[::-1]], 1)
    write_channels(tmp_path / "cell.tif", both, "ZCYX", spacing=0.8)
    refused = run("cell.tif")
    assert refused.returncode == 2
    assert "2 planes x 2 channels; choose a channel, 0 to 1, by --channel N" in refused.stderr
    assert results(tmp_path) == []
    done = run("cell.tif", "--channel", "1")
    assert done.returncode == 0, done.stderr
    expected = enhance(setting[1], torch.from_numpy(volume[::-1].copy()))
    structure = tifffile.imread(tmp_path / "out" / "cell_tenet_structure.tif")
    np.testing.assert_allclose(structure, expected.structure.numpy(), atol=1e-5)
    assert yaml.safe_load((tmp_path / "out" / "cell_tenet.yaml").read_text())["channel"] == 1
    done = run("cell.tif", "--channel", "0")
    assert "exists, made with another channel: skipped" in done.stderr


def test_a_step_that_is_not_told_is_the_configurations_and_an_absurd_one_is_refused(run, tmp_path):
    volume = stack_of(2, 9, 8)
    write_channels(tmp_path / "a.tif", volume, "ZYX")
    done = run("a.tif")
    assert done.returncode == 0, done.stderr
    assert "a.tif: tells no step along z; taken from the configuration" in done.stderr
    noted = yaml.safe_load((tmp_path / "out" / "a_tenet.yaml").read_text())
    assert noted["voxel_size_from"] == "the file, z from the configuration"
    assert noted["voxel_um"] == pytest.approx({"z": 0.2, "y": 0.2, "x": 0.2})
    write_channels(tmp_path / "b.tif", volume, "ZYX", spacing=8e-7)
    refused = run("b.tif")
    assert refused.returncode == 2
    assert "b.tif: its ImageJ metadata give a step of 8e-07 um along z" in refused.stderr


def test_an_offset_of_2_to_the_30_changes_nothing(run, tmp_path):
    volume = stack_of(2, 9, 8).astype(np.int32)
    write_volume(tmp_path / "a.tif", volume, VOXEL_UM, overwrite=False)
    np.save(tmp_path / "b.npy", volume + 2**30)
    assert run("a.tif", "b.npy").returncode == 0
    a, b = (tifffile.imread(tmp_path / "out" / f"{n}_tenet_structure.tif") for n in "ab")
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_time_points_on_a_cluster_of_which_a_worker_is_killed(run, setting, tmp_path, cluster):
    series = stack_of(3, 1, 2, 12, 10)
    series[1, 0, 1, 3, 4] = np.nan
    np.save(tmp_path / "day.npy", series)
    write_volume(tmp_path / "cell.tif", stack_of(2, 9, 8), VOXEL_UM, overwrite=False)
    assert run("day.npy", "cell.tif").returncode == 2
    (tmp_path / "out").rename(tmp_path / "serial")
    died = tmp_path / "died"
    cluster.spoil("tenet.enhancement.recording", "Enhancer", "enhance", died)
    done = run("day.npy", "cell.tif", "--dask", cluster.address)
    assert died.exists()
    assert done.returncode == 2
    assert "1 of 4 time points failed, the rest is done: " in done.stderr
    assert "day.npy, time point 1: NaN or infinite values" in done.stderr
    names = [path.name for path in sorted((tmp_path / "serial").iterdir())]
    assert results(tmp_path) == names
    for name in names:
        if name.endswith((".tif", ".csv")):
            serial = (tmp_path / "serial" / name).read_bytes()
            assert (tmp_path / "out" / name).read_bytes() == serial, name
    for arguments in (("--dask", cluster.address), ()):
        done = run("cell.tif", *arguments)
        assert "all results exist" in done.stderr
        assert "made with another" not in done.stderr
    (tmp_path / "out" / "cell_tenet_structure.tif").unlink()
    done = run("cell.tif", "--dask", tmp_path / "missing.json")
    assert "no such file" in done.stderr
