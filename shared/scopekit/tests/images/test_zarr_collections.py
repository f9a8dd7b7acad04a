"""OME-Zarr stores of several images: by name, by number, with labels, written by parts."""

import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_stack
from scopekit.images.readers.zarr import images_inside, labels_inside
from scopekit.images.zarr_writer import (
    NewImage,
    ZarrVolume,
    create_collection,
    create_store,
    declare_whole,
    remove_halves,
    write_frame,
)

zarr = pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")

FINE_UM, COARSE_UM = (0.2, 0.1, 0.1), (0.8, 0.1, 0.1)


@pytest.fixture
def store(tmp_path):
    """A store of two images of two time points and labels, of which the first is written."""
    path = tmp_path / "cell.ome.zarr"
    images = {
        "fine": NewImage((2, 8, 6, 5), FINE_UM, (4, 3, 3)),
        "coarse": NewImage((2, 2, 6, 5), COARSE_UM),
        "cells": NewImage((2, 8, 6, 5), FINE_UM, (4, 3, 3), "uint32", labels_of="fine"),
    }
    create_collection(path, "cell", images)
    for number, (name, image) in enumerate(images.items(), start=1):
        ZarrVolume(path / image.folder(name), 0)[:,] = np.full(image.shape[1:], number)
    declare_whole(path, [1])
    return path


def test_images_are_found_by_name_and_by_number(store):
    assert images_inside(store) == [store / "fine", store / "coarse"]
    assert labels_inside(store / "fine") == [store / "fine" / "labels" / "cells"]
    assert labels_inside(store / "coarse") == []
    for number, (name, step) in enumerate((("fine", FINE_UM), ("coarse", COARSE_UM))):
        for stack in (open_stack(store / name), open_stack(store, Selection(None, number))):
            assert stack.voxel_um == pytest.approx(step)
            assert (stack.read(0) == number + 1).all()
    cells = open_stack(store / "fine" / "labels" / "cells")
    assert (cells.dtype, cells.shape) == (np.uint32, (2, 8, 6, 5))
    with pytest.raises(UserError, match="images fine, coarse; choose a position, 0 to 1"):
        open_stack(store)


def test_a_store_of_one_image_has_itself_inside(tmp_path):
    create_store(tmp_path / "one.zarr", (3, 4, 5), FINE_UM, "one")
    assert images_inside(tmp_path / "one.zarr") == [tmp_path / "one.zarr"]
    with pytest.raises(UserError, match="damaged"):
        images_inside(tmp_path / "none.zarr")


def test_all_images_lack_the_frames_that_the_store_lacks(store):
    for path in (*images_inside(store), *labels_inside(store / "fine")):
        with pytest.raises(UserError, match="frame 1 is missing"):
            open_stack(path).read(1)


def test_volumes_are_written_and_read_by_slices(store):
    values = np.random.default_rng(0).random((8, 6, 5), np.float32)
    volume = ZarrVolume(store / "fine", 1)
    assert (volume.shape, volume.chunk, len(volume)) == ((8, 6, 5), (4, 3, 3), 8)
    for planes in (slice(4, 8), slice(0, 4)):
        volume[planes, slice(0, 3)] = values[planes, :3]
        volume[planes, slice(3, 6)] = values[planes, 3:]
    np.testing.assert_array_equal(volume[slice(2, 7), slice(1, 5)], values[2:7, 1:5])
    np.testing.assert_array_equal(np.stack(list(volume)), values)
    assert (ZarrVolume(store / "fine", 0)[:,] == 1).all()


def test_zeros_are_written_too(store, tmp_path):
    """Chunks that are not there count as missing."""
    ZarrVolume(store / "coarse", 0)[:,] = np.zeros((2, 6, 5))
    assert not open_stack(store / "coarse").read(0).any()
    create_store(tmp_path / "dark.zarr", (3, 4, 5), FINE_UM, "dark")
    write_frame(tmp_path / "dark.zarr", 0, np.zeros((3, 4, 5), np.float32))
    declare_whole(tmp_path / "dark.zarr", [])
    assert not open_stack(tmp_path / "dark.zarr").read().any()


def test_halves_of_chunks_go_and_chunks_stay(store):
    volume = ZarrVolume(store / "fine", 0)
    folder = next(path.parent for path in (store / "fine").rglob("c/0/*/*/*"))
    (folder / "0.77aa.partial").touch()
    remove_halves(store)
    assert not list(store.rglob("*.partial"))
    assert (volume[:,] == 1).all()


def test_a_full_disk_is_told(store, full_disk):
    volume = ZarrVolume(store / "fine", 0)
    noise = np.random.default_rng(0).random((8, 6, 5), np.float32)
    with full_disk(100), pytest.raises(UserError, match=r"cannot write .*fine"):
        volume[:,] = noise
