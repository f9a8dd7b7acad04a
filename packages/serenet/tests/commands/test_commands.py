"""The commands psf, project, reconstruct and compare, as users type them."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import open_psf, presets
from scopekit.images.files import open_stack, write_volume
from serenet import load_checkpoint, reconstruct, subtract_background

VOXEL_UM = (0.2, 100 / 13 / 63, 100 / 13 / 63)


@pytest.fixture
def volume_file(tmp_path):
    """Beads in a volume of 9 planes whose sides are no multiples of anything."""
    generator = np.random.default_rng(0)
    volume = np.zeros((9, 52, 67), np.float32)
    places = generator.integers((1, 6, 6), (8, 46, 61), (25, 3))
    volume[tuple(places.T)] = generator.uniform(50, 100, 25)
    path = tmp_path / "beads.tif"
    write_volume(path, volume, VOXEL_UM, overwrite=False)
    return path


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 1000


def test_from_optics_to_a_scored_volume(serenet, tmp_path, volume_file, weights, contents):
    psf, views, out = tmp_path / "psf.h5", tmp_path / "views.tif", tmp_path / "results"
    outcome = serenet("psf", "nnum13", "--out", psf, "--depths", 9, "--size", 39)
    assert (outcome.code, outcome.err) == (0, "")
    assert "49 views, 9 depths" in outcome.out
    file = open_psf(psf)
    assert file.microscope.depths_um == presets["nnum13"].depths_um[46:55]
    assert file.read([0]).shape == (1, 9, 39, 39)

    outcome = serenet("project", volume_file, "--psf", psf, "--out", views)
    assert outcome.code == 0
    assert "49 x 12 x 15" in outcome.out
    assert open_stack(views).shape == (49, 12, 15)

    arguments = ("--checkpoint", weights["serenet"], "--psf", psf, "--out", out)
    outcome = serenet("reconstruct", views, *arguments)
    assert outcome.code == 0
    stem = "views_serenet"
    assert contents(out) == [f"{stem}.png", f"{stem}.tif", f"{stem}.yaml"]
    assert is_png(out / f"{stem}.png")
    result = open_stack(out / f"{stem}.tif")
    assert result.shape == (9, 52, 65)
    assert result.voxel_um == pytest.approx(VOXEL_UM, rel=1e-4)
    settings = yaml.safe_load((out / f"{stem}.yaml").read_text())
    assert settings["input"] == str(views)
    assert settings["optics"]["n_num"] == 13
    assert settings["voxel_um"]["x"] == pytest.approx(VOXEL_UM[2])

    field = subtract_background(torch.from_numpy(open_stack(views).read()))
    model = load_checkpoint(weights["serenet"])
    gain = settings["frames"][0]["brightness_gain"]
    expected = reconstruct(field * gain, model, file.read_shift(), 13 / 3) / gain
    np.testing.assert_allclose(result.read(), expected, rtol=1e-4, atol=1e-4 * expected.max())

    # The views' grid gives a volume two columns narrower than the truth.
    truth = tmp_path / "truth.tif"
    write_volume(truth, open_stack(volume_file).read()[:, :, 1:66], VOXEL_UM, overwrite=False)
    comparison = tmp_path / "comparison"
    arguments = ("--border", 1, 4, "--blur", 0, 2, 2)
    outcome = serenet("compare", truth, out / f"{stem}.tif", "--out", comparison, *arguments)
    assert outcome.code == 0
    assert contents(comparison) == ["comparison.csv", "comparison.png"]
    assert is_png(comparison / "comparison.png")
    (row,) = csv.DictReader((comparison / "comparison.csv").read_text().splitlines())
    assert -1 <= float(row["correlation"]) <= 1
    assert f"{float(row['correlation']):.4f}" in outcome.out


def test_comparing_a_volume_with_itself(serenet, tmp_path, volume_file):
    volume = open_stack(volume_file).read()
    write_volume(tmp_path / "dim.tif", 0.25 * volume + 7, VOXEL_UM, overwrite=False)
    files = (volume_file, volume_file, tmp_path / "dim.tif")
    assert serenet("compare", *files, "--out", tmp_path / "c").code == 0
    same, dim = csv.DictReader((tmp_path / "c" / "comparison.csv").read_text().splitlines())
    assert float(same["correlation"]) == pytest.approx(1)
    # Gain and offset do not count.
    assert float(dim["correlation"]) == pytest.approx(1)
    assert float(dim["ssim"]) == pytest.approx(1, abs=1e-4)
    assert float(dim["psnr_db"]) > 80


def test_noise_follows_the_seed(serenet, tmp_path, volume_file, small_psf):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        files.append(tmp_path / f"{name}.tif")
        arguments = ("--noise-photons", 50, "--read-noise", 2, "--seed", seed)
        outcome = serenet(
            "project", volume_file, "--psf", small_psf, "--out", files[-1], *arguments
        )
        assert outcome.code == 0
    a, b, c = (open_stack(f).read() for f in files)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert 40 < a.max() < 90


def test_views_of_a_volume_with_another_voxel_are_warned_of(
    serenet, tmp_path, volume_file, small_psf
):
    path = tmp_path / "coarse.tif"
    write_volume(path, open_stack(volume_file).read(), (0.2, 0.3, 0.3), overwrite=False)
    outcome = serenet("project", path, "--psf", small_psf, "--out", tmp_path / "v.tif")
    assert outcome.code == 0
    assert "warning: " in outcome.err
    assert "coarse.tif" in outcome.err


def test_psf_of_all_views_serves_for_the_subset(serenet, tmp_path, views_file, weights, small_psf):
    whole = tmp_path / "all.h5"
    arguments = ("--views", "all", "--depths", 9, "--size", 39)
    assert serenet("psf", "nnum13", "--out", whole, *arguments).code == 0
    assert open_psf(whole).n_views == 169
    volumes = []
    for psf in (whole, small_psf):
        out = tmp_path / f"out_{psf.stem}"
        arguments = ("--checkpoint", weights["serenet"], "--psf", psf, "--out", out)
        assert serenet("reconstruct", views_file, *arguments).code == 0
        volumes.append(open_stack(out / "views_serenet.tif").read())
    np.testing.assert_allclose(*volumes, rtol=1e-4, atol=1e-4 * volumes[0].max())


def test_a_microscope_of_ones_own(serenet, tmp_path, light_field, random_model):
    from serenet import save_checkpoint

    optics = tmp_path / "scope.yaml"
    optics.write_text(
        "magnification: 40\nnumerical_aperture: 0.95\nrefractive_index: 1.0\n"
        "wavelength_um: 0.6\nmicrolens_pitch_um: 100\nmicrolens_focal_length_um: 2000\n"
        "n_num: 5\nscanning: 1\ndepths_um: {first: -2, last: 2, count: 5}\n"
        "views: [12, 11, 13, 7, 17]\n"
    )
    save_checkpoint(tmp_path / "five.pth", random_model("serenet", inChannels=5))
    tifffile.imwrite(tmp_path / "v.tif", light_field(25, 11, 9))
    psf, out = tmp_path / "psf.h5", tmp_path / "out"
    assert serenet("psf", optics, "--out", psf, "--size", 21).code == 0
    arguments = ("--checkpoint", tmp_path / "five.pth", "--out", out)
    for source in (
        ("--psf", psf),
        ("--microscope", optics),
        ("--psf", psf, "--microscope", optics),
    ):
        outcome = serenet("reconstruct", tmp_path / "v.tif", *arguments, *source, "--overwrite")
        assert outcome.code == 0
        result = open_stack(out / "v_serenet.tif")
        assert result.shape == (5, 55, 45)
        assert result.voxel_um == pytest.approx((1.0, 0.5, 0.5), rel=1e-4)
    # Neither standard preset has five views.
    error = serenet("reconstruct", tmp_path / "v.tif", *arguments, "--overwrite").error
    assert "describe the microscope in a YAML file" in error


def test_the_installed_program(tmp_path, volume_file, small_psf):
    views = tmp_path / "views.tif"
    command = ["project", volume_file, "--psf", small_psf, "--out", views]
    done = subprocess.run(
        [sys.executable, "-m", "serenet", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert open_stack(views).shape == (49, 12, 15)
    again = subprocess.run(
        [sys.executable, "-m", "serenet", *command], capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert again.stderr == f"error: {views} exists: add --overwrite to replace it, or choose " + (
        "another --out\n"
    )
