"""TIFF stacks with voxel sizes: volumes (Z, Y, X), view stacks (A, Y, X), and series of them.

Written files carry ImageJ metadata, which ImageJ, Fiji, napari and the OME Bio-Formats readers
understand: voxel size in um, contrast limits, hyperstack axes.
"""

import logging
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.outputs import require_space, whole_file

VoxelSize = tuple[float, float, float]
_UM_PER_UNIT = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}
_DAMAGED = "damaged or cut short (an interrupted copy?); copy or export the file again"


class _DamageLog(logging.Handler):
    """Collects tifffile's warnings: it reads what is left of a broken file and only logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


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
        n_pages = self.shape[-3]
        first = frame * n_pages
        with _open(self.path) as tif:
            series = tif.series[0]
            if series.dataoffset is not None:
                pages = np.memmap(
                    self.path,
                    dtype=series.dtype.newbyteorder(tif.byteorder),
                    mode="r",
                    offset=series.dataoffset + first * _page_bytes(self),
                    shape=self.shape[-3:],
                )
            else:
                keys = slice(first, first + n_pages)
                pages = tif.asarray(key=keys).reshape(self.shape[-3:])
            stack = pages.astype(np.float32)
        if not np.isfinite(stack).all():
            plane = int(np.argmin(np.isfinite(stack).all(axis=(1, 2))))
            where = f"page {plane}" if self.n_frames == 1 else f"frame {frame}, page {plane}"
            raise UserError(
                f"{self.path}: NaN or infinite values ({where}, counted from 0); "
                "replace them before the reconstruction"
            )
        return stack


def _page_bytes(stack: StackFile) -> int:
    return stack.shape[-2] * stack.shape[-1] * stack.dtype.itemsize


@contextmanager
def _open(path: Path) -> Iterator[tifffile.TiffFile]:
    log = _DamageLog()
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(log)
    try:
        with tifffile.TiffFile(path) as tif:
            yield tif
        if log.messages:
            raise UserError(f"{path}: {_DAMAGED}")
    except FileNotFoundError as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except IsADirectoryError as failure:
        raise UserError(f"{path}: a folder where a file was expected") from failure
    except tifffile.TiffFileError as failure:
        raise UserError(f"{path}: not a TIFF file; export the stack as TIFF") from failure
    except (ValueError, IndexError, KeyError, EOFError, RuntimeError, TypeError) as failure:
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
        If the file is missing, not a TIFF, damaged, a colour image, or a single 2D image.
    """
    with _open(path) as tif:
        shape, dtype = _stack_shape(tif)
        voxel_um = _voxel_um(tif)
        contiguous_end = None
        if tif.series[0].dataoffset is not None:
            contiguous_end = tif.series[0].dataoffset + int(np.prod(shape)) * dtype.itemsize
        size = tif.filehandle.size
    if contiguous_end is not None and contiguous_end > size:
        raise UserError(f"{path}: {_DAMAGED}")
    if len(shape) == 2:
        raise UserError(f"{path}: a single 2D image {shape}; expected a stack of pages")
    if len(shape) > 4 or dtype.kind not in "uif":
        raise UserError(
            f"{path}: shape {shape} of {dtype}; expected pages of grey values, "
            "(pages, Y, X) or (T, pages, Y, X)"
        )
    return StackFile(path, shape, dtype, voxel_um)


def _stack_shape(tif: tifffile.TiffFile) -> tuple[tuple[int, ...], np.dtype]:
    series = tif.series[0]
    if "S" in series.axes and series.shape[series.axes.index("S")] > 1:
        raise UserError(f"{tif.filehandle.path}: a colour image; export it as grey values")
    shape = [n for n, axis in zip(series.shape, series.axes, strict=True) if axis != "S"]
    if len(tif.series) > 1:  # pages written one by one
        if any(s.shape != series.shape or s.dtype != series.dtype for s in tif.series):
            raise UserError(f"{tif.filehandle.path}: its pages differ in size or type")
        shape = [len(tif.series), *shape]
    while len(shape) > 3 and 1 in shape[:-2]:
        shape.remove(1)
    return tuple(shape), series.dtype


def _voxel_um(tif: tifffile.TiffFile) -> VoxelSize | None:
    """Return (z, y, x) in um from ImageJ or OME metadata, or None."""
    if tif.is_ome and tif.ome_metadata:
        pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        sizes = [_ome_length_um(pixels, axis) for axis in "ZYX"] if pixels is not None else []
        if len(sizes) == 3 and sizes[1] and sizes[2]:
            return (sizes[0] or 1.0, sizes[1], sizes[2])
        return None
    metadata = tif.imagej_metadata
    if not metadata:
        return None
    # ImageJ escapes the micro sign.
    unit = re.sub(r"\\u00[bB]5", "µ", str(metadata.get("unit", "")))
    um_per_unit = _UM_PER_UNIT.get(unit)
    tags = tif.pages.first.tags
    if um_per_unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_pixels and y_pixels):
        return None
    z = float(metadata.get("spacing", 1.0)) * um_per_unit
    return (z, y_units / y_pixels * um_per_unit, x_units / x_pixels * um_per_unit)


def _ome_length_um(pixels: ElementTree.Element, axis: str) -> float | None:
    length = pixels.get(f"PhysicalSize{axis}")
    um_per_unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return float(length) * um_per_unit if length and um_per_unit else None


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

    Examples
    --------
    >>> with VolumeWriter(path, (101, 429, 429), (0.2, 0.12, 0.12), overwrite=False) as writer:
    ...     writer.array[:, :99] = tile
    ...     writer.release()
    """

    array: NDArray[np.float32]

    def __init__(
        self, path: Path, shape: tuple[int, ...], voxel_um: VoxelSize, *, overwrite: bool
    ) -> None:
        self._shape = shape
        self._voxel_um = voxel_um
        self._file = whole_file(path, overwrite=overwrite)

    def __enter__(self) -> "VolumeWriter":
        partial = self._file.__enter__()
        try:
            n_bytes = int(np.prod(self._shape)) * 4
            require_space(partial.parent, n_bytes)
            self.array = tifffile.memmap(
                partial, shape=self._shape, dtype=np.float32, **_imagej(self._shape, self._voxel_um)
            )
            if hasattr(os, "posix_fallocate"):
                with partial.open("r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, partial.stat().st_size)
        except BaseException as failure:
            self._file.__exit__(type(failure), failure, failure.__traceback__)
            raise
        return self

    def release(self) -> None:
        """Give the written pages back to the system; the file keeps them."""
        mapping = getattr(self.array, "_mmap", None)
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.array.flush()  # type: ignore[attr-defined]
            mapping.madvise(mmap.MADV_DONTNEED)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.array.flush()  # type: ignore[attr-defined]
        del self.array
        self._file.__exit__(kind, failure, trace)


def _imagej(shape: tuple[int, ...], voxel_um: VoxelSize) -> dict:
    """Return tifffile's arguments for an ImageJ file with this voxel size."""
    z_um, y_um, x_um = voxel_um
    return {
        "imagej": True,
        "resolution": (1 / x_um, 1 / y_um),
        "metadata": {"axes": "TZYX"[-len(shape) :], "spacing": z_um, "unit": "um"},
    }


def write_volume(
    path: Path, volume: NDArray[np.float32], voxel_um: VoxelSize, *, overwrite: bool
) -> None:
    """Write a volume (Z, Y, X), or a series (T, Z, Y, X), as float32 with its voxel size in um."""
    with whole_file(path, overwrite=overwrite) as partial:
        require_space(partial.parent, volume.size * 4)
        tifffile.imwrite(
            partial, volume.astype(np.float32, copy=False), **_imagej(volume.shape, voxel_um)
        )


def scale_to_uint16(path: Path, voxel_um: VoxelSize) -> float:
    """Turn a float32 volume file into uint16 over its full range, page by page.

    Parameters
    ----------
    path
        A non-negative volume written by `VolumeWriter` or `write_volume`; it is replaced.
    voxel_um
        (z, y, x) step in um.

    Returns
    -------
    float
        The factor: stored value = factor * value.
    """
    source = tifffile.memmap(path, mode="r")
    peak = max(float(page.max()) for page in source.reshape(-1, *source.shape[-2:]))
    factor = 65535.0 / peak if peak > 0 else 1.0
    with whole_file(path, overwrite=True) as partial:
        require_space(partial.parent, source.size * 2)
        pages = (
            np.rint(np.clip(page * factor, 0, 65535)).astype(np.uint16)
            for page in source.reshape(-1, *source.shape[-2:])
        )
        tifffile.imwrite(
            partial, pages, shape=source.shape, dtype=np.uint16, **_imagej(source.shape, voxel_um)
        )
    return factor
