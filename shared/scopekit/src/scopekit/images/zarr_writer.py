"""OME-Zarr stores, written frame by frame, in any order and from any number of processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.images.ome_metadata import multiscales
from scopekit.images.readers.zarr import EMPTY_FRAMES
from scopekit.images.voxel import PartialVoxelSize
from scopekit.images.zarr_import import zarr
from scopekit.outputs import describe_write_failure, make_folder

# About 4 MB of float32: a screenful of a few planes.
_LARGEST_CHUNK = (16, 256, 256)


def create_store(path: Path, shape: Sequence[int], voxel_um: PartialVoxelSize, name: str) -> None:
    """Make a store of one float32 image without values: Zarr 3, OME-NGFF 0.5.

    Parameters
    ----------
    path
        The folder to make.
    shape
        (Z, Y, X) or (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um.
    name
        Of the image.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    chunk = tuple(min(n, most) for n, most in zip(shape[-3:], _LARGEST_CHUNK, strict=True))
    make_folder(path)
    try:
        group = zarr().create_group(path, attributes=multiscales(name, len(shape), voxel_um))
        group.create_array(
            "0",
            shape=tuple(shape),
            chunks=(1,) * (len(shape) - 3) + chunk,
            dtype="float32",
            fill_value=0,
            compressors=zarr().codecs.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
            dimension_names=tuple("tzyx"[-len(shape) :]),
        )
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure


def write_frame(path: Path, frame: int, volume: NDArray[np.float32]) -> None:
    """Write one time point, (Z, Y, X), of a store; all its chunks, the empty ones too.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    array: Any = zarr().open_array(path / "0", mode="r+", config={"write_empty_chunks": True})
    step = array.chunks[-3]
    try:
        # Never more than a layer of chunks in memory.
        for first in range(0, len(volume), step):
            planes = slice(first, first + step)
            where = (frame, planes) if array.ndim == 4 else (planes,)
            array[where] = volume[planes]
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure


def declare_whole(path: Path, empty_frames: Sequence[int]) -> None:
    """Note in a store that all its chunks are written, except those of these frames."""
    try:
        group = zarr().open_group(path, mode="r+")
        group.attrs[EMPTY_FRAMES] = [int(frame) for frame in empty_frames]
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure
