"""Volumes of a bubtub dataset: a window of a scene, drawn and blurred strip by strip."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from datagen.bubtub.scenes import Field, Region, Scene

_TRUNCATE = 4.0
# Voxels of a strip on the fine grid: 128 MB in float32.
_STRIP_VOXELS = 32 * 2**20
_STRIPS_AT_ONCE = 4


def choose_window(field: Field, scene: Scene, shape: tuple[int, int, int]) -> Region:
    """Return the part of the field to draw: its middle, or around an object if that is empty.

    Parameters
    ----------
    field
        The full field.
    scene
        Its objects.
    shape
        (Z, Y, X) of the window, at most the field's.
    """
    start = np.array([(whole - n) // 2 for whole, n in zip(field.shape, shape, strict=True)])
    points = scene.objects.points()
    if not ((points >= start) & (points < start + np.array(shape))).all(axis=1).any():
        distance = np.square(points - np.array(field.shape) / 2).sum(axis=1)
        nearest = np.rint(points[distance.argmin()]).astype(np.int64)
        start = np.clip(nearest - np.array(shape) // 2, 0, np.array(field.shape) - shape)
    z, y, x = (slice(int(a), int(a) + n) for a, n in zip(start, shape, strict=True))
    return z, y, x


def draw_volume(
    field: Field,
    scene: Scene,
    window: Region,
    threads: int = 1,
    strip_voxels: int = _STRIP_VOXELS,
) -> NDArray[np.uint16]:
    """Return the blurred scene within ``window``.

    Strips of rows are drawn one after the other, with as much around them as the blur reaches, so
    that the result does not depend on how many there are.

    Parameters
    ----------
    field
        The full field.
    scene
        What to draw.
    window
        Part of the field, (Z, Y, X).
    threads
        Strips drawn at the same time, at most 4.
    strip_voxels
        Size of a strip on the isotropic grid, which bounds the memory.
    """
    planes, rows, columns = window
    volume = np.empty([axis.stop - axis.start for axis in window], np.uint16)
    columns_and_depths = (columns.stop - columns.start) * field.isotropic_depths

    def draw(strip: slice) -> None:
        part = _blurred(field, scene, (planes, strip, columns))
        place = slice(strip.start - rows.start, strip.stop - rows.start)
        volume[:, place] = np.rint(np.minimum(part, 65535))

    with ThreadPoolExecutor(min(threads, _STRIPS_AT_ONCE)) as pool:
        list(pool.map(draw, _strips(rows, max(strip_voxels // columns_and_depths, 1))))
    return volume


def _strips(rows: slice, height: int) -> Iterator[slice]:
    for first in range(rows.start, rows.stop, height):
        yield slice(first, min(first + height, rows.stop))


def _blurred(field: Field, scene: Scene, region: Region) -> NDArray[np.float32]:
    reach = [int(_TRUNCATE * s + 0.5) for s in scene.sigma]
    wide = tuple(
        slice(max(axis.start - r, 0), min(axis.stop + r, size))
        for axis, r, size in zip(region, reach, field.shape, strict=True)
    )
    drawn = scene.objects.draw((wide[0], wide[1], wide[2]))
    blurred: NDArray[np.float32] = gaussian_filter(
        drawn, scene.sigma, mode="nearest", truncate=_TRUNCATE
    )
    inner = tuple(
        slice(axis.start - w.start, axis.stop - w.start)
        for axis, w in zip(region, wide, strict=True)
    )
    return blurred[inner]
