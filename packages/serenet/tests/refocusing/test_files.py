"""``serenet refocus``: beads come into focus at their depth and place."""

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from optics import BandLimitedOperator, LightFieldMicroscope, phase_space_psf
from scopekit.images.files import open_stack
from serenet.refocusing.files import depths_around, planes_shown, sharpness

SCOPE = LightFieldMicroscope(
    magnification=60,
    numerical_aperture=1.2,
    refractive_index=1.35,
    wavelength_um=0.593,
    microlens_pitch_um=100,
    microlens_focal_length_um=2500,
    n_num=9,
    depths_um=[-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0],
)
LENSES = 14
BEAD = (70, 50)  # voxels of 9 a lens


@pytest.fixture
def light_field(tmp_path):
    """Views of a bead 4 um from focus, 2000 photons on an offset of 100; the microscope."""
    (tmp_path / "scope.yaml").write_text(yaml.safe_dump(SCOPE.model_dump(mode="json")))
    psf = phase_space_psf(SCOPE.with_depths([4.0]))
    truth = torch.zeros(1, 9 * LENSES, 9 * LENSES)
    truth[0, BEAD[0], BEAD[1]] = 1
    views = BandLimitedOperator(psf, truth.shape[1:], (LENSES, LENSES), sampling="point")
    light = views.forward(truth).clamp(min=0)
    photons = torch.poisson(light * (2000 / light.max()), torch.Generator().manual_seed(0))
    tifffile.imwrite(tmp_path / "bead.tif", (photons + 100).numpy())
    return tmp_path / "bead.tif", tmp_path / "scope.yaml"


def test_a_bead_is_sharp_at_its_depth_and_place(serenet, tmp_path, light_field, contents):
    views, optics = light_field
    outcome = serenet("refocus", views, "--microscope", optics, "--out", tmp_path / "look")
    assert outcome.code == 0, outcome.err
    names = [f"bead_refocused{end}" for end in (".png", ".tif", ".yaml")]
    assert contents(tmp_path / "look") == names
    result = open_stack(tmp_path / "look/bead_refocused.tif")
    stack = result.read()
    told = yaml.safe_load((tmp_path / "look/bead_refocused.yaml").read_text())["depths_um"]
    depths = np.linspace(told["first"], told["last"], told["count"])
    assert depths.tolist() == [float(z) for z in range(-10, 11, 2)]
    assert stack.shape == (11, 5 * LENSES, 5 * LENSES)
    assert result.voxel_um == pytest.approx((2.0, 100 / 60 / 5, 100 / 60 / 5), rel=1e-4)
    best = int(sharpness(stack).argmax())
    assert depths[best] == pytest.approx(4, abs=2)
    row, column = np.unravel_index(stack[best].argmax(), stack[best].shape)
    place_um = (np.array([row, column]) + 0.5) / 5
    assert place_um == pytest.approx((np.array(BEAD) + 0.5) / 9, abs=0.5)
    with Image.open(tmp_path / "look/bead_refocused.png") as picture:
        assert min(picture.size) > 300


def test_only_the_time_points_asked_for_are_refocused(serenet, tmp_path, light_field):
    views, optics = light_field
    one = tifffile.imread(views)
    series = np.stack([one, one[..., ::-1], 3 * one])
    tifffile.imwrite(tmp_path / "series.tif", series, metadata={"axes": "TZYX"}, imagej=True)
    command = ("refocus", tmp_path / "series.tif", "--microscope", optics, "--out")
    assert serenet(*command, tmp_path / "all").code == 0
    outcome = serenet(*command, tmp_path / "some", "--time-points", "2,0")
    assert outcome.code == 0, outcome.err
    everything = open_stack(tmp_path / "all/series_refocused.tif")
    some = open_stack(tmp_path / "some/series_refocused.tif")
    assert (everything.n_frames, some.n_frames) == (3, 2)
    for frame, point in enumerate((2, 0)):
        np.testing.assert_array_equal(some.read(frame), everything.read(point))
    told = yaml.safe_load((tmp_path / "some/series_refocused.yaml").read_text())
    assert [record["frame"] for record in told["frames"]] == [2, 0]
    outcome = serenet(*command, tmp_path / "none", "--time-points", "3")
    assert outcome.code == 2
    assert "series.tif: time point 3 of 3; allowed: 0 to 2" in outcome.error


def test_results_are_kept(serenet, tmp_path, light_field):
    views, optics = light_field
    command = ("refocus", views, "--microscope", optics, "--out", tmp_path / "look")
    assert serenet(*command).code == 0
    outcome = serenet(*command)
    assert outcome.code == 2
    assert "--overwrite" in outcome.error


def test_depths_reach_half_as_far_again():
    assert depths_around(SCOPE.with_depths([-1.0, 0.0, 1.0])) == [-2, -1, 0, 1, 2]
    depths = depths_around(SCOPE.with_depths([float(z) for z in range(10, 51)]))
    assert (depths[0], depths[-1], len(depths)) == (0, 60, 61)


def test_the_sharpest_plane_is_found_and_flat_ones_have_none():
    stack = np.random.default_rng(0).random((3, 24, 24)).astype(np.float32)
    stack[0] *= 0.1
    stack[2] *= 0.5
    assert sharpness(stack) == pytest.approx([0.01, 1, 0.25], rel=0.3)
    assert sharpness(np.ones((2, 24, 24), np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize(("count", "sharpest"), [(1, 0), (7, 3), (79, 0), (79, 39), (79, 78)])
def test_the_sharpest_plane_is_drawn(count, sharpest):
    shown = planes_shown(np.eye(count)[sharpest])
    assert sharpest in shown
    assert (shown[0], shown[-1], len(shown)) == (0, count - 1, min(count, 12))
    assert (np.diff(shown) > 0).all()
