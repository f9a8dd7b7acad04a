"""How many sweeps are made where nobody says: by the misfit, alike in all windows and frames."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import (
    BandLimitedOperator,
    LightFieldMicroscope,
    LightFieldOperator,
    phase_space_psf,
    presets,
    sample_views,
)
from serenet.deconvolution import frame as deconvolution_frame
from serenet.deconvolution.resume import SavedSweeps
from serenet.deconvolution.stopping import MOST_SWEEPS, is_doubtful, is_enough, is_noise, told
from serenet.deconvolution.windows import Window

SIDE = 104


@pytest.fixture(scope="module")
def views():
    """Views (9, 24, 24) of blobs, 1 at most."""
    scope = presets["nnum13"]
    truth = torch.zeros(3, SIDE, SIDE)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for z, row, column in np.random.default_rng(0).integers((0, 10, 10), (3, 94, 94), (12, 3)):
        truth[z] += torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 32)
    chosen = scope.with_depths([-2.0, 0.0, 2.0]).with_views(scope.views[:9])
    operator = LightFieldOperator(phase_space_psf(chosen, size=65))
    sampled = sample_views(operator.forward(truth), scope.lateral_scale).clamp(min=0).numpy()
    return sampled / sampled.max()


@pytest.fixture
def deconvolve(serenet, tmp_path, psf, views):
    """Deconvolve views of so many photons each time point; return what was said and the record."""

    def call(*arguments, photons=(200,), out="out"):
        path = tmp_path / f"views{photons}.tif"
        if not path.exists():
            rng = np.random.default_rng(1)
            noisy = np.stack([rng.poisson(views * n) for n in photons]).astype(np.float32)
            tifffile.imwrite(path, noisy if len(photons) > 1 else noisy[0])
        folder = tmp_path / out
        common = ("--psf", psf, "--background", 0, "--no-preview", "--out", folder)
        outcome = serenet("deconvolve", path, *common, *arguments)
        record = folder / f"{path.stem}_deconvolved.yaml"
        return outcome, yaml.safe_load(record.read_text()) if record.exists() else None

    return call


def sweeps(record):
    """Return the numbers of sweeps of all windows of all frames."""
    return [len(w) for frame in record["frames"] for w in frame["deviance_per_sweep"]]


def test_a_sweep_that_gains_little_is_the_last():
    assert [is_enough(d) for d in ([9.0], [9.0, 8.0], [9.0, 8.9], [0.0, 0.0])] == [
        *(False, False),
        *(True, True),
    ]
    assert is_enough([2.0**-n for n in range(MOST_SWEEPS)])
    assert not is_enough([2.0**-n for n in range(MOST_SWEEPS - 1)])
    assert told([0.0]) == "1 sweep; a second explains views that it has not seen no better"
    assert told([1.0, 0.5, 0.6]) == "3 sweeps; the last did not lower the misfit"


def test_bright_light_fields_have_more_sweeps_than_dim_ones(deconvolve):
    found = {}
    for photons in (5, 5000):
        outcome, record = deconvolve(photons=(photons,))
        assert outcome.code == 0, outcome.err
        (found[photons],) = sweeps(record)
        (deviances,) = record["frames"][0]["deviance_per_sweep"]
        assert is_enough(deviances)
        assert is_doubtful(deviances[:2]) is (photons == 5)  # and that judges dispel
        assert not is_enough(deviances[:-1])
        assert told(deviances) in outcome.err
        assert record["iterations"] == "found by the misfit"
    assert 2 <= found[5] < found[5000]


def test_dim_light_fields_keep_the_first_sweep(deconvolve, tmp_path):
    outcome, record = deconvolve(photons=(1,))
    assert sweeps(record) == [1]
    assert "1 sweep; a second explains" in outcome.err
    deconvolve("--iterations", 1, photons=(1,), out="once")
    name = "views(1,)_deconvolved.tif"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    _, smooth = deconvolve("--tv", 0.02, photons=(1,), out="tv")
    assert sweeps(smooth)[0] > 1


def test_a_sweep_that_gains_little_fits_noise_where_light_is_scarce():
    assert [is_noise(d) for d in ([9.0], [9.0, 8.0], [9.0, 8.0, 7.9], [9.0, 4.0, 3.95])] == [
        *(False, False),
        *(True, False),
    ]
    assert is_noise([9.0, 4.0, 4.1])  # whatever the light
    assert told([9.0, 8.0]) == "2 sweeps; one more fits noise"


@pytest.fixture(scope="module")
def unscanned(tmp_path_factory):
    """A file of an unscanned microscope and its views (9, 12, 12) of balls, 1 at most."""
    scope = LightFieldMicroscope(
        magnification=60,
        numerical_aperture=1.2,
        refractive_index=1.35,
        wavelength_um=0.593,
        microlens_pitch_um=100,
        microlens_focal_length_um=2500,
        n_num=5,
        depths_um=[-4.0, -2.0, 0.0, 2.0, 4.0],
    )
    path = tmp_path_factory.mktemp("unscanned") / "my.yaml"
    path.write_text(yaml.safe_dump(scope.model_dump(mode="json")))
    truth = torch.zeros(5, 60, 60)
    y, x = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    for z, row, column in np.random.default_rng(0).integers((0, 10, 10), (5, 50, 50), (12, 3)):
        truth[z] += ((y - row) ** 2 + (x - column) ** 2 < 20).float()
    psf = phase_space_psf(scope, size=65)
    operator = BandLimitedOperator(psf, (60, 60), (12, 12), sampling="point")
    seen = operator.forward(truth).clamp(min=0).numpy()
    return path, seen / seen.max()


@pytest.mark.parametrize("photons", [3, 5000])
def test_a_dim_unscanned_light_field_is_given_one_sweep_back(serenet, tmp_path, unscanned, photons):
    microscope, seen = unscanned
    views = tmp_path / "views.tif"
    tifffile.imwrite(
        views, np.random.default_rng(0).poisson(photons * (seen + 1)).astype(np.float32)
    )
    common = ("deconvolve", views, "--microscope", microscope, "--no-preview", "--out")
    outcome = serenet(*common, tmp_path / "found")
    assert outcome.code == 0, outcome.err
    name = "views_deconvolved"
    record = yaml.safe_load((tmp_path / f"found/{name}.yaml").read_text())
    (fits,) = record["frames"][0]["deviance_per_sweep"]
    serenet(*common, tmp_path / "longer", "--iterations", len(fits) + 1)
    longer = yaml.safe_load((tmp_path / f"longer/{name}.yaml").read_text())
    (more,) = longer["frames"][0]["deviance_per_sweep"]
    assert more[:-1] == fits
    assert is_enough(more if photons == 3 else fits)
    assert is_noise(more) is (photons == 3)
    assert ("one more fits noise" in outcome.err) is (photons == 3)
    serenet(*common, tmp_path / "same", "--iterations", len(fits))
    same = tmp_path / f"same/{name}.tif"
    assert (tmp_path / f"found/{name}.tif").read_bytes() == same.read_bytes()


def test_doubts_that_judges_dispel_change_nothing(deconvolve, tmp_path, monkeypatch):
    _, record = deconvolve(out="whole")
    with monkeypatch.context() as patch:
        patch.setattr(deconvolution_frame, "is_doubtful", lambda fits: len(fits) == 2)
        patch.setattr(deconvolution_frame, "first_is_enough", lambda _: False)
        _, doubted = deconvolve()
    assert doubted == record
    name = "views(200,)_deconvolved.tif"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_all_windows_and_frames_have_as_many(deconvolve, monkeypatch):
    whole, volume = slice(0, 24), slice(0, SIDE)
    halves = [
        Window(*((whole, slice(*views)), (volume, slice(*there)), (volume, slice(*kept)), core))
        for views, there, kept, core in (
            ((0, 18), (0, 78), (0, 52), (whole, slice(0, 12))),
            ((6, 24), (26, SIDE), (52, SIDE), (whole, slice(12, 24))),
        )
    ]
    monkeypatch.setattr(deconvolution_frame, "plan_windows", lambda *_, **__: halves)
    outcome, record = deconvolve(photons=(3000, 5))
    assert outcome.code == 0, outcome.err
    assert record["frames"][0]["windows"] > 1
    assert len(set(sweeps(record))) == 1


@pytest.mark.parametrize(
    ("photons", "saved"), [((3000, 5), 2), ((3000, 5), 9), ((1, 1), 1), ((1, 1), 2)]
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    deconvolve, tmp_path, monkeypatch, photons, saved
):
    _, record = deconvolve(photons=photons, out="whole")
    with monkeypatch.context() as patch:
        save, calls = SavedSweeps.save, []

        def failing(*arguments, **options):
            calls.append(None)
            if len(calls) > saved:
                raise MemoryError
            save(*arguments, **options)

        patch.setattr(SavedSweeps, "save", failing)
        outcome, left = deconvolve(photons=photons)
        assert (outcome.code, left) == (2, None)
    outcome, again = deconvolve(photons=photons)
    assert "going on" in outcome.err
    assert again == record
    name = f"views{photons}_deconvolved.tif"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_iterations_go_on_from_those_that_were_found(deconvolve, tmp_path):
    _, record = deconvolve()
    more = sweeps(record)[0] + 2
    outcome, longer = deconvolve("--iterations", more)
    assert f"going on from its {more - 2} iterations" in outcome.err
    _, whole = deconvolve("--iterations", more, out="whole")
    assert longer == whole
