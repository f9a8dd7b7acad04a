import numpy as np
import pytest

import tenet
from scopekit.images.voxel import Steps

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

from scopekit.napari.layers import layer_of


@pytest.fixture
def widget(viewer, dock):
    viewer.open_sample("tenet-microscopy", "demo")
    return dock("Enhance")


def test_all_is_enhanced_labelled_and_measured(viewer, widget, click, done):
    image = viewer.layers["demo image"]
    click(widget, "Enhance all")
    assert "0 and 1 counted as 0 and 1" in done(widget)
    structure = viewer.layers["demo image structure"]
    expected = tenet.enhance(
        tenet.load_model("demo_pretrain"), image.data, voxel_um=(0.8, 0.2, 0.2), value_range=(0, 1)
    )
    np.testing.assert_allclose(structure.data, expected.structure, atol=1e-5)
    assert tuple(structure.scale) == pytest.approx((0.2, 0.2, 0.2))
    assert structure.translate[0] == pytest.approx(-0.3)  # four planes share the place of one
    low, high = np.asarray(structure.extent.world)[:, 0]
    assert (low - 0.1, high + 0.1) == pytest.approx((-0.4, 25.2))

    widget.threshold.value = 0.7
    assert viewer.layers["demo image above threshold"].contrast_limits == pytest.approx(
        (0.7, 0.7), abs=1e-3
    )
    click(widget, "Label and measure objects")
    line = done(widget)
    labels = viewer.layers["demo image objects"]
    assert line.startswith(f"{labels.data.max()} objects")
    np.testing.assert_array_equal(labels.data, tenet.label_objects(structure.data, 0.7))
    voxels = np.bincount(labels.data.ravel())[1:]
    np.testing.assert_allclose(labels.features["volume_um3"], voxels * 0.008, rtol=1e-6)
    assert "Features table widget (napari)" in viewer.window.dock_widgets
    assert labels.features["index"].tolist() == list(range(1, len(voxels) + 1))


def test_preview_is_of_the_region_and_lies_in_its_place(viewer, widget, click, done):
    click(widget, "Draw a region")
    region = viewer.layers["preview region"]
    region.data = [np.array([(10, 20), (10, 59.5), (41.5, 59.5), (41.5, 20)])]
    click(widget, "Preview the region")
    assert "counted as 0 and 1" in done(widget)
    structure = viewer.layers["demo image structure"]
    assert structure.data.shape == (128, 32, 40)
    assert tuple(structure.translate[1:]) == pytest.approx((2.0, 4.0))


def test_cancel_leaves_all_as_it_was(viewer, widget, click, done):
    before = [layer.name for layer in viewer.layers]
    click(widget, "Enhance all")
    assert widget.work.busy
    click(widget, "Cancel")
    assert done(widget) == "cancelled: nothing has changed"
    assert [layer.name for layer in viewer.layers] == before
    click(widget, "Draw a region")  # and goes on
    assert "preview region" in viewer.layers


def test_wrong_weights_are_told_in_a_line(viewer, widget, click, done, tmp_path):
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"no checkpoint")
    widget.weights.choose(wrong)
    click(widget, "Enhance all")
    line = done(widget)
    assert str(wrong) in line
    assert "\n" not in line
    assert [layer.name for layer in viewer.layers] == ["demo image"]
    assert not widget.work.busy


@pytest.mark.parametrize(
    ("text", "told"), [("900 100", "lower value first"), ("a b", "two numbers"), ("5 9", "outside")]
)
def test_wrong_range_is_told_at_once(widget, click, text, told):
    widget.value_range.value = text
    click(widget, "Enhance all")
    assert told in widget.work.line.value
    assert not widget.work.busy


def test_no_stack_is_told(viewer, dock, click):
    widget = dock("Enhance")
    click(widget, "Enhance all")
    assert "no stack is chosen" in widget.work.line.value
    viewer.add_image(np.zeros((3, 8, 8)), name="flat")
    assert widget.stack.value.name == "flat"
    click(widget, "Enhance all")
    assert "constant" in widget.work.line.value


def test_an_empty_range_is_found_in_all_of_the_stack_as_by_the_command(viewer, widget, click, done):
    widget.value_range.value = ""
    click(widget, "Draw a region")
    click(widget, "Preview the region")
    line = done(widget)
    image = viewer.layers["demo image"].data
    low, high = tenet.enhance(tenet.load_model("demo_pretrain"), image).value_range
    assert f"recorded values {low:.4g} and {high:.4g} counted" in line


def test_the_selected_layer_comes_first(viewer, dock):
    for name in ("first", "second", "third"):
        viewer.add_image(np.zeros((4, 8, 8)), name=name)
    viewer.layers.selection.active = viewer.layers["second"]
    assert dock("Enhance").stack.value.name == "second"


def test_a_single_image_is_no_stack(viewer, dock, click):
    viewer.add_image(np.random.default_rng(0).random((1, 20, 20)), name="camera")
    widget = dock("Enhance")
    click(widget, "Enhance all")
    assert widget.work.line.value == "camera: a single 2D image; expected a stack"


@pytest.mark.parametrize(
    ("steps", "made", "told"),
    [
        (Steps(None, 0.2, 0.2), (0.2, 0.2, 0.2), "configuration where"),
        (Steps(0.8, 1.7, 1.7), (0.2, 1.7, 1.7), "warning: the network was trained for voxels of"),
        (Steps(), (0.2, 0.2, 0.2), "configuration where"),
    ],
)
def test_voxels_are_those_of_the_stack_or_of_the_network(
    viewer, dock, click, done, steps, made, told
):
    values = np.random.default_rng(0).random((4, 20, 20))
    viewer.add_image(values, **layer_of(values, "small", steps)[1])
    widget = dock("Enhance")
    click(widget, "Enhance all")
    assert told in done(widget)
    assert tuple(viewer.layers["small structure"].scale) == pytest.approx(made)
