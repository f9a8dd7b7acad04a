"""Recordings in several TIFFs, or stopped early (OME, Micro-Manager): which planes a file has."""

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from scopekit.errors import UserError
from scopekit.images.axes import DEPTH, POSITION, TIME, Axis, stacked

# More than an index of 4 GB has entries.
_MOST_PLANES = 2**28


def has_impossible_index(tif: tifffile.TiffFile) -> bool:
    """Whether Micro-Manager lists planes so far apart that no memory holds all between."""
    if not tif.is_mmstack:
        return False
    index = (tif.micromanager_metadata or {}).get("IndexMap")
    if index is None or not len(index):
        return False
    spans = np.ptp(np.asarray(index, np.int64)[:, :4], axis=0) + 1
    return math.prod(map(int, spans)) > _MOST_PLANES


def is_of_set(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Whether a recording is, or was, in several files."""
    if series.is_multifile:
        return True
    named = re.findall(r'FileName="([^"]*)"', tif.ome_metadata or "") if tif.is_ome else []
    return len(set(named)) > 1


def own_part(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, axes: Sequence[Axis]
) -> tuple[tuple[Axis, ...], tuple[int, ...], frozenset[Path]]:
    """Return the axes and planes of a set that a file of it stands for, and where they lie.

    A file of whole stacks stands for those. Where stacks are spread over files, each stands for
    all that is spread so, at its own positions.

    Parameters
    ----------
    path
        The file.
    tif
        The same, open.
    series
        The whole set.
    axes
        Its axes.

    Returns
    -------
    axes
        Of the part.
    own
        Numbers of its planes in the set.
    files
        Which hold them.

    Raises
    ------
    UserError
        If some of these planes are missing, since files of the set are.
    """
    lengths = [axis.length for axis in axes]
    pages = list(series.pages)
    here = np.array([page is not None and page.parent is tif for page in pages]).reshape(lengths)
    places = [np.flatnonzero(here.any(axis=_others(n, here.ndim))) for n in range(here.ndim)]
    if not here[np.ix_(*places)].all() or _cuts_stacks(axes, places):
        places = [
            found if axis.name == POSITION else np.arange(axis.length)
            for axis, found in zip(axes, places, strict=True)
        ]
    numbers = np.arange(here.size).reshape(lengths)[np.ix_(*places)].ravel()
    missing = sum(pages[number] is None for number in numbers)
    if missing:
        raise UserError(
            f"{path}: part of a recording in several files, of which some are missing ({missing} "
            f"of {numbers.size} images): put them into one folder"
        )
    names = [axis.name for axis in axes]
    found = {page.parent.filehandle.path for number in numbers if (page := pages[number])}
    return (
        stacked(names, [len(found) for found in places]),
        tuple(map(int, numbers)),
        (frozenset(map(Path, found))),
    )


def whole_part(
    path: Path, series: tifffile.TiffPageSeries, axes: Sequence[Axis]
) -> tuple[tuple[Axis, ...], tuple[int, ...] | None]:
    """Return the time points of a recording that are whole: those before it was stopped.

    Parameters
    ----------
    path
        The file.
    series
        Its images, as many as were planned.
    axes
        Their axes.

    Returns
    -------
    axes
        Of the part.
    own
        Numbers of its planes in the series; ``None``: all, nothing is missing.

    Raises
    ------
    UserError
        If no time point is whole.
    """
    there = np.array([page is not None for page in series.pages])
    lengths = [axis.length for axis in axes]
    if there.all() or there.size != np.prod(lengths):
        return tuple(axes), None
    time = next((n for n, axis in enumerate(axes) if axis.name == TIME), None)
    count = f"{there.sum()} of its {there.size} images are in it"
    whole = 0
    if time is not None:
        stopped = np.flatnonzero(~there.reshape(lengths).all(axis=_others(time, len(lengths))))
        whole = int(stopped[0])
    if time is None or not whole:
        raise UserError(f"{path}: {count}: was the recording stopped? Save the whole stack again")
    warnings.warn(
        f"{path}: {count}: stopped early? The first {whole} of {lengths[time]} time points are "
        "whole, the others are left out",
        stacklevel=2,
    )
    kept = [range(whole if n == time else length) for n, length in enumerate(lengths)]
    numbers = np.arange(there.size).reshape(lengths)[np.ix_(*kept)].ravel()
    return stacked([axis.name for axis in axes], [len(k) for k in kept]), tuple(map(int, numbers))


def _others(axis: int, count: int) -> tuple[int, ...]:
    return tuple(n for n in range(count) if n != axis)


def _cuts_stacks(axes: Sequence[Axis], places: Sequence[np.ndarray]) -> bool:
    return any(
        axis.name == DEPTH and len(found) < axis.length
        for axis, found in zip(axes, places, strict=True)
    )
