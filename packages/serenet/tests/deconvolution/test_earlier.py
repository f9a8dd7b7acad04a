"""A finished deconvolution takes more iterations, and gives what a longer run gives."""

import numpy as np
import pytest
import tifffile
import yaml

from scopekit.images.files import open_stack
from serenet.deconvolution import frame as deconvolution_frame

SCALES = {"counts": 1.0, "tiny numbers": 1e-12}


@pytest.fixture
def deconvolve(serenet, tmp_path, psf):
    """Deconvolve a scaled light field; return what was said and the result."""

    def call(iterations, *arguments, out="out", scale=1.0, shape=(9, 18, 21)):
        path = tmp_path / "views.tif"
        if not path.exists():
            values = np.random.default_rng(0).poisson(200, shape) * scale
            tifffile.imwrite(path, values.astype(np.float32), photometric="minisblack")
        folder = tmp_path / out
        common = ("--psf", psf, "--background", 0, "--no-preview", "--out", folder)
        outcome = serenet("deconvolve", path, *common, "--iterations", iterations, *arguments)
        return outcome, folder / "views_deconvolved.tif"

    return call


def record(result):
    return yaml.safe_load(result.with_suffix(".yaml").read_text())


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("also", [(), ("--tv", 0.01)])
def test_more_iterations_give_the_longer_run_to_the_last_bit(deconvolve, scale, also):
    deconvolve(2, *also, scale=scale)
    outcome, result = deconvolve(4, *also, scale=scale)
    assert (outcome.code, "going on from its 2 iterations" in outcome.err) == (0, True)
    _, whole = deconvolve(4, *also, out="whole", scale=scale)
    assert result.read_bytes() == whole.read_bytes()
    assert record(result) == record(whole)
    assert len(record(result)["frames"][0]["deviance_per_sweep"][0]) == 4


def test_a_series_goes_on_frame_by_frame(deconvolve):
    deconvolve(1, shape=(2, 9, 18, 21))
    outcome, result = deconvolve(2)
    assert "going on" in outcome.err
    _, whole = deconvolve(2, out="whole")
    assert open_stack(result).n_frames == 2
    assert result.read_bytes() == whole.read_bytes()


def test_only_what_is_missing_is_computed(deconvolve, monkeypatch):
    deconvolve(3)
    first = []
    plain = deconvolution_frame.richardson_lucy

    def watched(*arguments, first_iteration, **options):
        first.append(first_iteration)
        return plain(*arguments, first_iteration=first_iteration, **options)

    monkeypatch.setattr(deconvolution_frame, "richardson_lucy", watched)
    deconvolve(4)
    deconvolve(5, "--overwrite")
    assert first == [3, 0]


@pytest.mark.parametrize(
    "other", [("--iterations", 2), ("--tv", 0.01), ("--dtype", "uint16"), ("--stop-at-change", 0.1)]
)
def test_what_is_no_longer_run_of_the_same_is_refused(deconvolve, other):
    _, result = deconvolve(3)
    kept = result.read_bytes()
    outcome, _ = deconvolve(4, *other)
    assert (outcome.code, "add --overwrite" in outcome.error) == (2, True)
    assert result.read_bytes() == kept


def test_other_windows_start_anew(deconvolve, monkeypatch):
    _, result = deconvolve(1)
    text = result.with_suffix(".yaml").read_text().replace("windows: 1", "windows: 4")
    result.with_suffix(".yaml").write_text(text)
    deconvolve(2)
    _, whole = deconvolve(2, out="whole")
    assert result.read_bytes() == whole.read_bytes()
