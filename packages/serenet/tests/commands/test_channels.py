"""Channels, movies and absurd voxels: every command refuses or takes them alike."""

import numpy as np
import pytest
import tifffile

from scopekit.images.files import open_stack


def write(path, views, axes, **metadata):
    how = {"resolution": (4, 4)} if metadata else {}
    tifffile.imwrite(path, views, imagej=True, metadata={"axes": axes} | metadata, **how)
    return path


@pytest.fixture
def two_channels(tmp_path, light_field):
    views = light_field()
    return write(tmp_path / "two.tif", np.stack([views, views[::-1]], 1).astype("f4"), "ZCYX")


def commands(path, folder, small_psf, weights):
    out = ("--out", folder / "out")
    return {
        "reconstruct": (path, "--checkpoint", weights["serenet"], "--psf", small_psf, *out),
        "deconvolve": (path, "--psf", small_psf, *out),
        "correct-motion": (path, "--checkpoint", "demo_twnet", *out),
        "compare": (path, path, *out),
        "project": (path, "--psf", small_psf, "--out", folder / "out.tif"),
        "rectify": (
            path,
            *("--radiometry", path, "--microscope", "nnum13", "--out", folder / "out.tif"),
        ),
    }


NAMES = ("reconstruct", "deconvolve", "correct-motion", "compare", "project", "rectify")


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_must_be_named(serenet, tmp_path, two_channels, small_psf, weights, name):
    arguments = commands(two_channels, tmp_path, small_psf, weights)[name]
    done = serenet(name, *arguments)
    assert done.code == 2
    assert "choose a channel, 0 to 1, by --channel N" in done.error
    done = serenet(name, *arguments, "--channel", 2)
    assert "channel 2 was asked for; allowed: 0 to 1" in done.error
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.tif").exists()


def test_the_channel_is_the_one_that_is_used(serenet, tmp_path, two_channels, light_field):
    one = write(tmp_path / "one.tif", light_field()[::-1].astype("f4"), "ZYX")
    done = serenet("compare", two_channels, one, "--channel", 1, "--out", tmp_path / "same")
    assert done.code == 0, done.err
    row = (tmp_path / "same" / "comparison.csv").read_text().splitlines()[1].split(",")
    assert float(row[1]) == pytest.approx(1)


def test_motion_is_corrected_in_a_channel_and_no_voxel_is_made_up(serenet, tmp_path, two_channels):
    out = tmp_path / "out"
    fixed = ("correct-motion", two_channels, "--checkpoint", "demo_twnet", "--out", out)
    done = serenet(*fixed, "--channel", 1)
    assert done.code == 0, done.err
    (result,) = out.glob("*.tif")
    assert open_stack(result).steps.source == ""
    assert "channel: 1" in result.with_suffix(".yaml").read_text()


@pytest.mark.parametrize("name", ["compare", "project", "correct-motion"])
@pytest.mark.parametrize("spacing", ["0", "nan", "8e-7", "0,5"])
def test_absurd_voxels_are_refused_at_once(serenet, tmp_path, small_psf, weights, name, spacing):
    values = np.ones((9, 24, 21), np.float32)
    path = write(tmp_path / "a.tif", values, "ZYX", unit="um", spacing=spacing)
    done = serenet(name, *commands(path, tmp_path, small_psf, weights)[name])
    assert done.code == 2
    assert f"{path}: its ImageJ metadata give a step of " in done.error
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_names_that_are_no_text(serenet, tmp_path):
    plain = write(tmp_path / "plain.tif", np.random.default_rng(0).random((9, 24, 24), "f4"), "ZYX")
    odd = tmp_path / "caf\udce9 $a$ $b$.tif"
    try:
        odd.write_bytes(plain.read_bytes())
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system wants text")
    done = serenet("compare", plain, odd, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "caf" in (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8")
