import numpy as np
import pytest
import yaml

import serenet
from optics import open_psf, presets

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

REGION = [np.array([(6, 4), (6, 17.5), (17.5, 17.5), (17.5, 4)])]


@pytest.fixture
def widget(viewer, dock):
    viewer.open_sample("serenet", "demo")
    return dock("Reconstruct")


@pytest.fixture
def views(viewer, widget):
    return serenet.subtract_background(viewer.layers["views"].data[:, 0])


def test_network_makes_the_volume_of_the_command_at_its_place(viewer, widget, views, click, done):
    psf = viewer.layers["views"].metadata["serenet"]["optics"]
    assert str(widget.microscope.source) == psf  # the sample brings it along
    widget.weights.names.value = "demo"
    click(widget, "Reconstruct all")
    assert "41 x 156 x 156 voxels of 0.2 x 0.122 x 0.122 um" in done(widget)
    volume, truth = viewer.layers["views by network"], viewer.layers["truth"]
    expected = serenet.reconstruct(views, serenet.load_checkpoint("demo"), psf)
    np.testing.assert_allclose(volume.data, expected, rtol=1e-4, atol=1e-3)
    assert tuple(volume.scale) == pytest.approx(tuple(truth.scale))
    corner = np.asarray(viewer.layers["views"].extent.world)[0, 2:] - 0.529 / 2
    np.testing.assert_allclose(
        np.asarray(volume.extent.world)[0, 1:] - 0.122 / 2, corner, atol=1e-3
    )
    assert volume.translate[0] == pytest.approx(-4)  # the depth of the first plane
    refocused = viewer.layers["views refocused"]
    assert refocused.data.shape == (41, 36, 36)
    shift = open_psf(psf).read_shift().numpy() / (13 / 3)
    plane = serenet.decompose(views, shift[:, 20:21]).mean(axis=0)[0]
    np.testing.assert_allclose(refocused.data[20], plane, rtol=1e-4, atol=1e-3)
    widget.beside.value = True
    assert viewer.canvas.grid.enabled


def test_preview_is_of_a_region_and_some_planes(viewer, widget, views, click, done):
    widget.method.value = "deconvolution"
    widget.sweeps.value = 1
    click(widget, "Draw a region")
    viewer.layers["preview region"].data = REGION
    widget.planes.value = (15, 19)
    click(widget, "Preview")
    assert "5 x 52 x 61 voxels" in done(widget)
    layer = viewer.layers["views deconvolved"]
    assert layer.translate[0] == pytest.approx(-1)
    assert layer.translate[1] == pytest.approx((6 - 0.5) * 0.5291 + 0.0611, abs=1e-3)
    file = open_psf(viewer.layers["views"].metadata["serenet"]["optics"])
    depths = file.microscope.depths_um[15:20]
    expected = serenet.deconvolve(
        np.ascontiguousarray(views[:, 6:18, 4:18]),
        file.read()[:, 15:20],
        1,
        microscope=file.microscope.with_depths(depths),
    )
    np.testing.assert_allclose(layer.data, expected, rtol=1e-4, atol=1e-3)


def test_slider_of_depths_moves_through_the_volume_alone(viewer, widget, click, done):
    viewer.layers.remove("truth")
    widget.method.value = "deconvolution"
    widget.sweeps.value = 1
    click(widget, "Draw a region")
    viewer.layers["preview region"].data = REGION
    widget.planes.value = (25, 31)
    click(widget, "Preview")
    assert "7 x 52 x 61 voxels" in done(widget)
    assert viewer.dims.axis_labels[-3:] == ("z", "y", "x")
    assert viewer.dims.range[-3] == pytest.approx((1, 2.2, 0.2))  # its planes, in um
    assert viewer.dims.point[-3] == pytest.approx(1.6)
    viewer.layers["views"].visible = True
    viewer.dims.set_point(viewer.dims.ndim - 3, 2.2)
    assert (viewer.layers["views"]._slice.image.view > 0).any()  # seen at every plane


def test_views_that_say_nothing_about_their_axes_are_taken_too(viewer, widget, click, done):
    mine = viewer.add_image(viewer.layers["views"].data[:, 0], name="mine")
    widget.views.value = mine
    widget.weights.names.value = "demo"
    click(widget, "Reconstruct all")
    done(widget)
    assert viewer.layers["mine by network"].data.shape == (41, 156, 156)


def test_network_by_the_name_of_a_microscope_and_refinement(viewer, widget, click, done):
    widget.microscope.names.value = "nnum13"
    assert widget.planes.max == 100
    widget.method.value = "network + refinement"
    widget.weights.names.value = "demo"
    widget.updates.value = 4
    widget.planes.value = (49, 51)
    viewer.layers["views"].units = ("pixel",) * 4  # as of a file that tells no size
    viewer.layers["views"].scale = (1, 1, 1, 1)
    click(widget, "Draw a region")
    viewer.layers["preview region"].data = REGION
    click(widget, "Preview")
    assert "3 x 52 x 61 voxels" in done(widget)
    assert viewer.layers["views refined"].data.max() > 0
    assert tuple(viewer.layers["views"].scale[2:]) == pytest.approx((0.5291, 0.5291), abs=1e-4)


def test_views_of_a_microscope_of_ones_own_are_deconvolved(viewer, widget, tmp_path):
    assert widget.method.value == "network"
    content = presets["nnum13"].model_dump(mode="json", exclude={"views"})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    about = {"serenet": {"kind": "views", "optics": str(tmp_path / "mine.yaml")}}
    mine = viewer.add_image(np.ones((49, 8, 8)), name="mine", metadata=about)
    widget.views.value = mine
    assert widget.method.value == "deconvolution"
    assert widget.microscope.source == tmp_path / "mine.yaml"


def test_cancel_leaves_the_viewer_as_it_was(viewer, widget, click, done):
    before = [layer.name for layer in viewer.layers]
    widget.method.value = "deconvolution"
    widget.sweeps.value = 100
    click(widget, "Reconstruct all")
    click(widget, "Cancel")
    assert done(widget) == "cancelled: nothing has changed"
    assert [layer.name for layer in viewer.layers] == before
    click(widget, "Draw a region")
    assert "preview region" in viewer.layers


def test_wrong_files_are_told_in_a_line(viewer, widget, click, done, tmp_path):
    for name in ("wrong.h5", "wrong.yaml", "wrong.pt"):
        (tmp_path / name).write_text("nothing of the kind")
    widget.microscope.file.value = tmp_path / "wrong.h5"
    assert "wrong.h5" in widget.work.line.value
    click(widget, "Reconstruct all")
    assert "wrong.h5" in done(widget)
    widget.microscope.file.value = tmp_path / "wrong.yaml"
    click(widget, "Reconstruct all")
    assert "wrong.yaml" in done(widget)
    widget.microscope.names.value = "nnum13"
    widget.weights.choose(tmp_path / "wrong.pt")
    click(widget, "Reconstruct all")
    assert "wrong.pt" in done(widget)
    assert [layer.name for layer in viewer.layers] == ["truth", "views"]


def test_views_of_another_microscope_are_told(viewer, widget, click, done):
    widget.microscope.names.value = "nnum15"
    click(widget, "Reconstruct all")
    assert "views: 49 views; this microscope has 225, of which 81 are used" in done(widget)
    widget.background.value = "many"
    click(widget, "Reconstruct all")
    assert "background: many" in widget.work.line.value
