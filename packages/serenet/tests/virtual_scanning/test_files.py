"""A vsnet on files: finer views by themselves, and before a deconvolution."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from scopekit.images.files import open_stack, write_volume
from serenet import build_model, save_checkpoint, subtract_background, virtual_scan

VIEW_UM = 0.5


@pytest.fixture
def vsnet(tmp_path):
    """Checkpoint of a small vsnet of random weights, and the network."""
    torch.manual_seed(0)
    model = build_model("vsnet", K=1, n_block=1, channels=4).eval()
    save_checkpoint(tmp_path / "vsnet.pt", model)
    return tmp_path / "vsnet.pt", model


@pytest.fixture
def unscanned(tmp_path, light_field):
    """All 169 views of an unscanned light field on disk, and their values."""
    views = light_field(169, 5, 6)
    path = tmp_path / "cell.tif"
    write_volume(path, views, (1.0, VIEW_UM, VIEW_UM), overwrite=False)
    return path, views


def test_reconstruct_writes_the_finer_views(serenet, vsnet, unscanned, tmp_path, contents):
    (checkpoint, model), (path, views) = vsnet, unscanned
    done = serenet("reconstruct", path, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    names = [f"cell_vsnet.{ending}" for ending in ("png", "tif", "yaml")]
    assert contents(tmp_path / "out") == names
    result = open_stack(tmp_path / "out" / "cell_vsnet.tif")
    expected = virtual_scan(subtract_background(torch.from_numpy(views)), model)
    assert result.shape == (169, 15, 18)
    np.testing.assert_allclose(result.read(), expected, rtol=1e-5, atol=1e-4)
    assert result.steps.x_um == pytest.approx(VIEW_UM / 3)
    told = yaml.safe_load((tmp_path / "out" / "cell_vsnet.yaml").read_text())
    assert (told["method"], told["background"]) == ("vsnet", "1 % quantile")
    again = serenet("reconstruct", path, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert (again.code, "cell_vsnet.tif exists" in again.error) == (2, True)


def test_a_series_and_a_told_background(serenet, vsnet, light_field, tmp_path):
    checkpoint, model = vsnet
    series = np.stack([light_field(169, 3, 4, seed=s) for s in (0, 1)])
    tifffile.imwrite(tmp_path / "movie.tif", series, imagej=True, metadata={"axes": "TZYX"})
    arguments = ("--background", 90, "--no-preview", "--out", tmp_path)
    done = serenet("reconstruct", tmp_path / "movie.tif", "--checkpoint", checkpoint, *arguments)
    assert done.code == 0, done.err
    found = tifffile.imread(tmp_path / "movie_vsnet.tif")
    for frame, views in zip(found, series, strict=True):
        expected = virtual_scan(torch.from_numpy(views - 90).clamp(min=0), model)
        np.testing.assert_allclose(frame, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--refine", 3), "--refine: a vsnet gives finer views, no volume; leave it out"),
        (("--predao",), "--predao: a vsnet gives finer views"),
        (("--psf", "psf.h5"), "--psf: a vsnet gives finer views"),
        (("--microscope", "nnum15"), "a vsnet for 13 x 13 views; the microscope has 15 x 15"),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(
    serenet, vsnet, unscanned, tmp_path, arguments, told
):
    out = tmp_path / "out"
    done = serenet("reconstruct", unscanned[0], "--checkpoint", vsnet[0], "--out", out, *arguments)
    assert (done.code, told in done.error) == (2, True), done.error
    assert not out.exists()


def test_it_takes_all_views(serenet, vsnet, views_file, tmp_path):
    arguments = ("--checkpoint", vsnet[0], "--out", tmp_path / "out")
    done = serenet("reconstruct", views_file, *arguments)
    assert (done.code, "49 views; all 169 of this microscope" in done.error) == (2, True)


def test_deconvolve_scans_virtually_first(serenet, vsnet, unscanned, small_psf, tmp_path):
    (checkpoint, model), (path, views) = vsnet, unscanned
    finer = virtual_scan(subtract_background(torch.from_numpy(views)), model)
    write_volume(tmp_path / "finer.tif", finer.numpy(), (1.0, 1.0, 1.0), overwrite=False)
    arguments = ("--psf", small_psf, "--iterations", 1, "--no-preview", "--out", tmp_path / "out")
    one = serenet("deconvolve", path, "--virtual-scan", checkpoint, *arguments)
    other = serenet("deconvolve", tmp_path / "finer.tif", "--background", 0, *arguments)
    assert (one.code, other.code) == (0, 0), one.err + other.err
    found, expected = (
        tifffile.imread(tmp_path / "out" / f"{name}_deconvolved.tif") for name in ("cell", "finer")
    )
    assert found.shape == (9, 65, 78)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.max())
    told = yaml.safe_load((tmp_path / "out" / "cell_deconvolved.yaml").read_text())
    assert told["virtual_scan"] == str(checkpoint)
    assert told["virtual_scan_sha256"]


def test_deconvolve_refuses_another_network(serenet, weights, unscanned, small_psf, tmp_path):
    arguments = ("--psf", small_psf, "--virtual-scan", weights["serenet"], "--out", tmp_path / "o")
    done = serenet("deconvolve", unscanned[0], *arguments)
    assert (done.code, "not a vsnet for 13 x 13 views" in done.error) == (2, True)
