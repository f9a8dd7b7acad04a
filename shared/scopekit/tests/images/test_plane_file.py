"""Volumes on disk that are read and written by slices."""

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.images.plane_file import PlaneFile, scaled_to_uint16

VOXEL_UM = (0.5, 0.2, 0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_what_is_written_in_parts_is_a_tiff(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 200, (5, 7, 6)).astype(dtype)
    path = tmp_path / "a.tif"
    volume = PlaneFile.create(path, values.shape, dtype, VOXEL_UM)
    assert not volume[:, :, :].any()
    volume[:3, :4] = values[:3, :4]
    volume[3:,] = values[3:]
    volume[:3, 4:, 2:5] = values[:3, 4:, 2:5]
    expected = values.copy()
    expected[:3, 4:, :2] = expected[:3, 4:, 5:] = 0
    found = tifffile.imread(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.stack(list(volume)), expected)
    np.testing.assert_array_equal(volume[1:4, 2:, 3:5], expected[1:4, 2:, 3:5])
    assert volume[1:2, 2:, 3:5].dtype.isnative
    assert open_stack(path).voxel_um == pytest.approx(VOXEL_UM)


def test_plain_files_hold_any_numbers(tmp_path):
    volume = PlaneFile.create_raw(tmp_path / "a.raw", (2, 3, 4), np.int32)
    volume[1:2, :, 1:] = np.full((1, 3, 3), -70000)
    assert volume[:, :, :].sum() == 9 * -70000
    assert len(volume) == 2


def test_a_full_disk_is_told_at_once(tmp_path):
    with pytest.raises(UserError, match="GB are needed"):
        PlaneFile.create(tmp_path / "a.tif", (10**6, 10**4, 10**3), np.float32, VOXEL_UM)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_16_bits_are_of_full_range(tmp_path):
    values = np.linspace(-0.1, 0.7, 24, dtype=np.float32).reshape(2, 3, 4)
    volume = PlaneFile.create(tmp_path / "a.tif", values.shape, np.float32, VOXEL_UM)
    volume[:,] = values
    factor = scaled_to_uint16(volume, tmp_path / "b.tif", VOXEL_UM)
    stored = tifffile.imread(tmp_path / "b.tif")
    assert (stored.dtype, stored.max()) == (np.uint16, 65535)
    np.testing.assert_allclose(stored / factor, values.clip(min=0), atol=1e-5)
