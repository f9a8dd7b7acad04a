"""TIFF stacks with voxel sizes: volumes (Z, Y, X), view stacks (A, Y, X), and series of them.

Written files carry ImageJ metadata, which ImageJ, Fiji, napari and the OME Bio-Formats readers
understand: voxel size in um and hyperstack axes.
"""

import logging
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import tifffile
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.outputs import require_space, whole_file
from scopekit.tiff_metadata import imagej_arguments, read_voxel_um

VoxelSize = tuple[float, float, float]
_DAMAGED = "damaged or cut short (an interrupted copy?); copy or export the file again"
_HARMLESS = ("coercing invalid ASCII", "MMStack file name is invalid")


class _DamageLog(logging.Handler):
    """Collects tifffile's warnings: it reads what is left of a broken file and only logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.found |= not any(text in message for text in _HARMLESS)


@dataclass(frozen=True)
class StackFile:
    """A TIFF stack on disk, its pages not read yet.

    Attributes
    ----------
    path
        The file.
    shape
        (pages, Y, X), or (T, pages, Y, X) for a series.
    dtype
        Number type on disk.
    voxel_um
        (z, y, x) step in um, where the file tells it; z is 1 where it tells only x and y.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    voxel_um: VoxelSize | None

    def frame_name(self, frame: int) -> str:
        """Return the file's name, with the time point where there are several."""
        return self.path.name + (f" [{frame}]" if self.n_frames > 1 else "")

    @property
    def n_frames(self) -> int:
        """Number of time points: 1 for a single stack."""
        return self.shape[0] if len(self.shape) == 4 else 1

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        """Read one time point.

        Returns
        -------
        ndarray
            (pages, Y, X), float32.

        Raises
        ------
        UserError
            If the file is damaged or holds NaN or infinite values.
        """
        stack = np.empty(self.shape[-3:], np.float32)
        with _open(self.path) as tif:
            pages = self._pages(tif, frame).reshape(stack.shape)
            for index, page in enumerate(pages):
                stack[index] = page
                _release(pages)
                if not np.isfinite(stack[index]).all():
                    where = f"frame {frame}, page {index}" if self.n_frames > 1 else f"page {index}"
                    raise UserError(
                        f"{self.path}: NaN or infinite values ({where}, counted from 0); "
                        "replace them by numbers first"
                    )
        return stack

    def read_window(
        self, pages: Sequence[int], rows: slice, columns: slice, frame: int = 0
    ) -> NDArray[np.float32]:
        """Read a window of some pages: of an uncompressed file, no more than that.

        Returns
        -------
        ndarray
            (pages, rows, columns), float32. NaN and infinite values are left as they are.
        """
        with _open(self.path) as tif:
            stored = self._pages(tif, frame).reshape(self.shape[-3:])
            return np.stack([stored[page, rows, columns] for page in pages]).astype(np.float32)

    def _pages(self, tif: tifffile.TiffFile, frame: int) -> NDArray:
        """Return the pages of one time point in the file's own number type."""
        series = tif.series[0]
        n_pages = self.shape[-3]
        first = frame * n_pages
        if len(tif.series) == self.n_frames > 1:
            return tif.series[frame].asarray()
        if len(tif.series) > 1:
            return np.stack([page.asarray() for page in tif.series[first : first + n_pages]])
        if series.dataoffset is None:
            return tif.asarray(series=0, key=slice(first, first + n_pages))
        page_bytes = math.prod(self.shape[-2:]) * self.dtype.itemsize
        return np.memmap(
            self.path,
            dtype=series.dtype.newbyteorder(tif.byteorder),
            mode="r",
            offset=series.dataoffset + first * page_bytes,
            shape=self.shape[-3:],
        )


@contextmanager
def _open(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF; whatever is wrong with it becomes a `UserError` at the latest on leaving."""
    log = _DamageLog()
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(log)
    try:
        with tifffile.TiffFile(path) as tif:
            yield tif
        if log.found:
            raise UserError(f"{path}: {_DAMAGED}")
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except IsADirectoryError as failure:
        raise UserError(f"{path}: a folder where a file was expected") from failure
    except PermissionError as failure:
        raise UserError(f"{path}: no permission to read it") from failure
    except Exception as failure:  # a damaged file makes tifffile raise errors of any kind
        if "not a TIFF file" in str(failure):
            raise UserError(f"{path}: not a TIFF file; export the stack as TIFF") from failure
        if "imagecodecs" in str(failure):
            raise UserError(
                f"{path}: its compression is not supported; save it uncompressed, or run "
                "'pip install imagecodecs'"
            ) from failure
        raise UserError(f"{path}: {_DAMAGED}") from failure
    finally:
        logger.removeHandler(log)
        logger.propagate = propagate


def open_stack(path: Path) -> StackFile:
    """Inspect a TIFF stack without reading its pages.

    Parameters
    ----------
    path
        A TIFF of real numbers with pages (pages, Y, X) or (T, pages, Y, X).

    Raises
    ------
    UserError
        If the file is missing, not a TIFF, damaged, a colour image, a single 2D image, or holds
        several channels.
    """
    stack = _inspect(path)
    if len(stack.shape) == 2:
        raise UserError(
            f"{path}: a single 2D image {stack.shape}; expected a stack: "
            "save all pages in one file (raw light-field frames: serenet rectify)"
        )
    return stack


def open_frames(path: Path) -> StackFile:
    """Inspect a TIFF of camera frames without reading them.

    Parameters
    ----------
    path
        A TIFF of real numbers: one image, or any number of them.

    Returns
    -------
    StackFile
        Every image a time point of its own: shape (N, 1, Y, X).

    Raises
    ------
    UserError
        As `open_stack`, but a single 2D image is welcome.
    """
    stack = _inspect(path)
    n_frames = math.prod(stack.shape[:-2])
    return replace(stack, shape=(n_frames, 1, *stack.shape[-2:]))


def _inspect(path: Path) -> StackFile:
    with _open(path) as tif:
        shape = _stack_shape(path, tif)
        dtype = tif.series[0].dtype
        whole = _is_whole(tif, shape)
        voxel_um = read_voxel_um(tif)
    if not whole:
        raise UserError(f"{path}: {_DAMAGED}")
    if not 2 <= len(shape) <= 4 or dtype.kind not in "uif":
        raise UserError(
            f"{path}: shape {shape} of {dtype}; expected pages of grey values, "
            "(pages, Y, X) or (T, pages, Y, X)"
        )
    return StackFile(path, shape, dtype, voxel_um)


def _stack_shape(path: Path, tif: tifffile.TiffFile) -> tuple[int, ...]:
    series = tif.series[0]
    sizes = list(zip(series.shape, series.axes, strict=True))
    if any(axis == "S" and n > 1 for n, axis in sizes):
        raise UserError(f"{path}: a colour image; export it as grey values")
    sizes = [(n, axis) for n, axis in sizes if axis != "S"]
    if len(tif.series) > 1:  # pages, or time points, written one by one
        if any(s.shape != series.shape or s.dtype != series.dtype for s in tif.series):
            raise UserError(f"{path}: its pages differ in size or type")
        sizes = [(len(tif.series), "T"), *sizes]
    while len(sizes) > 3 and any(n == 1 for n, _ in sizes[:-2]):
        sizes.remove(next(size for size in sizes if size[0] == 1))
    shape = tuple(n for n, _ in sizes)
    if len(sizes) == 4 and sizes[0][1] in "CZ":
        axes = "".join(axis for _, axis in sizes)
        raise UserError(
            f"{path}: axes {axes} {shape}; expected ZYX or TZYX: save each channel as its own file"
        )
    return shape


def _is_whole(tif: tifffile.TiffFile, shape: tuple[int, ...]) -> bool:
    """Whether the pages that the header promises are all in the file."""
    series = tif.series[0]
    if series.is_multifile:
        return True  # a missing file is logged
    n_values = math.prod(shape)
    if len(tif.series) == 1 and series.dataoffset is not None:
        end = series.dataoffset + n_values * series.dtype.itemsize
        if end > tif.filehandle.size or len(tif.pages) == 1:
            return bool(end <= tif.filehandle.size)
    last = tif.pages[-1]
    ends = [a + n for a, n in zip(last.dataoffsets, last.databytecounts, strict=True)]
    n_pages = len(tif.pages)
    return n_pages * tif.pages.first.size >= n_values and max(ends) <= tif.filehandle.size


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
        (z, y, x) step in um.
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
        self, path: Path, shape: tuple[int, ...], voxel_um: VoxelSize, *, overwrite: bool
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
        _release(self.array)

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


def _map_new(path: Path, shape: tuple[int, ...], dtype: np.dtype, voxel_um: VoxelSize) -> np.memmap:
    """Make an ImageJ file of zeros, its disk space taken, and map its values to memory."""
    require_space(path.parent, math.prod(shape) * dtype.itemsize)
    array: np.memmap = tifffile.memmap(
        path, shape=shape, dtype=dtype, **imagej_arguments(shape, dtype, voxel_um)
    )
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    return array


def _release(array: NDArray) -> None:
    """Give the pages of a mapped file back to the system, which keeps their content."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def write_volume(
    path: Path, volume: NDArray[np.float32], voxel_um: VoxelSize, *, overwrite: bool
) -> None:
    """Write a volume (Z, Y, X), or a series (T, Z, Y, X), as float32 with its voxel size in um."""
    values = volume.astype(np.float32, copy=False)
    with whole_file(path, overwrite=overwrite) as partial:
        require_space(partial.parent, values.nbytes)
        tifffile.imwrite(partial, values, **imagej_arguments(values.shape, values.dtype, voxel_um))


def scale_to_uint16(path: Path, voxel_um: VoxelSize) -> float:
    """Turn a float32 volume file into uint16 over its full range, page by page.

    Parameters
    ----------
    path
        A volume written by `VolumeWriter` or `write_volume`; it is replaced, negative values by 0.
    voxel_um
        (z, y, x) step in um.

    Returns
    -------
    float
        The factor: stored value = factor * value.
    """
    with whole_file(path, overwrite=True) as partial:
        return _scale_into(partial, path, voxel_um)


def _scale_into(target: Path, source: Path, voxel_um: VoxelSize) -> float:
    values = tifffile.memmap(source, mode="r")
    pages = values.reshape(-1, *values.shape[-2:])
    peak = 0.0
    for page in pages:
        peak = max(peak, float(page.max()))
        _release(values)
    factor = 65535.0 / peak if peak > 0 else 1.0
    scaled = _map_new(target, values.shape, np.dtype(np.uint16), voxel_um)
    for stored, page in zip(scaled.reshape(pages.shape), pages, strict=True):
        stored[...] = np.rint(np.clip(page * factor, 0, 65535))
        _release(values)
        _release(scaled)
    scaled.flush()
    return factor
