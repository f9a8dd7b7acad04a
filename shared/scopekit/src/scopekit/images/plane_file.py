"""Volumes on disk, larger than memory: only the planes in use are mapped, one at a time."""

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from scopekit.images.full_range import full_range_factor, to_uint16
from scopekit.images.tiff_metadata import imagej_arguments
from scopekit.images.voxel import PartialVoxelSize
from scopekit.outputs import require_space

Place = tuple[slice, ...]


class Planes(Protocol):
    """A volume (Z, Y, X) that is read by slices: an array, or a file of planes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (Z, Y, X)."""

    def __len__(self) -> int:
        """Return how many planes there are."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the planes."""

    def __getitem__(self, place: Place, /) -> NDArray[Any]:
        """Return a part."""


class WritablePlanes(Planes, Protocol):
    """A volume that is written by slices, too."""

    def __setitem__(self, place: Place, values: Any, /) -> None:
        """Write a part."""


class PlaneFile:
    """A volume (Z, Y, X) in a file, read and written by slices like an array.

    Not even address space is taken for more than a plane, so that a volume larger than what
    ``ulimit -v`` allows can be worked on.

    Attributes
    ----------
    path
        The file.
    shape
        (Z, Y, X).

    Examples
    --------
    >>> volume = PlaneFile.create(path, (1200, 1500, 1500), np.float32, (0.2, 0.2, 0.2))
    >>> volume[0:80, 0:200, 0:200] = chunk
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: DTypeLike, offset: int = 0
    ) -> None:
        self.path = path
        self.shape = shape
        self._dtype = np.dtype(dtype)
        self._offset = offset

    @classmethod
    def create(
        cls, path: Path, shape: tuple[int, int, int], dtype: DTypeLike, voxel_um: PartialVoxelSize
    ) -> "PlaneFile":
        """Make a TIFF with ImageJ metadata, of zeros; its disk space is taken at once.

        Parameters
        ----------
        path
            The file to make.
        shape
            (Z, Y, X).
        dtype
            float32, uint16 or uint8, which ImageJ knows.
        voxel_um
            (z, y, x) step in um.
        """
        kind = np.dtype(dtype)
        require_space(path.parent, math.prod(shape) * kind.itemsize)
        tifffile.imwrite(path, shape=shape, dtype=kind, **imagej_arguments(shape, kind, voxel_um))
        with tifffile.TiffFile(path) as tif:
            offset = tif.series[0].dataoffset
            kind = kind.newbyteorder(tif.byteorder)
        assert offset is not None
        _take_space(path, path.stat().st_size)
        return cls(path, shape, kind, offset)

    @classmethod
    def create_raw(cls, path: Path, shape: tuple[int, int, int], dtype: DTypeLike) -> "PlaneFile":
        """Make a file of nothing but values, of zeros, for the time of the work."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        require_space(path.parent, size)
        with path.open("wb") as handle:
            handle.truncate(size)
        _take_space(path, size)
        return cls(path, shape, dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield copies of the planes."""
        for z in range(len(self)):
            yield self._plane(z, "r").astype(self._dtype.newbyteorder("="))

    def __getitem__(self, place: Place) -> NDArray[Any]:
        planes, rows, columns = whole = self._whole(place)
        sizes = [len(range(*s.indices(n))) for s, n in zip(whole, self.shape, strict=True)]
        part = np.empty(sizes, self._dtype.newbyteorder("="))
        for target, z in zip(part, range(*planes.indices(len(self))), strict=True):
            target[...] = self._plane(z, "r")[rows, columns]
        return part

    def __setitem__(self, place: Place, values: NDArray[Any]) -> None:
        planes, rows, columns = self._whole(place)
        for z, value in zip(range(*planes.indices(len(self))), values, strict=True):
            self._plane(z, "r+")[rows, columns] = value

    def _whole(self, place: Place) -> tuple[slice, slice, slice]:
        missing = (slice(None),) * (3 - len(place))
        planes, rows, columns = (*place, *missing)
        return planes, rows, columns

    def _plane(self, z: int, mode: Any) -> NDArray[Any]:
        offset = self._offset + z * math.prod(self.shape[1:]) * self._dtype.itemsize
        return np.memmap(
            self.path, dtype=self._dtype, mode=mode, offset=offset, shape=self.shape[1:]
        )


def release_pages(volume: Planes) -> None:
    """Give the pages of a mapped file back to the system, which keeps their content."""
    mapping = getattr(volume, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _take_space(path: Path, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, size)


def scaled_to_uint16(source: PlaneFile, path: Path, voxel_um: PartialVoxelSize) -> float:
    """Write a volume as uint16 over its full range, negative values as 0.

    Parameters
    ----------
    source
        The volume.
    path
        The TIFF to make.
    voxel_um
        (z, y, x) step in um.

    Returns
    -------
    float
        The factor: stored value = factor * value.
    """
    factor = full_range_factor(source)
    target = PlaneFile.create(path, source.shape, np.uint16, voxel_um)
    for z, plane in enumerate(source):
        target[z : z + 1,] = to_uint16(plane, factor)[None]
    return factor
