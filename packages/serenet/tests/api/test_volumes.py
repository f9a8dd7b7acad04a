"""Volumes from Python are those of the commands, whatever tells the optics."""

from functools import partial

import numpy as np
import pytest
import tifffile
import torch
import yaml

import serenet
from optics import open_psf, phase_space_psf, psf_shift
from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.memory import MemoryBudget
from serenet.api import volumes
from serenet.deconvolution import frame as deconvolution_frame


@pytest.fixture
def views(views_file):
    return serenet.subtract_background(serenet.read_views(views_file), 100)


@pytest.fixture
def by_command(serenet, tmp_path, views_file, small_psf):
    def call(*arguments):
        common = (views_file, "--psf", small_psf, "--background", 100, "--no-preview")
        outcome = serenet(*arguments[:1], *common, "--out", call.folder, *arguments[1:])
        assert outcome.code == 0, outcome.err
        (path,) = call.folder.glob("*.tif")
        return open_stack(path)

    call.folder = tmp_path / "out"
    return call


def test_deconvolution_is_that_of_the_command(views, by_command, small_psf):
    expected = by_command("deconvolve", "--iterations", 2, "--tv", 0.01)
    volume = serenet.deconvolve(views, small_psf, iterations=2, tv=0.01)
    np.testing.assert_array_equal(volume, expected.read())
    assert volume.voxel_um == pytest.approx(expected.voxel_um, rel=1e-4)


def test_whatever_tells_the_optics_gives_one_volume(views, small_psf, small_microscope, tmp_path):
    file = open_psf(small_psf)
    psf = file.read()
    volume = serenet.deconvolve(views, str(small_psf), 1)
    for source in (file, psf, psf.numpy()):
        told = {} if source is file else {"microscope": small_microscope}
        np.testing.assert_array_equal(serenet.deconvolve(views, source, 1, **told), volume)
    scope = small_microscope.with_depths((-0.2, 0.0))
    optics = tmp_path / "scope.yaml"
    optics.write_text(f"{scope.model_dump_json()}\n")
    computed = serenet.deconvolve(views, scope, 1)
    np.testing.assert_array_equal(serenet.deconvolve(views, optics, 1), computed)
    whole = serenet.deconvolve(views, phase_space_psf(scope), 1, microscope=scope)
    np.testing.assert_allclose(whole, computed, rtol=1e-4, atol=1e-4 * computed.max())


def test_windows_are_those_of_the_command(views, small_psf, by_command, monkeypatch):
    less = MemoryBudget(81_500_000, 81_500_000)
    for module in (volumes, deconvolution_frame):
        monkeypatch.setattr(module, "memory_budget", lambda *_: less)
    expected = by_command("deconvolve", "--iterations", 1).read()
    np.testing.assert_array_equal(serenet.deconvolve(views, small_psf, 1), expected)
    record = yaml.safe_load((by_command.folder / "views_deconvolved.yaml").read_text())
    assert record["frames"][0]["windows"] > 1


def test_reconstruction_and_refinement_are_those_of_the_command(
    views, by_command, small_psf, small_microscope, weights
):
    expected = by_command("reconstruct", "--checkpoint", weights["serenet"]).read()
    model = serenet.load_checkpoint(weights["serenet"])
    shift = open_psf(small_psf).read_shift()
    volume = serenet.reconstruct(views, model, shift, small_microscope.lateral_scale)
    assert volume.voxel_um is None
    np.testing.assert_allclose(volume, expected, rtol=1e-5, atol=1e-5 * expected.max())
    told = serenet.reconstruct(views, model, small_psf)
    np.testing.assert_array_equal(told, volume)
    assert told.voxel_um == small_microscope.voxel_um
    computed = serenet.reconstruct(views, model, small_microscope)
    by_hand = psf_shift(phase_space_psf(small_microscope))
    np.testing.assert_allclose(
        computed, serenet.reconstruct(views, model, by_hand.numpy(), 13 / 3), rtol=1e-3, atol=0.1
    )

    refined = by_command(
        "reconstruct", "--checkpoint", weights["serenet"], "--refine", 8, "--overwrite"
    ).read()
    start = volume.copy()
    result = serenet.refine(volume, views, small_psf, n_updates=8)
    np.testing.assert_allclose(result, refined, rtol=1e-3, atol=1e-3 * refined.max())
    assert np.linalg.norm(result - volume) > 0.1 * np.linalg.norm(volume)
    np.testing.assert_array_equal(volume, start)


def test_networks_of_fixed_planes_take_a_microscope_too(views, small_microscope):
    arguments = {"inChannels": 49, "outChannels": 9, "channels_interp": 32}
    model = serenet.build_model("vcdnet", **arguments).eval()
    volume = serenet.reconstruct(views, model, small_microscope)
    np.testing.assert_array_equal(volume, serenet.reconstruct(views, model, None, 13 / 3))
    assert volume.shape == (9, 104, 91)
    assert volume.voxel_um == small_microscope.voxel_um


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, p: serenet.deconvolve(v[0], p), r"views: shape \(24, 21\); give \(A, h, w\)"),
        (lambda v, p: serenet.deconvolve(v[:9], p), "views: 9 of them; the microscope names 49"),
        (lambda v, p: serenet.deconvolve(v - 50, p), "views: negative values; subtract the"),
        (lambda v, p: serenet.deconvolve(v * np.nan, p), "views: NaN"),
        (lambda v, p: serenet.deconvolve(v, p, iterations=0), "iterations from 1"),
        (lambda v, p: serenet.deconvolve(v, p, tv=-1), "tv and stop_at_change from 0"),
        (lambda v, p: serenet.deconvolve(v, "nnum14"), "'nnum14' is neither"),
        (lambda v, p: serenet.deconvolve(v, "nothing.h5"), "nothing.h5: no such file"),
        (lambda v, p: serenet.deconvolve(v, np.ones((49, 9, 5, 5))), "give microscope="),
        (
            lambda v, p: serenet.deconvolve(
                v, np.ones((49, 9, 5, 5)), microscope=serenet.load_microscope("nnum13")
            ),
            r"psf: shape \(49, 9, 5, 5\); .* give \(49, 101, H, W\)",
        ),
        (lambda v, p: serenet.refine(v, v, p), r"volume: shape .*it is \(9, 104, 91\)"),
        (lambda v, p: serenet.refine(v, v, p, 0), "at least 1 update"),
        (lambda v, p: serenet.reconstruct(v, None, np.ones((49, 9, 2))), "give the scale too"),
    ],
)
def test_what_does_not_fit_is_named(views, small_psf, call, message):
    with pytest.raises((UserError, ValueError), match=message) as failure:
        call(views, small_psf)
    assert "--" not in str(failure.value)


def test_results_lie_where_the_views_are(views, small_psf):
    volume = serenet.deconvolve(torch.from_numpy(np.asarray(views)), small_psf, 1)
    assert volume.device.type == "cpu"
    assert volume.dtype == torch.float32


def test_dark_views_give_a_dark_volume(small_psf):
    volume = serenet.deconvolve(np.zeros((49, 12, 12)), small_psf, 1)
    assert not volume.any()


def test_tifffile_reads_what_is_written(tmp_path, views, small_psf):
    volume = serenet.deconvolve(views, small_psf, 1)
    serenet.write_volume(tmp_path / "cell.tif", volume)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "cell.tif"), volume)
    assert open_stack(tmp_path / "cell.tif").voxel_um == pytest.approx(volume.voxel_um, rel=1e-4)


class StoppedError(Exception):
    pass


def test_progress_is_told_and_can_end_the_work(views, small_psf, small_microscope):
    told = []

    def tell(done, total):
        told.append((done, total))
        if done == stop:
            raise StoppedError

    stop, n_views = None, len(views)
    volume = serenet.deconvolve(views, small_psf, 2, on_progress=tell)
    assert told == [(n + 1, 2 * n_views) for n in range(2 * n_views)]
    np.testing.assert_array_equal(volume, serenet.deconvolve(views, small_psf, 2))
    told.clear()
    serenet.refine(volume, views, small_psf, 3, on_progress=tell)
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    model = serenet.load_checkpoint("demo")
    serenet.reconstruct(views, model, small_microscope, on_progress=tell)
    assert told == [(1, 1)]
    told.clear()
    stop = 1
    for work in (serenet.deconvolve, partial(serenet.refine, volume)):
        with pytest.raises(StoppedError):
            work(views, small_psf, 2, on_progress=tell)
    assert [done for done, _ in told] == [1, 1]
