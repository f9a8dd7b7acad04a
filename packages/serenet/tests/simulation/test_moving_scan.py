"""Simulated scans of samples that move."""

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from optics import LightFieldOperator, open_psf, phase_space_psf, sample_views, write_psf
from scopekit.images.files import open_stack, write_volume
from serenet.simulation.moving_scan import scan_moving
from serenet.simulation.moving_scenes import draw_drifts, moving_scene

ORDER = (6, 7, 8, 5, 2, 1, 0, 3, 4)
SCALE = 13 / 3


@pytest.fixture
def volume():
    """A few soft spots far from the borders, (9, 104, 91): views of 24 x 21."""
    rng = np.random.default_rng(0)
    spots = np.zeros((9, 104, 91), np.float32)
    spots[rng.integers(0, 9, 12), rng.integers(40, 64, 12), rng.integers(35, 56, 12)] = 1000
    return gaussian_filter(spots, (1, 2, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def central(small_microscope):
    """Projection onto the central view."""
    microscope = small_microscope.with_views((small_microscope.central_view,))
    return microscope, LightFieldOperator(phase_space_psf(microscope, size=39))


def test_every_exposure_shows_the_volume_where_it_is_then(volume, small_psf):
    file = open_psf(small_psf)
    operator = LightFieldOperator(file.read(range(0, 49, 16)))
    drift = (2, -3)  # whole pixels, for which rolling the volume is exact
    found = scan_moving(operator.forward(torch.from_numpy(volume)), drift, SCALE)
    for t, position in enumerate(ORDER):
        moved = np.roll(volume, [(t - 4) * step for step in drift], (1, 2))
        views = sample_views(operator.forward(torch.from_numpy(moved)), SCALE)
        r, c = divmod(position, 3)
        expected = views[:, r::3, c::3]
        assert expected.max() > 0.2 * views.max()
        assert (found[:, r::3, c::3] - expected).abs().max() <= 1e-4 * views.max()


def test_what_rests_is_scanned_as_ever(volume, central):
    _, operator = central
    projected = operator.forward(torch.from_numpy(volume))
    still = sample_views(projected, SCALE)
    assert (scan_moving(projected, (0, 0), SCALE) - still).abs().max() <= 1e-4 * still.max()


def test_another_order(volume, central):
    _, operator = central
    projected = operator.forward(torch.from_numpy(volume))
    forwards = scan_moving(projected, (2.5, 1), SCALE)
    backwards = scan_moving(projected, (-2.5, -1), SCALE, ORDER[::-1])
    assert (forwards - backwards).abs().max() <= 1e-5 * forwards.max()


def test_parts_of_a_scene_move_by_themselves(central):
    microscope, operator = central
    drifts = [(0.0, 0.0)] * 9
    drifts[5] = (1.0, 0.5)
    still, moving = moving_scene(3, drifts, microscope, operator)
    assert still.shape == moving.shape == (1, 108, 108)
    change = (moving - still).abs() > 0.01 * still.max()
    assert change[0, 36:72, 72:].float().mean() > 0.05
    change[0, 28:80, 64:] = False
    assert not change.any()


def test_a_quarter_of_the_parts_rests():
    drifts = np.array([draw_drifts(np.random.default_rng(n)) for n in range(50)]).reshape(-1, 2)
    speeds = np.hypot(*drifts.T)
    assert 0.2 < (speeds == 0).mean() < 0.3
    assert 1.0 < speeds.max() <= 1.2
    assert np.abs(drifts.mean(axis=0)).max() < 0.1


# serenet project --drift -------------------------------------------------------------------


def test_project_a_drifting_volume(serenet, tmp_path, volume, small_psf, small_microscope):
    source, out = tmp_path / "cell.tif", tmp_path / "moving.tif"
    write_volume(
        source, volume, (0.2, small_microscope.pixel_um, small_microscope.pixel_um), overwrite=True
    )
    command = ("project", source, "--psf", small_psf, "--out", out)
    assert serenet(*command).code == 0
    at_rest = open_stack(out).read()
    drift = ("--drift", small_microscope.pixel_um, -0.5)
    error = serenet(*command, *drift).error
    assert error == f"error: {out} exists: add --overwrite to replace it, or choose another --out"
    outcome = serenet(*command, *drift, "--overwrite")
    assert outcome.code == 0, outcome.err
    assert "warning" not in outcome.err
    still = open_stack(tmp_path / "moving_still.tif")
    np.testing.assert_array_equal(still.read(), at_rest)
    assert still.voxel_um == open_stack(out).voxel_um
    moving = open_stack(out).read()
    assert moving.shape == (49, 24, 21)
    assert np.abs(moving - at_rest).max() > 0.1 * at_rest.max()
    # The middle exposure, and the same volume by the function.
    np.testing.assert_allclose(moving[:, 0::3, 2::3], at_rest[:, 0::3, 2::3], atol=1e-3)
    projected = LightFieldOperator(open_psf(small_psf).read([24])).forward(torch.from_numpy(volume))
    expected = scan_moving(projected, (1, -0.5 / small_microscope.pixel_um), SCALE)
    np.testing.assert_allclose(moving[24], expected[0], atol=1e-4 * float(expected.max()))


def test_a_drift_beyond_the_field_is_told(serenet, tmp_path, volume, small_psf):
    tifffile.imwrite(tmp_path / "cell.tif", volume)
    command = ("project", tmp_path / "cell.tif", "--psf", small_psf, "--out", tmp_path / "far.tif")
    outcome = serenet(*command, "--drift", 0, 3)
    assert outcome.code == 0
    assert "warning: --drift 0 3: beyond the field in one scan" in outcome.err


def test_noise_is_in_what_moves_alone(serenet, tmp_path, volume, small_psf):
    source = tmp_path / "cell.tif"
    tifffile.imwrite(source, volume)
    noise = ("--noise-photons", 2000, "--read-noise", 2)
    for name, more in (("exact", ()), ("noisy", noise)):
        command = ("project", source, "--psf", small_psf, "--out", tmp_path / f"{name}.tif")
        assert serenet(*command, "--drift", 0.1, 0.2, *more).code == 0
    exact, still, noisy, expected = (
        open_stack(tmp_path / f"{name}.tif").read()
        for name in ("exact", "exact_still", "noisy", "noisy_still")
    )
    factor = 2000 / exact.max()
    np.testing.assert_allclose(expected, factor * still, rtol=1e-5)
    residual = noisy - factor * exact
    assert abs(residual.mean()) < 0.2
    assert residual.std() == pytest.approx(np.sqrt((factor * exact).clip(0).mean() + 4), rel=0.05)


def test_what_cannot_drift(serenet, tmp_path, volume, small_psf, small_microscope, contents):
    unscanned = small_microscope.model_copy(update={"scanning": 1})
    write_psf(tmp_path / "one.h5", open_psf(small_psf).read(range(49)), unscanned)
    tifffile.imwrite(tmp_path / "cell.tif", volume)
    tifffile.imwrite(tmp_path / "odd.tif", volume[:, :100])
    before = contents(tmp_path)

    def refused(name="cell", psf=small_psf, drift=(0.1, 0.2)):
        out = ("--out", tmp_path / "out.tif")
        outcome = serenet(
            "project", tmp_path / f"{name}.tif", "--psf", psf, *out, "--drift", *drift
        )
        assert outcome.code == 2
        assert contents(tmp_path) == before
        return outcome.error

    assert "does not scan 3 x 3" in refused(psf=tmp_path / "one.h5")
    assert "odd.tif: shape (49, 23, 21)" in refused("odd")
    assert "give numbers of um" in refused(drift=("nan", 0))


def test_what_stands_in_the_way_is_kept(serenet, tmp_path, volume, small_psf, contents):
    tifffile.imwrite(tmp_path / "cell.tif", volume)
    (tmp_path / "out_still.tif").write_text("precious")
    before = contents(tmp_path)
    command = ("project", tmp_path / "cell.tif", "--psf", small_psf, "--out", tmp_path / "out.tif")
    assert "out_still.tif exists" in serenet(*command, "--drift", 0.1, 0.2).error
    assert contents(tmp_path) == before
