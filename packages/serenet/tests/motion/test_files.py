"""``serenet correct-motion`` on files, as users type it."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from scopekit.images.files import open_stack, write_volume
from serenet import build_model, correct_motion, load_checkpoint, save_checkpoint

ORDER = (6, 7, 8, 5, 2, 1, 0, 3, 4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A TW-Net of random weights whose masks are neither 0 nor 1."""
    path = tmp_path_factory.mktemp("weights") / "tw.pt"
    torch.manual_seed(0)
    save_checkpoint(path, build_model("twnet", channels=[4, 4, 8]))
    return path


@pytest.fixture
def correct(serenet, tmp_path, checkpoint):
    """Run the command; results go to ``tmp_path / "out"``."""

    def call(*inputs, model=checkpoint):
        out = ("--out", tmp_path / "out")
        return serenet("correct-motion", *inputs, "--checkpoint", model, *out)

    return call


@pytest.fixture
def views():
    """Make scanned views (A, Y, X) in counts."""

    def make(n_views=5, height=24, width=33, seed=0):
        rng = np.random.default_rng(seed)
        return (100 + 400 * rng.random((n_views, height, width)) ** 3).astype(np.float32)

    return make


def expected(views, checkpoint, order=ORDER):
    model = load_checkpoint(checkpoint)
    return correct_motion(torch.from_numpy(views), model, scan_order=order).numpy()


def test_a_view_stack(correct, tmp_path, views, checkpoint, contents):
    write_volume(tmp_path / "cell.tif", views(), (1.0, 0.5, 0.4), overwrite=False)
    outcome = correct(tmp_path / "cell.tif")
    assert outcome.code == 0, outcome.err
    out = tmp_path / "out"
    assert contents(out) == ["cell_twnet.png", "cell_twnet.tif", "cell_twnet.yaml"]
    result = open_stack(out / "cell_twnet.tif")
    assert result.shape == (5, 24, 33)
    assert result.steps.z_um is None
    assert (result.steps.y_um, result.steps.x_um) == pytest.approx((0.5, 0.4))
    found = result.read()
    np.testing.assert_allclose(found, expected(views(), checkpoint), rtol=1e-5)
    settings = yaml.safe_load((out / "cell_twnet.yaml").read_text())
    assert settings["method"] == "twnet"
    assert settings["scan_order"] == list(ORDER)
    change = np.sqrt(np.square(found - views()).mean())
    assert settings["frames"] == [{"frame": 0, "rms_change": pytest.approx(change, rel=1e-4)}]
    assert change > 1


def test_another_scan_order(correct, tmp_path, views, checkpoint):
    tifffile.imwrite(tmp_path / "cell.tif", views())
    order = (0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert correct(tmp_path / "cell.tif", "--scan-order", ",".join(map(str, order))).code == 0
    found = open_stack(tmp_path / "out" / "cell_twnet.tif").read()
    np.testing.assert_allclose(found, expected(views(), checkpoint, order), rtol=1e-5)
    assert np.abs(found - expected(views(), checkpoint)).max() > 1


def test_a_series_and_a_folder(correct, tmp_path, views, checkpoint):
    folder = tmp_path / "recorded"
    folder.mkdir()
    frames = np.stack([views(17, seed=s) for s in range(3)])
    write_volume(folder / "series.tif", frames, (1.0, 0.5, 0.5), overwrite=False)
    tifffile.imwrite(folder / "one.tif", np.rint(views()).astype(np.uint16))
    outcome = correct(folder)
    assert outcome.code == 0, outcome.err
    series = open_stack(tmp_path / "out" / "series_twnet.tif")
    assert series.shape == (3, 17, 24, 33)
    for n, frame in enumerate(frames):
        np.testing.assert_allclose(series.read(n), expected(frame, checkpoint), rtol=1e-5)
    one = open_stack(tmp_path / "out" / "one_twnet.tif").read()
    np.testing.assert_allclose(one, expected(np.rint(views()), checkpoint), rtol=1e-5)


def test_a_single_view(correct, tmp_path, views, checkpoint):
    tifffile.imwrite(tmp_path / "one.tif", views(1)[0])
    assert correct(tmp_path / "one.tif").code == 0
    found = tifffile.imread(tmp_path / "out" / "one_twnet.tif")
    np.testing.assert_allclose(found, expected(views(1), checkpoint)[0], rtol=1e-5)


def test_existing_results_are_kept(correct, tmp_path, views):
    tifffile.imwrite(tmp_path / "cell.tif", views())
    assert correct(tmp_path / "cell.tif").code == 0
    kept = tmp_path / "out" / "cell_twnet.tif"
    before = kept.stat().st_mtime_ns
    outcome = correct(tmp_path / "cell.tif")
    assert outcome.code == 2
    assert "add --overwrite" in outcome.error
    assert kept.stat().st_mtime_ns == before
    assert correct(tmp_path / "cell.tif", "--overwrite").code == 0
    assert kept.stat().st_mtime_ns > before


def nan_at_the_end(stack):
    stack[-1, -1, -1] = np.nan
    return stack


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda v: v[:, :-1], "(20, 23, 33); interlaced views of a 3 x 3 scan"),
        (lambda v: v[..., 1:], "multiples of 3: crop them"),
        (lambda v: v[0, :-2], "(1, 22, 33)"),
        (lambda v: np.stack([[v, v], [v, v]]), "expected one stack"),
        (nan_at_the_end, "NaN or infinite values (page 19, counted from 0)"),
    ],
)
def test_broken_views(correct, tmp_path, views, contents, spoil, reason):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(path, spoil(views(20)))
    outcome = correct(path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith(f"error: {path}: ")
    assert reason in outcome.error
    assert contents(tmp_path / "out") == []


def test_a_cut_file_does_not_stop_the_others(correct, tmp_path, views, contents):
    good, cut = tmp_path / "good.tif", tmp_path / "cut.tif"
    tifffile.imwrite(good, views())
    cut.write_bytes(good.read_bytes()[:3000])
    outcome = correct(cut, good)
    assert outcome.code == 2
    assert "cut.tif: damaged" in outcome.err
    assert "1 of 2 inputs failed" in outcome.err
    assert contents(tmp_path / "out") == [f"good_twnet{e}" for e in (".png", ".tif", ".yaml")]


def test_wrong_checkpoints(correct, tmp_path, views, weights, contents):
    tifffile.imwrite(tmp_path / "cell.tif", views())
    before = contents(tmp_path)
    outcome = correct(tmp_path / "cell.tif", model=weights["serenet"])
    assert outcome.code == 2
    assert "serenet.pth: a serenet does not correct motion" in outcome.error
    assert "no such file" in correct(tmp_path / "cell.tif", model=tmp_path / "no.pt").error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("order", ["1,2,3", "a,b", "0,1,2,3,4,5,6,7,7"])
def test_wrong_scan_orders(correct, tmp_path, views, order):
    tifffile.imwrite(tmp_path / "cell.tif", views())
    outcome = correct(tmp_path / "cell.tif", "--scan-order", order)
    assert outcome.code == 2
    assert "order" in outcome.error


def test_too_little_memory(correct, tmp_path, views, contents):
    tifffile.imwrite(tmp_path / "cell.tif", np.zeros((1, 3000, 3000), np.float32))
    outcome = correct(tmp_path / "cell.tif", "--max-memory-gb", 1)
    assert outcome.code == 2
    assert "--max-memory-gb" in outcome.error
    assert contents(tmp_path / "out") == []


def test_reconstruct_names_the_command(serenet, tmp_path, checkpoint, views_file):
    arguments = ("--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "serenet correct-motion" in serenet("reconstruct", views_file, *arguments).error
