"""TIFF files of every dialect that tifffile knows: their planes by name, read one at a time."""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from scopekit.errors import Page, UserError
from scopekit.images.axes import (
    CHANNEL,
    DEPTH,
    PAGES,
    POSITION,
    TIME,
    Axis,
    choose,
    stacked,
)
from scopekit.images.readers.scanimage import find_scanimage
from scopekit.images.readers.tiff_companions import companion_metadata
from scopekit.images.readers.tiff_sets import (
    has_impossible_index,
    is_of_set,
    own_part,
    whole_part,
)
from scopekit.images.readers.tiff_steps import read_steps
from scopekit.images.selection import Selection
from scopekit.images.stack import StoredPlanes

_DAMAGED = "damaged or cut short (an interrupted copy?); copy or export the file again"
_NAMES = {"T": TIME, "Z": DEPTH, "C": CHANNEL, "R": POSITION, "I": PAGES, "Q": PAGES}
_NAMES |= {"A": "angles", "E": "wavelengths", "H": "lifetimes", "L": "exposures", "M": "tiles"}
_NAMES |= {"P": "phases", "V": "events", "S": CHANNEL}

# tifffile tells there what it finds odd, which is no damage, and would be printed.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class TiffPlanes(StoredPlanes):
    """The planes of a TIFF, or of some of its series one after the other.

    Attributes
    ----------
    series
        Numbers of the series.
    own
        Which planes of a set of several files these are; ``None``: all.
    files
        Which hold them, if they are several.
    place
        Where the values lie in the file, and their type there, if they lie without gaps.
    """

    series: tuple[int, ...]
    own: tuple[int, ...] | None = None
    files: frozenset[Path] = frozenset()
    place: tuple[int, np.dtype[Any]] | None = None

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[NDArray[Any]]:
        """Yield a window of planes: of an uncompressed file, no more than that is read."""
        with opened(self.path) as tif:
            if self.place is not None:
                yield from self._mapped(*self.place, numbers, rows, columns)
                return
            read = _PlaneReader(self.path, tif, self.series, self.plane_shape)
            for number in numbers:
                yield read(number if self.own is None else self.own[number])[rows, columns]

    def _mapped(
        self,
        start: int,
        dtype: np.dtype[Any],
        numbers: Sequence[int],
        rows: slice,
        columns: slice,
    ) -> Iterator[NDArray[Any]]:
        n_bytes = math.prod(self.plane_shape) * dtype.itemsize
        for number in numbers:
            plane: np.memmap = np.memmap(
                self.path, dtype, "r", start + number * n_bytes, self.plane_shape
            )
            yield plane[rows, columns]


class _PlaneReader:
    """Reads planes of several series of a file that is open."""

    def __init__(
        self,
        path: Path,
        tif: tifffile.TiffFile,
        series: Sequence[int],
        plane_shape: tuple[int, int],
    ) -> None:
        self._path = path
        self._series = [tif.series[n] for n in series]
        self._shape = plane_shape
        self._count = _n_planes(self._series[0])
        self._last: tuple[object, NDArray[Any]] | None = None

    def __call__(self, number: int) -> NDArray[Any]:
        series = self._series[number // self._count]
        number %= self._count
        per_page = self._count // len(series.pages)
        page = series.pages[number // per_page]
        if page is None:
            raise UserError(f"{self._path}: plane {number} is missing; export the file again")
        # Pages may hold several planes: they are decoded once.
        if self._last is None or self._last[0] is not page:
            with _file_of(page):
                values = page.asarray()
            if series.axes.endswith("S"):  # channels of a pixel side by side
                values = np.moveaxis(values.reshape(-1, *self._shape, series.shape[-1]), -1, 1)
            self._last = page, values.reshape(per_page, *self._shape)
        plane: NDArray[Any] = self._last[1][number % per_page]
        return plane


@contextmanager
def _file_of(page: tifffile.TiffPage | tifffile.TiffFrame) -> Iterator[None]:
    """Open the file of a page for a while, which may be another one of a set."""
    handle = page.parent.filehandle
    if not handle.closed:
        yield
        return
    handle.open()
    try:
        yield
    finally:
        handle.close()


@contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF; whatever goes wrong with it becomes a `UserError`."""
    try:
        with tifffile.TiffFile(path) as tif:
            companion = companion_metadata(path, tif.ome_metadata or "")
            if companion is None:
                yield tif
                return
        with tifffile.TiffFile(path, omexml=companion) as tif:
            yield tif
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
        if isinstance(failure, ImportError) or "imagecodecs" in str(failure):
            raise _not_decodable(path) from failure
        raise UserError(f"{path}: {_DAMAGED}") from failure


def inspect_tiff(path: Path, selection: Selection) -> TiffPlanes:
    """Inspect a TIFF of real numbers without reading its pages.

    Raises
    ------
    UserError
        If the file is missing, not a TIFF, damaged, a colour image, or has several positions and
        none is selected.
    """
    try:
        with opened(path) as tif:
            return _inspected(path, tif, selection)
    except MemoryError as failure:  # no page is read yet: sizes that cannot be
        raise UserError(f"{path}: {_DAMAGED}") from failure


def _inspected(path: Path, tif: tifffile.TiffFile, selection: Selection) -> TiffPlanes:
    if _runs_in_circles(tif) or has_impossible_index(tif):
        raise UserError(f"{path}: {_DAMAGED}")
    numbers, several_positions = _choose_series(path, tif, selection)
    series = tif.series[numbers[0]]
    axes = _axes(path, series)
    own, files = None, frozenset[Path]()
    of_set = is_of_set(tif, series)
    _require_whole(path, tif, numbers[0], of_set=of_set)
    if len(numbers) > 1:  # images written one by one
        inner = _n_planes(series)
        axes = (Axis(PAGES, len(numbers), inner), *axes)
    elif of_set:
        axes, own, files = own_part(path, tif, series, axes)
    elif series.kind in ("ome", "mmstack"):
        axes, own = whole_part(path, series, axes)
    elif (found := find_scanimage(path, tif, _n_planes(series))) is not None:
        axes = found.axes
    dtype = np.dtype(series.dtype).newbyteorder("=")
    if dtype.kind not in "uif":
        raise UserError(f"{path}: values of {dtype}; expected pages of grey values")
    _require_decoder(path, series)
    several = any(axis.name in (DEPTH, PAGES) and axis.length > 1 for axis in axes)
    place = None
    in_order = not (series.axes.endswith("S") and series.shape[-1] > 1)
    if series.dataoffset is not None and len(numbers) == 1 and own is None and in_order:
        place = series.dataoffset, dtype.newbyteorder(tif.byteorder)
    return TiffPlanes(
        path=path,
        axes=axes,
        plane_shape=_plane_shape(path, series),
        dtype=dtype,
        steps=read_steps(path, tif, numbers[0], of_planes=several),
        is_position=several_positions,
        series=numbers,
        own=own,
        files=files,
        place=place,
    )


def _choose_series(
    path: Path, tif: tifffile.TiffFile, selection: Selection
) -> tuple[tuple[int, ...], bool]:
    """Return the series that is meant, and whether it is one position of several.

    Images that were written one by one are meant all.
    """
    every = list(tif.series)
    if not every:
        raise UserError(f"{path}: {_DAMAGED}")
    if tif.is_ome and every[0].kind == "generic" and len(tif.pages) > 1:
        raise UserError(
            f"{path}: its OME metadata, which tell the axes, cannot be read; open it in ImageJ by "
            "Bio-Formats, and save it as TIFF"
        )
    positions = [n for n, series in enumerate(every) if not series.keyframe.is_reduced]
    # Other files of a set have images of their own.
    positions = [n for n in positions if _has_pages_here(tif, every[n])] or positions
    stacks = [n for n in positions if _n_planes(every[n]) > 1]
    if selection.position is None:
        if len(positions) == 1 or len(stacks) == 1:
            return ((positions if len(positions) == 1 else stacks)[0],), False
        alike = len({(every[n].shape, every[n].dtype) for n in positions}) == 1
        if alike and not tif.is_ome:
            return tuple(positions), False
        if not alike:
            raise UserError(
                f"{path}: its {len(positions)} images differ in size or type; choose one, 0 to "
                f"{len(positions) - 1}, by `position=N`",
                page=Page.axes,
            )
    if len(positions) == 1:  # which may have positions itself
        return (positions[0],), False
    return (positions[choose(path, POSITION, len(positions), selection.position)],), True


def _has_pages_here(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    return any(page is not None and page.parent is tif for page in series.pages)


def _axes(path: Path, series: tifffile.TiffPageSeries) -> tuple[Axis, ...]:
    sizes = list(zip(series.axes, map(int, series.shape), strict=True))
    sizes = [(axis, n) for axis, n in sizes if axis != "S" or n > 1]
    names = "".join(axis for axis, _ in sizes)
    if "S" in names and not ("C" not in names and _is_grey(series)):
        raise UserError(f"{path}: a colour image; export it as grey values")
    if not names.rstrip("S").endswith("YX") or names.count("Y") + names.count("X") > 2:
        raise UserError(
            f"{path}: axes {series.axes} {series.shape}; expected images of Y and X", page=Page.axes
        )
    leading = [(axis, n) for axis, n in sizes if axis not in "YX"]
    return stacked([_NAMES.get(axis, axis) for axis, _ in leading], [n for _, n in leading])


def _is_grey(series: tifffile.TiffPageSeries) -> bool:
    """Whether several values of a pixel are channels, and no colour."""
    return series.keyframe.photometric in (
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.MINISWHITE,
    )


def _plane_shape(path: Path, series: tifffile.TiffPageSeries) -> tuple[int, int]:
    y, x = (n for axis, n in zip(series.axes, series.shape, strict=True) if axis in "YX")
    if y * x == 0:
        raise UserError(f"{path}: {_DAMAGED}")
    return int(y), int(x)


def _n_planes(series: tifffile.TiffPageSeries) -> int:
    of_planes = "YX" if _is_grey(series) else "SYX"
    return math.prod(
        int(n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in of_planes
    )


def _require_whole(path: Path, tif: tifffile.TiffFile, number: int, *, of_set: bool) -> None:
    """Raise `UserError` unless the pages that the file promises are all in it."""
    series = tif.series[number]
    n_planes = _n_planes(series)
    whole = of_set or n_planes % len(series.pages) == 0
    whole &= _holds_values(series.keyframe)
    if series.dataoffset is not None:
        whole &= series.dataoffset + series.nbytes <= tif.filehandle.size
    elif series.kind not in ("ome", "mmstack"):  # which may have been stopped
        whole &= None not in series.pages
    if len(tif.pages) > 1 or series.dataoffset is None:
        whole &= _chain_ends(tif) and _inside(tif.pages[-1], tif.filehandle.size)
    if tif.is_imagej and tif.imagej_metadata:
        whole &= int(tif.imagej_metadata.get("images", 1)) <= n_planes
    if tif.is_shaped and tif.shaped_metadata and number < len(tif.shaped_metadata):
        whole &= math.prod(tif.shaped_metadata[number]["shape"]) <= series.size
    if not whole:
        raise UserError(f"{path}: {_DAMAGED}")


def _chain_ends(tif: tifffile.TiffFile) -> bool:
    """Whether the last page says that none follows: else what follows is not in the file."""
    len(tif.pages)  # follows the chain
    assert tif.pages.next_page_offset is not None
    tif.filehandle.seek(tif.pages.next_page_offset)
    return not any(tif.filehandle.read(tif.tiff.offsetsize))


def _runs_in_circles(tif: tifffile.TiffFile) -> bool:
    """Whether a page names one before it as the next, which tifffile follows for ever."""
    form, handle, seen = tif.tiff, tif.filehandle, set[int]()

    def number(n_bytes: int) -> int:
        return int.from_bytes(handle.read(n_bytes), "little" if form.byteorder == "<" else "big")

    offset = tif.pages.first.offset
    while 0 < offset < handle.size and offset not in seen:
        seen.add(offset)
        handle.seek(offset)
        handle.seek(number(form.tagnosize) * form.tagsize, os.SEEK_CUR)
        offset = number(form.offsetsize)
    return offset in seen


def _holds_values(page: tifffile.TiffPage) -> bool:
    """Whether the bytes of a page suffice for its values."""
    n_bytes = -(-page.size * page.bitspersample // 8)
    # Counts that the file does not tell are made of the sides.
    held = min(sum(page.databytecounts), page.parent.filehandle.size)
    if page.compression == tifffile.COMPRESSION.NONE:
        return n_bytes <= held
    if page.compression in (
        tifffile.COMPRESSION.ADOBE_DEFLATE,
        tifffile.COMPRESSION.DEFLATE,
    ):
        return n_bytes <= 1032 * held  # RFC 1951: 258 values in 2 bits at best
    return True


def _inside(page: tifffile.TiffPage | tifffile.TiffFrame, size: int) -> bool:
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return bool(ends) and max(ends) <= size


def _require_decoder(path: Path, series: tifffile.TiffPageSeries) -> None:
    page = series.keyframe
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except (KeyError, ImportError) as failure:
        raise _not_decodable(path) from failure


def _not_decodable(path: Path) -> UserError:
    return UserError(
        f"{path}: its compression is not supported; save it uncompressed, or run "
        "'pip install imagecodecs'",
        page=Page.files,
    )
