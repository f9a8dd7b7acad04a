"""Stacks of images with voxel sizes: volumes (Z, Y, X), view stacks (A, Y, X), series of them.

They are read from TIFF, OME-Zarr, ND2, NPY and PT, and written as TIFF with ImageJ metadata, which
ImageJ, Fiji, napari and the OME Bio-Formats readers understand: voxel size in um and hyperstack
axes. OME-Zarr is written by `scopekit.images.zarr_writer`.
"""

import math
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import tifffile
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.axes import arrange, line_up
from scopekit.images.full_range import full_range_factor, to_uint16
from scopekit.images.plane_file import release_pages
from scopekit.images.readers.tiff import inspect_tiff
from scopekit.images.selection import WHOLE_FILE, Selection
from scopekit.images.stack import StackFile, StoredPlanes, arranged
from scopekit.images.target import require_finite
from scopekit.images.tiff_metadata import imagej_arguments
from scopekit.images.voxel import PartialVoxelSize, VoxelSize
from scopekit.outputs import require_space, whole_file

__all__ = [
    "IMAGE_SUFFIXES",
    "SUFFIXES",
    "TIFF_SUFFIXES",
    "WHOLE_FILE",
    "PartialVoxelSize",
    "Selection",
    "StackFile",
    "VolumeWriter",
    "VoxelSize",
    "files_of_set",
    "is_zarr",
    "open_frames",
    "open_stack",
    "scale_to_uint16",
    "stack_stem",
    "write_volume",
]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".nd2", ".zarr")
"""Endings of files that hold nothing but images."""
SUFFIXES = (*IMAGE_SUFFIXES, ".npy", ".pt")
"""Endings of all files that are read."""

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether the path is a Zarr store, or is named like one: a folder that counts as a file."""
    return path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in _ZARR_MARKS)


def stack_stem(path: Path) -> str:
    """Return a stack's name without its ending: ``cell`` of ``cell.tif`` and ``cell.ome.zarr``."""
    if path.suffix.lower() == ".zarr":
        return path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem
    return path.name if path.is_dir() else path.stem


def open_stack(
    path: Path, selection: Selection = WHOLE_FILE, *, single_image: bool = False
) -> StackFile:
    """Inspect a stack, or a series of stacks, without reading its pages.

    Parameters
    ----------
    path
        TIFF of any dialect, OME-Zarr, ND2, NPY or PT. An axis that a TIFF does not name stands for
        pages, one before it for time points.
    selection
        Which channel and position are meant, where there are several.
    single_image
        Whether a single 2D image is a stack of one page.

    Raises
    ------
    UserError
        If the file is missing, of another format, damaged, a colour image, a single 2D image, or
        no stack; has several channels or positions and none is selected; or tells an absurd voxel
        size.
    """
    planes, rest = _inspect(path, selection)
    return arranged(planes, arrange(path, planes.axes, rest, single_image=single_image))


def open_frames(path: Path, selection: Selection = WHOLE_FILE) -> StackFile:
    """Inspect a file of camera frames without reading them.

    Parameters
    ----------
    path, selection
        As `open_stack`: one image, or any number of them.

    Returns
    -------
    StackFile
        Every image a time point of its own: shape (N, 1, Y, X).

    Raises
    ------
    UserError
        As `open_stack`, but any planes and time points are frames.
    """
    planes, rest = _inspect(path, selection)
    return arranged(planes, line_up(path, planes.axes, rest)[:, None])


def files_of_set(path: Path) -> frozenset[Path]:
    """Return the files over which the stacks of an OME-TIFF are spread; none if it has its own."""
    if ".ome.tif" not in path.name.lower():
        return frozenset()
    try:
        planes = inspect_tiff(path, WHOLE_FILE)
    except UserError:  # told when it is read
        return frozenset()
    return frozenset(path.parent / file.name for file in planes.files)


def _inspect(path: Path, selection: Selection) -> tuple[StoredPlanes, Selection]:
    """Inspect a file; return what is left to select of it, too."""
    _require_file(path)
    kind = path.suffix.lower()
    planes: StoredPlanes
    if is_zarr(path):
        from scopekit.images.readers.zarr import inspect_zarr

        planes = inspect_zarr(path, selection)
    elif kind == ".nd2":
        from scopekit.images.readers.nd2 import inspect_nd2

        planes = inspect_nd2(path)
    elif kind in (".npy", ".pt"):
        from scopekit.images.readers.arrays import inspect_npy, inspect_pt

        planes = inspect_npy(path) if kind == ".npy" else inspect_pt(path)
    elif kind == ".png":
        from scopekit.images.readers.arrays import inspect_png

        planes = inspect_png(path)
    else:
        planes = inspect_tiff(path, selection)
    return planes, replace(selection, position=None) if planes.is_position else selection


def _require_file(path: Path) -> None:
    """Raise `UserError` unless the path is a file, or a folder that counts as one."""
    try:  # a name with a zero byte is a ValueError
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except OSError as failure:
        raise UserError(f"{path}: {failure.strerror}; check the path") from failure
    if stat.S_ISDIR(mode):
        if not is_zarr(path):
            raise UserError(f"{path}: a folder where a file was expected")
    elif not stat.S_ISREG(mode):
        raise UserError(f"{path}: no file but a pipe or a device; save its content as a file first")


class VolumeWriter:
    """Writes a volume, or a series of them, tile by tile; the file appears only when whole.

    The disk space is taken first, so a full disk is found before the work, and the pages written
    are given back to the system, so the memory held does not grow with the volume.

    Parameters
    ----------
    path
        The TIFF to make.
    shape
        (Z, Y, X) or (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um, `None` where unknown.
    overwrite
        Whether an existing file may be replaced.

    Attributes
    ----------
    array
        The values, of the given shape, float32, zero at first; mapped to the file.

    Examples
    --------
    >>> with VolumeWriter(path, (101, 429, 429), (0.2, 0.12, 0.12), overwrite=False) as writer:
    ...     writer.array[:, :99] = tile
    ...     writer.release()
    """

    array: np.memmap

    def __init__(
        self, path: Path, shape: tuple[int, ...], voxel_um: PartialVoxelSize, *, overwrite: bool
    ) -> None:
        self._shape = shape
        self._voxel_um = voxel_um
        self._file = whole_file(path, overwrite=overwrite)

    def __enter__(self) -> "VolumeWriter":
        partial = self._file.__enter__()
        try:
            self.array = _map_new(partial, self._shape, np.dtype(np.float32), self._voxel_um)
        except BaseException as failure:
            self._file.__exit__(type(failure), failure, failure.__traceback__)
            raise
        return self

    def release(self) -> None:
        """Give the written pages back to the system; the file keeps them."""
        release_pages(self.array)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.array.flush()
        del self.array
        self._file.__exit__(kind, failure, trace)


def _map_new(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, voxel_um: PartialVoxelSize
) -> np.memmap:
    """Make an ImageJ file of zeros, its disk space taken, and map its values to memory."""
    require_space(path.parent, math.prod(shape) * dtype.itemsize)
    array: np.memmap = tifffile.memmap(
        path, shape=shape, dtype=dtype, **imagej_arguments(shape, dtype, voxel_um)
    )
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    return array


def write_volume(
    path: Path, volume: NDArray[np.float32], voxel_um: PartialVoxelSize, *, overwrite: bool
) -> None:
    """Write a volume (Z, Y, X), or a series (T, Z, Y, X), as float32 with its voxel size in um."""
    values = volume.astype(np.float32, copy=False)
    require_finite(values)
    with whole_file(path, overwrite=overwrite) as partial:
        require_space(partial.parent, values.nbytes)
        tifffile.imwrite(partial, values, **imagej_arguments(values.shape, values.dtype, voxel_um))


def scale_to_uint16(path: Path, voxel_um: PartialVoxelSize) -> float:
    """Turn a float32 volume file into uint16 over its full range, page by page.

    Parameters
    ----------
    path
        A volume written by `VolumeWriter` or `write_volume`; it is replaced, negative values by 0.
    voxel_um
        (z, y, x) step in um, `None` where unknown.

    Returns
    -------
    float
        The factor: stored value = factor * value.
    """
    with whole_file(path, overwrite=True) as partial:
        return _scale_into(partial, path, voxel_um)


def _scale_into(target: Path, source: Path, voxel_um: PartialVoxelSize) -> float:
    values = tifffile.memmap(source, mode="r")
    pages = values.reshape(-1, *values.shape[-2:])
    factor = full_range_factor(_released(pages))
    scaled = _map_new(target, values.shape, np.dtype(np.uint16), voxel_um)
    for stored, page in zip(scaled.reshape(pages.shape), _released(pages), strict=True):
        stored[...] = to_uint16(page, factor)
        release_pages(scaled)
    scaled.flush()
    return factor


def _released(pages: NDArray) -> Iterator[NDArray]:
    """Yield the pages of a mapped file, each given back to the system when it is done with."""
    for page in pages:
        yield page
        release_pages(pages)
