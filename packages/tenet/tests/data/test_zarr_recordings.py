"""Recordings in OME-Zarr: series, read some planes at a time."""

import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame
from tenet.data.recordings import open_recording

pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")


def test_a_series_is_read_by_planes(tmp_path):
    path = tmp_path / "cells.ome.zarr"
    values = np.random.default_rng(0).random((3, 20, 9, 8), np.float32)
    create_store(path, values.shape, (1.0, 0.2, 0.25), "cells")
    for frame in (0, 2):
        write_frame(path, frame, values[frame])
    declare_whole(path, [1])
    recording = open_recording(path)
    assert (recording.shape, recording.n_frames) == ((20, 9, 8), 3)
    assert recording.voxel_um == pytest.approx((1.0, 0.2, 0.25))
    assert np.array_equal(recording.planes(2, 14, 18), values[2, 14:18])
    with pytest.raises(UserError, match="frame 1 is missing"):
        recording.planes(1, 0, 4)
