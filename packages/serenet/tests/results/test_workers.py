"""What workers that live on between runs take: the files and optics of now."""

import numpy as np
import pytest
import tifffile
import yaml

from optics import presets
from scopekit.images.files import open_stack
from scopekit.series import dask

pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")


@pytest.fixture
def worker(monkeypatch, tmp_path):
    """Let a worker in this process do what is spread; return the option."""
    monkeypatch.setenv("SERENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dask, "take_worker_share", lambda: None)
    monkeypatch.setattr(dask.console, "quiet", False)  # restored afterwards

    def here(scheduler, job, frames, what):
        told = {frame: job(frame) for frame in frames}
        return {frame: failure for frame, failure in told.items() if failure is not None}

    monkeypatch.setattr("serenet.results.workers.spread_frames", here)
    monkeypatch.setattr("serenet.results.workers.require_scheduler", lambda _: None)
    return ("--dask", "tcp://here:1")


@pytest.mark.parametrize("command", ["deconvolve", "reconstruct"])
def test_a_microscope_file_that_has_changed_is_read_again(
    serenet, tmp_path, worker, weights, command
):
    views, microscope = tmp_path / "views.tif", tmp_path / "mine.yaml"
    tifffile.imwrite(views, np.random.default_rng(0).poisson(200, (49, 10, 12)).astype("f4"))
    scope = presets["nnum13"].with_depths([-1.0, 0.0, 1.0])
    more = {
        "deconvolve": ("--iterations", 1),
        "reconstruct": ("--checkpoint", weights["serenet"]),
    }[command]

    def made(*arguments):
        out = ("--no-preview", "--overwrite", "--out", tmp_path / "out")
        outcome = serenet(command, views, "--microscope", microscope, *more, *out, *arguments)
        assert outcome.code == 0, outcome.err
        (store,) = (tmp_path / "out").glob("*.ome.zarr")
        return open_stack(store).read()

    microscope.write_text(yaml.safe_dump(scope.model_dump(mode="json")))
    first = made(*worker)
    changed = scope.model_copy(
        update={"microlens_focal_length_um": 1.1 * scope.microlens_focal_length_um}
    )
    microscope.write_text(yaml.safe_dump(changed.model_dump(mode="json")))
    second = made(*worker)
    assert not np.allclose(second, first)
    assert np.array_equal(second, made("--format", "zarr"))
