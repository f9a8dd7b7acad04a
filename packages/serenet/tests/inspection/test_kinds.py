"""``serenet check`` says what was put into a file, and its next commands are understood."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import typer.main
import yaml
from scipy.ndimage import gaussian_filter

from optics import LightFieldOperator, add_camera_noise, phase_space_psf, presets, sample_views
from serenet.cli import app
from serenet.inspection.scanning import scanning_text, shared_detail
from serenet.simulation.mixed_scenes import draw_scene

SIDE_VIEWS = (84, 85, 98, 97, 96)


@pytest.fixture(scope="module")
def scanned():
    """Five neighbouring views of a 3 x 3 scan, (5, 81, 81), 400 photons in the brightest pixel."""
    microscope = presets["nnum13"].with_middle_depths(9).with_views(SIDE_VIEWS)
    operator = LightFieldOperator(phase_space_psf(microscope))
    volume = torch.from_numpy(draw_scene(np.random.default_rng(1), microscope, lenses=27))
    views = sample_views(operator.forward(volume), microscope.lateral_scale).clamp(min=0)
    generator = torch.Generator().manual_seed(0)
    return add_camera_noise(views, photons=400, read_noise=2, generator=generator).numpy()


@pytest.fixture
def check(serenet):
    """Run ``serenet check``; the next commands that it prints must be understood."""

    def call(*arguments):
        outcome = serenet("check", *arguments)
        for line in outcome.out.splitlines():
            heading, _, step = line.strip().partition(":")
            if heading in ("next", "or"):
                program, name, *rest = shlex.split(step)
                assert program == "serenet"
                typer.main.get_command(app).commands[name].make_context(name, rest)
        return outcome

    return call


def facts(outcome):
    lines = (line.strip().partition(":") for line in outcome.out.splitlines()[1:])
    return {heading: text.strip() for heading, _, text in lines}


def test_views_of_a_scan_share_no_detail_as_fine_as_pixels(scanned):
    assert shared_detail(scanned) < 0.012
    assert scanning_text(scanned).startswith("probably, 3 x 3")
    assert shared_detail(scanned[:, 1::3, 1::3]) > 0.025
    assert scanning_text(scanned[:, 1::3, 1::3]).startswith("probably not")


def test_detail_as_fine_as_pixels_is_told_to_count_as_noise(check, scanned, tmp_path):
    """Views of one pixel a lens seemed to hold a dozen photons, their frame hundreds."""
    for name, views in (("scanned", scanned), ("unscanned", scanned[:, 1::3, 1::3])):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.resize(views, (169, *views.shape[1:])))
        noise = facts(check(tmp_path / f"{name}.tif"))["noise"]
        assert ("counts as noise here" in noise) is (name == "unscanned")


def test_cropped_and_small_views_are_not_called_scanned(scanned):
    assert "not multiples of 3" in scanning_text(scanned[:, :80])
    assert "cannot be told" in scanning_text(scanned[:, :12, :12])


def test_noise_alone_is_not_called_a_scan():
    views = np.random.default_rng(0).normal(100, 3, (9, 60, 60))
    assert not scanning_text(views).startswith("probably, 3")


def test_views_of_a_preset(check, views_file):
    outcome = check(views_file)
    assert (outcome.code, outcome.err) == (0, "")
    assert "49 views of 24 x 21 pixels, float32, those of 13 x 13 that are used" in outcome.out
    found = facts(outcome)
    assert found["pixels"] == "the file tells no voxel size"
    assert found["microscope"].startswith("as many views as nnum13 has")
    assert "--checkpoint serenet_nnum13" in found["next"]
    assert "--microscope nnum13" in found["or"]


@pytest.mark.parametrize(
    ("share", "told", "network"),
    [
        (1, "pixels of 0.529 um, as expected", True),
        (3, "as it has when it does not scan", True),
        (2, "DIFFERENT: pixels of 1.06 um, not 0.529", False),
    ],
)
def test_the_pixel_of_the_file_is_compared(check, tmp_path, light_field, share, told, network):
    path = tmp_path / "views.tif"
    pixel_um = presets["nnum13"].view_pixel_um * share
    blurred = gaussian_filter(light_field().astype(np.float32), (0, 1.5, 1.5))  # as by a lens
    tifffile.imwrite(
        path, blurred, imagej=True, resolution=(1 / pixel_um,) * 2, metadata={"unit": "um"}
    )
    outcome = check(path)
    assert told in facts(outcome)["microscope"]
    assert ("reconstruct" in outcome.out) == network


def test_views_that_are_not_scanned_are_not_those_of_a_scanning_microscope(
    check, scanned, tmp_path
):
    """An own microscope's pixels may be as large as those of another one's scan."""
    for name, views in (("scanned", scanned), ("unscanned", scanned[:, 1::3, 1::3])):
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            np.resize(views, (169, *views.shape[1:])).astype(np.float32),
            imagej=True,
            resolution=(1 / presets["nnum13"].view_pixel_um,) * 2,
            metadata={"unit": "um"},
        )
        outcome = check(tmp_path / f"{name}.tif")
        assert ("reconstruct" in outcome.out) is (name == "scanned")
        assert ("DIFFERENT, it seems" in facts(outcome)["microscope"]) is (name == "unscanned")


def test_the_microscope_that_is_named_must_fit(check, views_file, tmp_path, small_microscope):
    outcome = check(views_file, "--microscope", "nnum15")
    assert outcome.code == 2
    assert "49 views; this microscope has 225, of which 81 are used" in outcome.error
    own = tmp_path / "my scope.yaml"
    own.write_text(yaml.safe_dump(small_microscope.model_dump(mode="json")))
    outcome = check(views_file, "--microscope", own)
    assert "my scope.yaml" in facts(outcome)["next"]
    assert "serenet deconvolve" in facts(outcome)["next"]


def test_views_of_no_preset(check, tmp_path, light_field):
    tifffile.imwrite(tmp_path / "views.tif", light_field(n_views=121))
    outcome = check(tmp_path / "views.tif")
    assert "all of 11 x 11" in outcome.out
    assert "n_num: 11" in facts(outcome)["microscope"]
    assert "reconstruct" not in outcome.out
    assert "serenet train my_microscope" in facts(outcome)["or"]


def test_raw_camera_frames(check, tmp_path):
    y, x = np.mgrid[:240, :240]
    lenses = np.cos(np.pi * (x - 3) / 15.4) ** 2 * np.cos(np.pi * (y - 5) / 15.4) ** 2
    frame = np.random.default_rng(0).poisson(900 * lenses + 20).astype(np.uint16)
    tifffile.imwrite(tmp_path / "raw.tif", frame)
    outcome = check(tmp_path / "raw.tif")
    assert "one image of 240 x 240 pixels, uint16: raw camera frames" in outcome.out
    assert "15.40 pixels apart" in facts(outcome)["lenses"]
    assert facts(outcome)["lenses"].endswith("n_num: 15")
    assert "serenet rectify" in facts(outcome)["next"]


def test_frames_without_lenses(check, tmp_path):
    frame = np.random.default_rng(0).poisson(100, (90, 90)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "raw.tif", frame)
    assert "no lattice found" in facts(check(tmp_path / "raw.tif"))["lenses"]


def test_a_volume(check, tmp_path, light_field):
    tifffile.imwrite(tmp_path / "cell.tif", light_field(n_views=101))
    outcome = check(tmp_path / "cell.tif")
    assert "101 planes of 24 x 21 pixels, float32: a volume" in outcome.out
    assert "serenet project" in facts(outcome)["next"]


def test_optics_and_networks(check, tmp_path, small_psf, small_microscope, weights):
    assert "a PSF of 49 views and 9 planes, 63x" in check(small_psf).out
    assert "a network, serenet" in check(weights["serenet"]).out
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small_microscope.model_dump(mode="json")))
    found = facts(check(path))
    assert found["views"] == "49 of 13 x 13 used, scanned 3 x 3"
    assert found["views' pixel"] == "0.5291 um on the object"


BROKEN = {
    "text.txt": (b"hello", "neither images"),
    "cut.tif": (b"II*\0", "cut.tif"),
    "psf.h5": (b"hello", "not a PSF file"),
    "net.pth": (b"hello", "net.pth"),
    "mine.yaml": (b"magnification: 60", "mine.yaml"),
}


@pytest.mark.parametrize("name", [*BROKEN, "missing.tif"])
def test_what_cannot_be_used_ends_in_one_line(check, tmp_path, name):
    content, told = BROKEN.get(name, (None, "no such file"))
    if content is not None:
        Path(tmp_path / name).write_bytes(content)
    outcome = check(tmp_path / name)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.error
    assert name in outcome.error


def test_the_other_files_are_told_all_the_same(check, tmp_path, views_file):
    outcome = check(tmp_path / "missing.tif", views_file)
    assert outcome.code == 2
    assert "49 views" in outcome.out
    assert "1 of 2 inputs failed" in outcome.err
