"""TIFF stacks, inspected and read."""

import logging
import math
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.stack import StackFile
from scopekit.images.tiff_metadata import read_voxel_um

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
class TiffStack(StackFile):
    """A TIFF stack on disk, its pages not read yet."""

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        """Read one time point, as `StackFile.read` says."""
        stack = np.empty(self.shape[-3:], np.float32)
        with _open(self.path) as tif:
            pages = self._pages(tif, frame).reshape(stack.shape)
            for index, page in enumerate(pages):
                stack[index] = page
                release_pages(pages)
                self._require_finite(stack[index], index, frame)
        return stack

    def read_window(
        self, pages: Sequence[int], rows: slice, columns: slice, frame: int = 0
    ) -> NDArray[np.float32]:
        """Read a window of some pages: of an uncompressed file, no more than that."""
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


def inspect_tiff(path: Path) -> TiffStack:
    """Inspect a TIFF of real numbers, of 2 to 4 axes, without reading its pages.

    Raises
    ------
    UserError
        If the file is missing, not a TIFF, damaged, a colour image, or holds several channels.
    """
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
    return TiffStack(path, shape, dtype, voxel_um)


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


def release_pages(array: NDArray) -> None:
    """Give the pages of a mapped file back to the system, which keeps their content."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
