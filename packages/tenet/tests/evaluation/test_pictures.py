"""What pictures of an evaluation show."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tenet import metrics
from tenet.config.files import load_config
from tenet.config.sections import Visualization
from tenet.evaluation.pictures import Windows, draw_psf, draw_results, draw_sweep
from tenet.evaluation.statistics import Statistics
from tenet.metrics import fit_of
from tenet.network.jnet import JNet

from .made import result


def drawn(figure):
    """Return title to the axes of each column, without the second line."""
    return {axes.get_label().split("\n")[0]: axes for axes in figure.axes}


def views_of(axes):
    return [np.asarray(image.get_array()) for image in axes.images]


def projections(volume, project=np.max):
    return [project(volume, axis=axis) for axis in range(3)]


def test_every_column_shows_what_its_title_says():
    first, other = result(), result("RL-TV", seed=10, brightness=False)
    columns = drawn(draw_results([first, other], 0.5))
    gain, offset = fit_of(first.reconstruction, first.image)
    fitted = gain * first.reconstruction + offset
    expected = {
        "image": projections(first.image),
        "truth": projections(first.truth),
        "structure": projections(first.structure),
        "structure × brightness": projections(first.structure * first.brightness),
        "reconstruction": projections(fitted),
        "difference": projections(fitted - first.image, np.mean),
        "RL-TV": projections(other.structure),
    }
    assert list(columns) == list(expected)
    for title, volumes in expected.items():
        for view, volume in zip(views_of(columns[title]), volumes, strict=True):
            np.testing.assert_allclose(view, volume, rtol=1e-6, err_msg=title)
    assert not np.allclose(fitted, first.reconstruction)


def test_what_is_not_known_is_not_drawn():
    columns = drawn(draw_results([result(truth=False, brightness=False)], 0.5))
    assert list(columns) == ["image", "structure", "reconstruction", "difference"]


def test_colours_and_limits():
    first, other = result(), result("RL-TV", seed=10, brightness=False)
    columns = drawn(draw_results([first, other], 0.5))
    limits = {title: axes.images[0].get_clim() for title, axes in columns.items()}
    peak = float(np.percentile(first.image, 99.9))
    assert limits["truth"] == limits["structure"] == limits["structure × brightness"] == (0, 1)
    assert limits["image"] == limits["reconstruction"] == pytest.approx((0, peak))
    low, high = limits["difference"]
    assert low == -high
    assert high == max(np.abs(view).max() for view in views_of(columns["difference"]))
    brightest = np.percentile(other.structure.max(axis=0), 99.9)
    assert limits["RL-TV"] == pytest.approx((0, brightest))
    outlined = {title for title, axes in columns.items() if axes.collections}
    assert outlined == {"structure"}


def test_windows_choose_what_is_projected():
    first = result()
    figure = draw_results([first], 0.5, Visualization(z_stack=1, x_slice=3, mip=2))
    xy, xz, yz = views_of(drawn(figure)["structure"])
    structure = first.structure
    np.testing.assert_array_equal(xy, structure[2:6].max(axis=0))
    np.testing.assert_array_equal(xz, structure[:, 3:5].max(axis=1))
    np.testing.assert_array_equal(yz, structure[:, :, 3:5].max(axis=2))


def test_windows_stay_inside():
    section = Visualization(z_stack=12, x_slice=64, mip=12)
    windows = Windows.of(section, (24, 112, 112))
    assert windows.z == (0.5, 1)
    assert windows.x == pytest.approx((64 / 112, 76 / 112))
    small = Windows.of(section, (6, 20, 8))
    assert (small.z, small.y, small.x) == ((0, 1), (8 / 20, 1), (0, 1))
    assert Windows.of(None, (6, 20, 8)).y == (0, 1)
    volume = np.zeros((24, 20, 8), np.float32)
    volume[3, 4, 5] = 1
    xy, xz, yz = Windows.of(None, (6, 20, 8)).views(volume)
    assert (xy[4, 5], xz[3, 5], yz[3, 4]) == (1, 1, 1)
    assert (xy.sum(), xz.sum(), yz.sum()) == (1, 1, 1)


@pytest.mark.parametrize("slab_voxels", [1, 500, 10**7])
@pytest.mark.parametrize(("mean", "project"), [(False, np.max), (True, np.mean)])
def test_slabs_give_the_projections_of_the_whole(monkeypatch, slab_voxels, mean, project):
    monkeypatch.setattr(metrics, "_SLAB_VOXELS", slab_voxels)
    volume = np.random.default_rng(0).random((24, 20, 8), np.float32)
    section = Visualization(z_stack=2, x_slice=3, mip=2)  # planes 8 to 15 of the result
    views = Windows.of(section, (6, 20, 8)).views(volume, mean=mean)
    parts = volume[8:16], volume[:, 3:5], volume[:, :, 3:5]
    for axis, (view, part) in enumerate(zip(views, parts, strict=True)):
        np.testing.assert_allclose(view, project(part, axis=axis), rtol=1e-6)


def test_scores_over_the_threshold():
    found = {
        t: {"iou": Statistics(5, mean, 0.2, 0.05), "volume_error": Statistics(5, 0.1, 0.2, 0.05)}
        for t, mean in ((0.2, 0.3), (0.5, 0.7), (0.8, 0.4))
    }
    figure = draw_sweep({"tenet": found}, {"tenet": 0.5}, {"iou": 1.0, "volume_error": 0.0})
    iou, error = figure.axes
    assert [axes.get_title() for axes in (iou, error)] == ["IoU", "error of the volume"]
    curve, best, ideal = iou.lines
    np.testing.assert_allclose(curve.get_xydata(), [(0.2, 0.3), (0.5, 0.7), (0.8, 0.4)])
    assert best.get_xydata().tolist() == [[0.5, 0.7]]
    assert list(ideal.get_ydata()) == [1, 1]
    assert list(error.lines[-1].get_ydata()) == [0, 0]
    corners = iou.collections[0].get_paths()[0].vertices
    middle = corners[corners[:, 0] == 0.5][:, 1]
    assert (middle.min(), middle.max()) == pytest.approx((0.65, 0.75))
    assert (iou.get_ylim(), error.get_ylim()) == ((0, 1.05), (-1, 3))


def test_the_axis_of_the_volume_goes_to_four_times_the_ideal():
    found = {0.5: {"volume_um3": Statistics(2, 5.0, 1.0, 0.5)}}
    figure = draw_sweep({"tenet": found}, {"tenet": None}, {"volume_um3": 4.0})
    assert figure.axes[0].get_ylim() == (0, 16)


@pytest.fixture
def two_models(work):
    """Return configuration, and the pre-trained and the fine-tuned model, whose PSFs differ."""
    config = load_config("tuned.json")
    models = {}
    for seed, name in enumerate(("small", "tuned")):
        torch.manual_seed(seed)
        models[name] = JNet(config.params).eval()
        torch.save(models[name].state_dict(), work / "model" / f"{name}.pt")
    return config, models


def sections_of(figure):
    """Return title to the right half of the section that is shown."""
    shown = {axes.get_title(): np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3]}
    return {title: image[:, image.shape[1] // 2 :] for title, image in shown.items()}


def test_the_psf_before_and_after(two_models, work):
    config, models = two_models
    sections = {name: model.image.section().detach().numpy() for name, model in models.items()} | {
        "analytic": models["tuned"].image.analytic.numpy()
    }
    shown = sections_of(draw_psf(models["tuned"], config, work / "model" / "tuned.pt"))
    assert list(shown) == ["before", "after fine-tuning", "after fine-tuning - before"]
    expected = [sections["small"], sections["tuned"], sections["tuned"] - sections["small"]]
    for found, section in zip(shown.values(), expected, strict=True):
        np.testing.assert_allclose(found, section, atol=1e-6)

    shown = sections_of(draw_psf(models["small"], config, work / "model" / "small.pt"))
    assert list(shown) == ["analytic", "neural", "neural - analytic"]
    np.testing.assert_allclose(shown["analytic"], sections["analytic"], atol=1e-6)
    np.testing.assert_allclose(shown["neural"], sections["small"], atol=1e-6)


def test_a_flat_difference_has_a_range():
    same = result()
    figure = draw_results([replace(same, image=np.zeros_like(same.image) + 1e-9)], 0.5)
    low, high = drawn(figure)["image"].images[0].get_clim()
    assert high > low
