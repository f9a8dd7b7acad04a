import numpy as np
import pytest

import serenet
from optics import phase_space_psf, presets, write_psf
from scopekit.images.files import write_volume

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

SMALL = presets["nnum13"].with_middle_depths(3)


def shown(viewer, path):
    viewer.open(str(path), plugin="serenet")
    return viewer.layers[-1]


def test_views_are_in_um_and_named(viewer, tmp_path):
    views = np.random.default_rng(0).random((49, 12, 15)).astype(np.float32)
    write_volume(tmp_path / "cell.tif", views, (None, 0.53, 0.53), overwrite=False)
    layer = shown(viewer, tmp_path / "cell.tif")
    assert layer.name == "cell"
    assert layer.axis_labels == ("view", "z", "y", "x")
    assert [str(unit) for unit in layer.units] == ["pixel"] + ["micrometer"] * 3
    assert tuple(layer.scale) == pytest.approx((1, 1, 0.53, 0.53))
    assert layer.metadata["serenet"]["kind"] == "views"
    np.testing.assert_array_equal(layer.data[:, 0], views)


def test_result_shows_its_settings(viewer, tmp_path):
    volume = np.ones((3, 8, 8), np.float32)
    serenet.write_volume(tmp_path / "cell_serenet.tif", volume, (0.2, 0.122, 0.122))
    (tmp_path / "cell_serenet.yaml").write_text("method: serenet\n")
    layer = shown(viewer, tmp_path / "cell_serenet.tif")
    assert layer.axis_labels == ("z", "y", "x")
    assert tuple(layer.scale) == pytest.approx((0.2, 0.122, 0.122))
    assert layer.metadata["serenet"] == {"kind": "volume", "settings": {"method": "serenet"}}


def test_camera_frame_is_a_plane_without_a_depth(viewer, tmp_path):
    frame = np.random.default_rng(0).random((1, 30, 40)).astype(np.float32)
    write_volume(tmp_path / "frame.tif", frame, (None, 0.1, 0.1), overwrite=False)
    layer = shown(viewer, tmp_path / "frame.tif")
    assert layer.axis_labels == ("y", "x")
    assert tuple(layer.scale) == pytest.approx((0.1, 0.1))
    np.testing.assert_array_equal(layer.data, frame[0])


def test_file_without_voxel_size_is_shown_in_pixels(viewer, tmp_path):
    np.save(tmp_path / "cell.npy", np.zeros((3, 8, 8), np.float32))
    layer = shown(viewer, tmp_path / "cell.npy")
    assert [str(unit) for unit in layer.units] == ["pixel"] * 3
    assert tuple(layer.scale) == (1, 1, 1)


def test_series_is_read_a_time_at_a_time(viewer, tmp_path):
    series = np.arange(4 * 49 * 6 * 6, dtype=np.float32).reshape(4, 49, 6, 6)
    write_volume(tmp_path / "series.tif", series, (None, 0.5, 0.5), overwrite=False)
    layer = shown(viewer, tmp_path / "series.tif")
    assert not isinstance(layer.data, np.ndarray)
    assert layer.axis_labels == ("t", "view", "z", "y", "x")
    np.testing.assert_array_equal(np.asarray(layer.data[2])[:, 0], series[2])


def test_psf_has_a_slider_for_views_and_one_for_depths(viewer, tmp_path):
    microscope = SMALL.with_views([84, 85])
    psf = phase_space_psf(microscope, size=21)
    write_psf(tmp_path / "psf.h5", psf, microscope)
    layer = shown(viewer, tmp_path / "psf.h5")
    assert layer.axis_labels == ("view", "z", "y", "x")
    assert tuple(layer.scale) == pytest.approx((1, *microscope.voxel_um))
    np.testing.assert_allclose(np.asarray(layer.data), psf.numpy())


@pytest.mark.parametrize("name", ["views.tif", "psf.h5"])
def test_damaged_file_is_told_in_a_line(viewer, tmp_path, name):
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(Exception, match=name) as told:
        shown(viewer, tmp_path / name)
    assert "\n" not in str(told.value)
    assert not viewer.layers
    viewer.add_image(np.zeros((4, 4)))  # the viewer lives on


def test_sample_is_the_light_field_of_the_demo(viewer):
    viewer.open_sample("serenet", "demo")
    truth, views = viewer.layers
    assert (truth.name, truth.data.shape, truth.visible) == ("truth", (41, 156, 156), False)
    assert (views.name, views.data.shape) == ("views", (49, 1, 36, 36))
    psf = views.metadata["serenet"]["optics"]
    optics = serenet.load_microscope(psf)
    assert optics.voxel_um == pytest.approx(tuple(truth.scale))
    assert viewer.dims.range[1] == pytest.approx((optics.depths_um[0], optics.depths_um[-1], 0.2))


def test_sample_of_recorded_frames_knows_its_microscope(viewer):
    viewer.open_sample("serenet", "guv")
    flat, raw = viewer.layers
    assert (flat.name, raw.name) == ("radiometry_frame", "light_field")
    assert flat.data.shape == raw.data.shape
    optics = serenet.load_microscope(raw.metadata["serenet"]["optics"])
    assert (optics.n_num, optics.scanning) == (15, 1)
