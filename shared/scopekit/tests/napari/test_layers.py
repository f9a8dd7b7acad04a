import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

from scopekit.images.files import open_stack
from scopekit.images.stack import StackFile
from scopekit.images.voxel import UNKNOWN, Steps
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame
from scopekit.napari.layers import layer_of, values_of


def test_unknown_plane_distance_leaves_the_pixels_known():
    _, about, kind = layer_of(np.zeros((2, 3, 4)), "cell", Steps(None, 0.5, 0.25))
    assert (about["scale"], about["units"], kind) == ((1, 0.5, 0.25), ("um",) * 3, "image")


def test_nothing_known_is_pixels():
    _, about, _ = layer_of(np.zeros((2, 3, 4)), "cell", UNKNOWN)
    assert (about["scale"], about["units"]) == ((1, 1, 1), ("pixel",) * 3)


def test_series_has_time_before_space():
    _, about, _ = layer_of(np.zeros((5, 2, 3, 4)), "cell", Steps(2, 0.5, 0.5))
    assert about["axis_labels"] == ("t", "z", "y", "x")
    assert about["scale"] == (1, 2, 0.5, 0.5)
    assert about["units"] == ("pixel", "um", "um", "um")


@pytest.mark.parametrize("times", [(), (2,)], ids=["one", "series"])
def test_of_a_store_only_what_is_shown_is_read(tmp_path, monkeypatch, times):
    pytest.importorskip("zarr")
    path = tmp_path / "cells.ome.zarr"
    values = np.random.default_rng(0).random((*times, 40, 6, 5)).astype(np.float32)
    create_store(path, values.shape, (1.0, 0.2, 0.2), "cells")
    for frame, volume in enumerate(values.reshape(-1, 40, 6, 5)):
        write_frame(path, frame, volume)
    declare_whole(path, [])
    read, read_window = [], StackFile.read_window

    def watched(self, pages, *where):
        read.extend(pages)
        return read_window(self, pages, *where)

    monkeypatch.setattr(StackFile, "read_window", watched)
    lazy = values_of(open_stack(path))
    assert (lazy.shape, read) == (values.shape, [])
    np.testing.assert_array_equal(np.asarray(lazy[..., 20, :, :]), values[..., 20, :, :])
    assert set(read) == set(range(16, 32))
    np.testing.assert_array_equal(np.asarray(lazy), values)
