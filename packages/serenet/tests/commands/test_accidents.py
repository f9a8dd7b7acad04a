"""Accidents at the microscope: two runs at once, equal names, odd units and values, signals."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from optics import open_psf
from scopekit.images.files import write_volume
from scopekit.outputs import claimed

OPTICS = {
    "magnification": 20,
    "numerical_aperture": 0.5,
    "refractive_index": 1.0,
    "wavelength_um": 0.525,
    "microlens_pitch_um": 100,
    "microlens_focal_length_um": 2500,
    "n_num": 5,
    "depths_um": {"first": -10, "last": 10, "count": 3},
}


@pytest.fixture
def scope(tmp_path, monkeypatch):
    """Write optics with changes, of 5 x 5 views and 3 planes, to a YAML file; work beside it."""
    monkeypatch.chdir(tmp_path)

    def write(name="scope.yaml", **changes):
        (tmp_path / name).write_text(yaml.safe_dump(OPTICS | changes))
        return name

    write()
    return write


@pytest.fixture
def views(scope, tmp_path):
    """Write 25 views that differ by their seed; return the file."""

    def write(name="views.tif", seed=0, factor=1.0):
        values = np.random.default_rng(seed).poisson(80, (25, 8, 8)).astype(np.float64)
        values[:, 3:6, 2:5] += 900
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, (values * factor).astype(np.float32), photometric="minisblack")
        return path

    return write


@pytest.fixture
def deconvolve(serenet):
    """Deconvolve files into a folder, with `scope.yaml`."""

    def call(*files, out="out", more=()):
        how = ("--microscope", "scope.yaml", "--iterations", 1, "--no-preview", *more)
        return serenet("deconvolve", *files, *how, "--out", out)

    return call


# Two runs at once, equal names ---------------------------------------------------------------


@pytest.mark.parametrize("form", ["tif", "zarr"])
def test_a_second_run_into_one_folder_is_told(deconvolve, views, contents, tmp_path, form):
    if form == "zarr":
        pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    path = views()
    with claimed(tmp_path / "out" / "views_deconvolved"):
        refused = deconvolve(path, more=("--format", form, "--overwrite"))
    assert refused.code == 2
    assert "views_deconvolved: another run (process" in refused.error
    assert "another --out" in refused.error
    assert contents(tmp_path / "out") == []
    assert deconvolve(path, more=("--format", form)).code == 0


@pytest.mark.parametrize("form", ["tif", "zarr"])
def test_results_of_another_input_of_that_name(deconvolve, views, tmp_path, form):
    if form == "zarr":
        pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    first, second, third = views("m1/cell.tif"), views("m2/cell.tif", 1), views("m2/other.tif", 2)
    more = ("--format", form)
    assert deconvolve(first, more=more).code == 0
    refused = deconvolve(second, third, more=more)
    assert refused.code == 2
    assert f"exists, made from another input, {first}: add --overwrite" in refused.err
    assert "1 of 2 inputs failed, the rest is done" in refused.err
    names = {"tif": "other_deconvolved.tif", "zarr": "other_deconvolved.ome.zarr"}
    assert (tmp_path / "out" / names[form]).exists()
    again = deconvolve(first, views("new.tif"), more=more)
    assert again.code == 0
    assert "exists: skipped" in again.err
    assert deconvolve(second, more=(*more, "--overwrite")).code == 0


def test_a_run_into_a_folder_of_training_is_told(serenet, scope, tmp_path):
    with claimed(tmp_path / "run" / "run"):
        refused = serenet("train", "demo", "--minutes", 0.1, "--out", "run")
    assert refused.code == 2
    assert "run: another run (process" in refused.error


def test_no_command_replaces_its_input(serenet, deconvolve, views, small_psf, tmp_path):
    volume = tmp_path / "cell.tif"
    write_volume(volume, np.ones((9, 30, 30), np.float32), (0.2, 0.1, 0.1), overwrite=False)
    first, second = views(), views("views_deconvolved.tif")
    kept = {path: path.read_bytes() for path in (volume, second, tmp_path / "scope.yaml")}
    h5 = tmp_path / "scope.h5"
    h5.symlink_to("scope.yaml")
    refusals = [
        serenet("project", volume, "--psf", small_psf, "--out", "cell.tif", "--overwrite"),
        serenet("psf", "scope.yaml", "--out", h5, "--overwrite"),
        deconvolve(first, second, out=tmp_path, more=("--overwrite",)),
    ]
    for refused in refusals:
        assert refused.code == 2
        assert "is an input, which is never replaced: choose another" in refused.error
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_folder_that_was_empty_stays(deconvolve, views, tmp_path, monkeypatch):
    path = views()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    broken = tmp_path / "broken.tif"
    broken.write_bytes(path.read_bytes()[:-900])
    monkeypatch.chdir(tmp_path / "empty")
    (tmp_path / "empty" / "scope.yaml").symlink_to(tmp_path / "scope.yaml")
    for out in (".", tmp_path / "link"):
        refused = deconvolve(broken, out=out)
        assert refused.code == 2
        assert "broken.tif" in refused.error
        assert os.listdir(tmp_path / "empty") == ["scope.yaml"]
    assert not (tmp_path / "new").exists()
    deconvolve(broken, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["a$b$c", "ü" * 124, os.fsdecode(b"caf\xe9")])
def test_odd_names(serenet, deconvolve, views, tmp_path, name):
    path = views(f"{name}.tif")
    done = serenet(
        *("deconvolve", path, "--microscope", "scope.yaml", "--iterations", 1, "--out", "out")
    )
    if len(name) > 100:
        assert done.code == 2
        assert "bytes too long; give the input a shorter" in done.error
        assert not (tmp_path / "out").exists()
        return
    assert done.code == 0
    assert (tmp_path / "out" / f"{name}_deconvolved.png").exists()
    assert "exists" in deconvolve(path).error
    volume = tmp_path / "out" / f"{name}_deconvolved.tif"
    compared = serenet("compare", volume, volume, "--out", "c")
    assert compared.code == 0
    assert "caf\\udce9" in (tmp_path / "c" / "comparison.csv").read_text("utf-8") or "$" in name


# Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-18, 1e-15, 1e33])
def test_views_in_any_unit_give_the_same_volume(deconvolve, views, tmp_path, factor):
    files = views("one.tif"), views("other.tif", factor=factor)
    done = deconvolve(*files)
    assert done.code == 0, done.err
    one, other = (tifffile.imread(tmp_path / "out" / f"{f.stem}_deconvolved.tif") for f in files)
    np.testing.assert_allclose(other.astype(np.float64) / factor, one, rtol=1e-3, atol=1e-3)


def test_large_offsets_of_whole_numbers_do_no_harm(deconvolve, serenet, views, tmp_path):
    plain = views("one.tif")
    values = tifffile.imread(plain).astype(np.int32)
    lifted = tmp_path / "lifted.tif"
    tifffile.imwrite(lifted, values + 2**30, photometric="minisblack")
    assert deconvolve(plain, lifted).code == 0
    one, other = (tifffile.imread(f"out/{name}_deconvolved.tif") for name in ("one", "lifted"))
    np.testing.assert_allclose(other, one, rtol=1e-5)
    truth = tmp_path / "truth.tif"
    tifffile.imwrite(truth, values, photometric="minisblack")
    compared = serenet("compare", truth, lifted, "--out", "c")
    assert compared.code == 0
    assert "lifted.tif,1.0" in (tmp_path / "c" / "comparison.csv").read_text()


@pytest.mark.parametrize("factor", [1e-15, 1e33])
def test_networks_see_views_in_any_unit(serenet, weights, small_psf, light_field, tmp_path, factor):
    views = light_field()
    volumes = []
    for name, values in (("one", views), ("other", (views * factor).astype(np.float32))):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="minisblack")
        how = ("--checkpoint", weights["serenet"], "--psf", small_psf, "--no-preview")
        done = serenet(
            *("reconstruct", tmp_path / f"{name}.tif", *how),
            *("--refine", 2, "--out", tmp_path / "out"),
        )
        assert done.code == 0, done.err
        volumes.append(tifffile.imread(tmp_path / "out" / f"{name}_serenet.tif"))
    correlation = np.corrcoef(volumes[0].ravel(), volumes[1].ravel() / factor)[0, 1]
    assert correlation > 0.99


def test_a_psf_without_light_is_refused(serenet, scope, views, tmp_path):
    assert serenet("psf", "scope.yaml", "--size", 25, "--out", "psf.h5").code == 0
    with h5py.File(tmp_path / "psf.h5", "r+") as file:
        file["psf"][...] = 0
    refused = serenet("deconvolve", views(), "--psf", "psf.h5", "--iterations", 1, "--out", "out")
    assert refused.code == 2
    assert "psf.h5: no light in view" in refused.error
    assert not (tmp_path / "out").exists()


def test_fields_too_small_to_compare(serenet, tmp_path):
    volume = np.random.default_rng(0).random((5, 20, 24), np.float32)
    for name, values, more in (("a", volume[:, :, :6], ()), ("b", volume, ("--border", 0, 8))):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, values, photometric="minisblack")
        refused = serenet("compare", path, path, *more, "--out", tmp_path / "c")
        assert refused.code == 2
        assert "too small to compare: at least 7 x 7 must be left after --border" in refused.error
        assert not (tmp_path / "c").exists()


# Settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("wavelength_um", 525, "Is it in nm? Then give 0.525"),
        ("microlens_focal_length_um", 2.5, "Is it in mm? Then give 2500"),
        ("microlens_pitch_um", 0.1, "Is it in mm? Then give 100"),
        ("magnification", 0.5, "it must lie between 1 and 250"),
        ("depths_um", {"first": -10000, "last": 10000, "count": 3}, "10000 nm are 10 um"),
    ],
)
def test_optics_in_other_units(serenet, scope, tmp_path, key, value, told):
    refused = serenet("psf", scope("other.yaml", **{key: value}), "--out", "psf.h5")
    assert refused.code == 2
    assert refused.error.startswith("error: other.yaml: ")
    assert key in refused.error
    assert told in refused.error
    assert not (tmp_path / "psf.h5").exists()


def test_a_matlab_psf_of_another_n_num(serenet, scope, views, tmp_path):
    made = serenet(
        *("psf", scope("seven.yaml", n_num=7), "--views", "all", "--size", 25),
        *("--out", "seven.h5"),
    )
    assert made.code == 0
    psf = open_psf(tmp_path / "seven.h5").read().numpy()
    size = psf.shape[-1]
    with h5py.File(tmp_path / "seven.mat", "w", userblock_size=512) as file:
        # As HDF5 lists MATLAB's (H, W, u, v, depth).
        file["psf"] = psf.reshape(7, 7, 3, size, size).transpose(2, 1, 0, 4, 3)
    told = ("--psf", "seven.mat", "--microscope", "scope.yaml", "--iterations", 1, "--out", "out")
    refused = serenet("deconvolve", views(), *told)
    assert refused.code == 2
    assert "seven.mat: a PSF of 7 x 7 views; the microscope named has 5 x 5" in refused.error


@pytest.mark.parametrize("seed", ["99999999999999999999", "-5"])
def test_seeds_that_are_none(serenet, scope, small_psf, tmp_path, seed):
    volume = tmp_path / "cell.tif"
    write_volume(volume, np.ones((9, 30, 30), np.float32), (0.2, 0.1, 0.1), overwrite=False)
    how = ("--psf", small_psf, "--noise-photons", 9, "--seed", seed, "--out", "v.tif")
    for refused in (serenet("project", volume, *how), serenet("demo", "--seed", seed)):
        assert refused.code == 2
        assert "--seed" in refused.error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cell.tif", "scope.yaml"]


# Signals ---------------------------------------------------------------------------------------


def test_sigterm_leaves_nothing(scope, tmp_path):
    command = [sys.executable, "-m", "serenet", "psf", "scope.yaml", "--size", "901"]
    command += ["--views", "all", "--out", "out/psf.h5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        hidden = tmp_path / "out" / ".psf.h5.partial"
        while run.poll() is None and not hidden.exists():
            time.sleep(0.05)
        assert hidden.exists()
        run.send_signal(signal.SIGTERM)
        _, told = run.communicate(timeout=60)
    assert run.returncode == 143
    assert told.startswith("ended by SIGTERM")
    assert not (tmp_path / "out").exists()
