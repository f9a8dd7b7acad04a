"""The fit beside the result: deviance by view and place, and planes that collect light."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import BandLimitedOperator, LightFieldMicroscope, phase_space_psf
from serenet.deconvolution.fit import advice_on_depths

SCOPE = LightFieldMicroscope(
    magnification=60,
    numerical_aperture=1.2,
    refractive_index=1.35,
    wavelength_um=0.593,
    microlens_pitch_um=100,
    microlens_focal_length_um=2500,
    n_num=9,
    voxels_a_lens=5,
    depths_um=[-4.0, -2.0, 0.0, 2.0, 4.0],
)
LENSES = 12


def write_views(folder, depth, spoilt=()):
    """Write the views of beads at a depth, 2000 photons, and the microscope; spoil some views."""
    scope = SCOPE.with_depths([depth])
    truth = torch.zeros(1, 60, 60)
    for y, x in np.random.default_rng(0).integers(12, 48, (8, 2)):
        truth[0, y, x] = 1
    operator = BandLimitedOperator(
        phase_space_psf(scope), (60, 60), (LENSES, LENSES), sampling="point"
    )
    views = operator.forward(truth).clamp(min=0)
    views = torch.poisson(views * (2000 / views.max()), torch.Generator().manual_seed(1))
    for channel in spoilt:
        views[channel] = views[channel].roll(3, 1)
    tifffile.imwrite(folder / "beads.tif", views.numpy())
    settings = SCOPE.model_dump(mode="json")
    (folder / "scope.yaml").write_text(yaml.safe_dump(settings))
    return folder / "beads.tif", folder / "scope.yaml"


@pytest.fixture
def deconvolve(serenet, tmp_path):
    def call(*arguments, **kinds):
        views, optics = write_views(tmp_path, **kinds)
        common = ("--microscope", optics, "--iterations", 3, "--out", tmp_path / "out")
        outcome = serenet("deconvolve", views, *common, *arguments)
        assert outcome.code == 0, outcome.err
        record = yaml.safe_load((tmp_path / "out/beads_deconvolved.yaml").read_text())
        return outcome, record["frames"][0]

    return call


def test_the_fit_is_drawn_and_told(deconvolve, tmp_path, contents):
    _, frame = deconvolve(depth=2.0)
    names = [f"beads_deconvolved{end}" for end in (".png", ".tif", ".yaml", "_fit.png")]
    assert contents(tmp_path / "out") == names
    (sweeps,) = frame["deviance_per_sweep"]
    assert 0 < frame["fit"] < sweeps[1]


def test_views_that_do_not_fit_stand_out(deconvolve, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "serenet.deconvolution.files.draw_fit", lambda scope, path, fit: drawn.append(fit)
    )
    deconvolve(depth=2.0, spoilt=[7])
    (fit,) = drawn
    assert int(np.argmax(fit["by_view"])) == 7
    assert fit["by_view"][7] > 3 * np.median(fit["by_view"])
    assert np.array(fit["by_place"]).shape == (LENSES, LENSES)
    assert fit["deviance"] == pytest.approx(np.mean(fit["by_place"]), rel=0.01)


def test_light_from_beyond_the_planes_is_told(deconvolve):
    outcome, _ = deconvolve("--no-preview", depth=9.0)
    assert "outermost plane at 4 um" in outcome.err
    assert "depths_um" in outcome.err


def test_light_within_the_planes_is_no_cause_for_advice(deconvolve):
    outcome, _ = deconvolve("--no-preview", depth=2.0)
    assert "warning" not in outcome.err
    assert advice_on_depths(np.ones(3), SCOPE) is None
    assert advice_on_depths(np.zeros(5), SCOPE) is None
