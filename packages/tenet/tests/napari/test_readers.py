from dataclasses import replace

import numpy as np
import pytest

from scopekit.images.files import write_volume
from scopekit.images.zarr_writer import (
    NewImage,
    ZarrVolume,
    create_collection,
    declare_whole,
)

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")


def shown(viewer, path):
    viewer.open(str(path), plugin="tenet-microscopy")
    return viewer.layers[-1]


def test_recording_is_in_um_and_named(viewer, tmp_path):
    stack = np.random.default_rng(0).random((4, 8, 9)).astype(np.float32)
    write_volume(tmp_path / "cell.tif", stack, (0.8, 0.2, 0.2), overwrite=False)
    layer = shown(viewer, tmp_path / "cell.tif")
    assert layer.name == "cell"
    assert layer.axis_labels == ("z", "y", "x")
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert tuple(layer.scale) == pytest.approx((0.8, 0.2, 0.2))
    np.testing.assert_array_equal(layer.data, stack)


def test_labels_come_with_their_table(viewer, tmp_path):
    labels = np.zeros((4, 8, 8), np.uint16)
    labels[1:3, 1:3, 1:3], labels[1:3, 5:7, 5:7] = 1, 2
    write_volume(tmp_path / "cell_tenet_labels.tif", labels, (0.2, 0.2, 0.2), overwrite=False)
    table = "label,volume_um3,sphericity,touches_border\n1,0.064,0.9,False\n2,0.064,,True\n"
    (tmp_path / "cell_tenet_objects.csv").write_text(table)
    layer = shown(viewer, tmp_path / "cell_tenet_labels.tif")
    assert type(layer).__name__ == "Labels"
    assert layer.features["index"].tolist() == [1, 2]
    assert layer.features["volume_um3"].tolist() == [0.064, 0.064]
    assert np.isnan(layer.features["sphericity"][1])
    assert layer.features["touches_border"].tolist() == [False, True]


def test_store_of_a_result_gives_all_its_images_and_labels(viewer, tmp_path):
    pytest.importorskip("zarr")
    fine = NewImage((8, 8, 8), (0.2, 0.2, 0.2))
    images = {
        "structure": fine,
        "reconstruction": NewImage((2, 8, 8), (0.8, 0.2, 0.2)),
        "objects": replace(fine, dtype="uint32", labels_of="structure"),
    }
    store = tmp_path / "cell_tenet.ome.zarr"
    create_collection(store, "cell", images)
    for number, (name, image) in enumerate(images.items()):
        ZarrVolume(store / image.folder(name), 0)[:,] = np.full(image.shape, number)
    declare_whole(store, [])
    table = "label,volume_um3,touches_border\n2,0.064,False\n"
    (tmp_path / "cell_tenet_objects.csv").write_text(table)
    shown(viewer, store)
    names = [f"cell_tenet_{name}" for name in ("structure", "objects", "reconstruction")]
    assert [layer.name for layer in viewer.layers] == names
    structure, objects, reconstruction = viewer.layers
    assert tuple(reconstruction.scale) == pytest.approx((0.8, 0.2, 0.2))
    assert (np.asarray(structure.data) == 0).all()
    assert type(objects).__name__ == "Labels"
    assert objects.features["volume_um3"].tolist() == [0.064]
    assert (np.asarray(objects.data) == 2).all()


def test_damaged_file_is_told_in_a_line(viewer, tmp_path):
    (tmp_path / "cell.tif").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"cell\.tif") as told:
        shown(viewer, tmp_path / "cell.tif")
    assert "\n" not in str(told.value)
    assert not viewer.layers


def test_sample_is_the_image_of_the_demo(viewer):
    viewer.open_sample("tenet-microscopy", "demo")
    (image,) = viewer.layers
    assert image.data.shape == (32, 128, 128)
    assert tuple(image.scale) == pytest.approx((0.8, 0.2, 0.2))
    assert image.metadata["value_range"] == (0.0, 1.0)
