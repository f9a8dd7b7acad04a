import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import serenet
from optics import presets
from serenet.rectification.lattice import find_lattice

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")


def small_camera():
    path = Path(__file__).parent.parent / "rectification" / "small_camera.py"
    spec = importlib.util.spec_from_file_location("small_camera", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def frames():
    camera = small_camera()
    raw, flat = camera.expose(camera.sample), camera.expose(camera.uniform)
    return {"raw": raw, "flat": flat, "dark": np.full(camera.SHAPE, 100.0)}


@pytest.fixture
def microscope(tmp_path):
    content = presets["nnum13"].model_dump(mode="json", exclude={"views"})
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**content, "n_num": 9, "scanning": 1}))
    return file


@pytest.fixture
def widget(viewer, dock, frames, microscope, tmp_path):
    for name, frame in frames.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", frame.astype(np.float32))
        viewer.open(str(tmp_path / f"{name}.tif"), plugin="serenet")
    widget = dock("Rectify")
    for name in frames:
        widget_box = getattr(widget, name)
        widget_box.value = viewer.layers[name]
    widget.microscope.choose(microscope)
    return widget


def test_frame_becomes_views_under_a_lattice(viewer, widget, frames, microscope, click, done):
    click(widget, "Rectify")
    lattice = find_lattice((frames["flat"] - 100).astype(np.float32))
    assert f"{lattice.rows} x {lattice.columns} microlenses" in done(widget)
    points = viewer.layers["microlenses"].data
    np.testing.assert_allclose(points, lattice.centres().reshape(-1, 2), atol=0.01)
    views = viewer.layers["raw views"]
    expected = serenet.rectify(
        frames["raw"].astype(np.float32),
        frames["flat"].astype(np.float32),
        serenet.load_microscope(microscope),
        dark=frames["dark"].astype(np.float32),
    )
    np.testing.assert_allclose(views.data[:, 0], expected, rtol=1e-4, atol=0.5)
    assert views.axis_labels == ("view", "z", "y", "x")
    assert views.scale[-1] == pytest.approx(serenet.load_microscope(microscope).view_pixel_um)


def test_the_frame_stays_in_sight_when_its_pixels_become_um(viewer, widget, click, done):
    click(widget, "Rectify")
    done(widget)
    frame = viewer.layers["raw"].extent.world[:, -2:]
    np.testing.assert_allclose(
        viewer.scene.camera.center[-2:], frame.mean(axis=0), atol=np.ptp(frame) / 4
    )
    zoomed = viewer.scene.camera.zoom = 2 * viewer.scene.camera.zoom
    click(widget, "Rectify")
    done(widget)
    assert viewer.scene.camera.zoom == zoomed  # as the user left it


def test_frames_are_told_apart_by_their_names(viewer, dock):
    widget = dock("Rectify")
    viewer.open_sample("serenet", "guv")
    assert (widget.flat.value.name, widget.raw.value.name) == ("radiometry_frame", "light_field")
    assert widget.dark.value is None


def test_calibration_is_kept_and_used_for_the_next_frame(
    viewer, widget, frames, click, done, tmp_path
):
    click(widget, "Keep the calibration")
    assert "no lattice is found yet" in widget.work.line.value
    click(widget, "Rectify")
    done(widget)
    first = viewer.layers["raw views"].data
    kept = tmp_path / "calibration.yaml"
    widget.target.value = kept
    click(widget, "Keep the calibration")
    assert kept.exists()
    for name in ("flat", "dark", "raw views"):
        viewer.layers.remove(name)
    widget.calibration.value = kept
    click(widget, "Rectify")
    assert "microlenses" in done(widget)
    np.testing.assert_allclose(viewer.layers["raw views"].data, first, rtol=1e-5, atol=0.1)


def test_known_lattice_is_not_sought_again(viewer, widget, click, done, monkeypatch):
    click(widget, "Rectify")
    done(widget)
    monkeypatch.setattr("serenet.napari.rectify.find_lattice", None)
    viewer.layers.remove("raw views")
    click(widget, "Rectify")
    assert "microlenses" in done(widget)
    assert "raw views" in viewer.layers


def test_wrong_frames_and_files_are_told_in_a_line(viewer, widget, click, done, tmp_path):
    viewer.add_image(np.random.default_rng(0).random((200, 220)), name="noise")
    widget.flat.value = viewer.layers["noise"]
    click(widget, "Rectify")
    assert "no microlens lattice" in done(widget)
    viewer.add_image(np.ones((100, 100)), name="other")
    widget.raw.value, widget.flat.value = viewer.layers["other"], viewer.layers["flat"]
    click(widget, "Rectify")
    assert "raw: frames of (100, 100)" in done(widget)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("lattice: none\n")
    widget.calibration.value = wrong
    click(widget, "Rectify")
    assert "wrong.yaml: not a calibration" in done(widget)
    assert "raw views" not in viewer.layers


def test_cancel_leaves_the_viewer_as_it_was(viewer, widget, click, done):
    click(widget, "Rectify")
    click(widget, "Cancel")
    assert done(widget) == "cancelled: nothing has changed"
    assert "raw views" not in viewer.layers


def test_views_lie_over_the_frame_and_no_dark_frame_is_made_up(viewer, widget, click, done):
    widget.dark.value = None
    click(widget, "Rectify")
    done(widget)
    assert widget.dark.value is None
    raw, views = viewer.layers["raw"], viewer.layers["raw views"]
    assert {str(layer.units[-1]) for layer in viewer.layers} == {"micrometer"}
    lenses = viewer.layers["microlenses"]
    first = np.asarray(lenses.data)[0] * lenses.scale + lenses.translate
    np.testing.assert_allclose(views.translate[2:], first, rtol=1e-6)
    last = np.asarray(lenses.data)[-1] * lenses.scale
    shape = np.array(views.data.shape[2:])
    np.testing.assert_allclose(
        views.translate[2:] + (shape - 1) * views.scale[2:], last, atol=raw.scale[-1] * 5
    )
