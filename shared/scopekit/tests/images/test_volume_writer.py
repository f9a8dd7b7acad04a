import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import VolumeWriter, open_stack, scale_to_uint16, write_volume

VOXEL_UM = (0.2, 0.1, 0.1)
VOLUME = np.random.default_rng(0).random((5, 24, 36), dtype=np.float32)


def test_tiles_make_the_same_file_as_one_piece(tmp_path):
    write_volume(tmp_path / "whole.tif", VOLUME, VOXEL_UM, overwrite=False)
    with VolumeWriter(tmp_path / "tiles.tif", VOLUME.shape, VOXEL_UM, overwrite=False) as writer:
        for row in range(0, 24, 10):
            writer.array[:, row : row + 10] = VOLUME[:, row : row + 10]
            writer.release()
            np.testing.assert_array_equal(writer.array[:, row], VOLUME[:, row])
        assert not (tmp_path / "tiles.tif").exists()
    tiles = open_stack(tmp_path / "tiles.tif")
    np.testing.assert_array_equal(tiles.read(), VOLUME)
    assert tiles.voxel_um == open_stack(tmp_path / "whole.tif").voxel_um


def test_a_failure_between_tiles_leaves_nothing(tmp_path):
    writer = VolumeWriter(tmp_path / "volume.tif", VOLUME.shape, VOXEL_UM, overwrite=False)

    def fail_midway():
        with writer:
            writer.array[:, :10] = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    assert list(tmp_path.iterdir()) == []


def test_existing_results_are_kept(tmp_path):
    path = tmp_path / "volume.tif"
    write_volume(path, VOLUME, VOXEL_UM, overwrite=False)
    writer = VolumeWriter(path, VOLUME.shape, VOXEL_UM, overwrite=False)
    with pytest.raises(UserError, match="`overwrite=True`"), writer:
        pass
    with pytest.raises(UserError, match="`overwrite=True`"):
        write_volume(path, VOLUME + 1, VOXEL_UM, overwrite=False)
    np.testing.assert_array_equal(open_stack(path).read(), VOLUME)
    write_volume(path, VOLUME + 1, VOXEL_UM, overwrite=True)
    np.testing.assert_array_equal(open_stack(path).read(), VOLUME + 1)


def write_whole(path):
    write_volume(path, VOLUME, VOXEL_UM, overwrite=False)


def write_tiles(path):
    with VolumeWriter(path, VOLUME.shape, VOXEL_UM, overwrite=False) as writer:
        writer.array[:] = VOLUME


@pytest.mark.parametrize("write", [write_whole, write_tiles])
def test_a_disk_that_fills_up(tmp_path, full_disk, write):
    with full_disk(4096), pytest.raises(UserError, match=r"cannot write .*volume\.tif"):
        write(tmp_path / "volume.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_known_to_be_too_small(tmp_path):
    shape = (10**6, 10**4, 10**4)
    writer = VolumeWriter(tmp_path / "volume.tif", shape, VOXEL_UM, overwrite=False)
    with pytest.raises(UserError, match=r"400000\.00 GB are needed"), writer:
        pass
    assert list(tmp_path.iterdir()) == []


def test_uint16_takes_the_full_range(tmp_path):
    path = tmp_path / "volume.tif"
    volume = VOLUME * 0.03 - 0.001
    write_volume(path, volume, VOXEL_UM, overwrite=False)
    factor = scale_to_uint16(path, VOXEL_UM)
    assert factor == pytest.approx(65535 / volume.max())
    stack = open_stack(path)
    assert stack.dtype == np.uint16
    assert stack.voxel_um == pytest.approx(VOXEL_UM)
    stored = stack.read()
    assert stored.max() == 65535
    np.testing.assert_allclose(stored / factor, np.clip(volume, 0, None), atol=0.51 / factor)
    assert list(tmp_path.iterdir()) == [path]


def test_uint16_of_a_series_has_one_factor(tmp_path):
    path = tmp_path / "series.tif"
    series = np.stack([VOLUME, 2 * VOLUME])
    write_volume(path, series, VOXEL_UM, overwrite=False)
    scale_to_uint16(path, VOXEL_UM)
    stack = open_stack(path)
    assert stack.shape == series.shape
    np.testing.assert_allclose(stack.read(1), 2 * stack.read(0), atol=1.01)
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == "TZYX"


def test_uint16_of_an_empty_volume(tmp_path):
    path = tmp_path / "volume.tif"
    write_volume(path, np.zeros_like(VOLUME), VOXEL_UM, overwrite=False)
    assert scale_to_uint16(path, VOXEL_UM) == 1
    assert not open_stack(path).read().any()
