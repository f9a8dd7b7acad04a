"""Ellipsoids, curves and their thickening, drawn on voxel grids."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import ball

Vector = NDArray[np.float64]


def ellipsoid_offsets(
    radii: tuple[float, float, float], inner: float, outer: float
) -> NDArray[np.int64]:
    """Return the voxels (N, 3) around a centre at the origin with ``inner <= rho <= outer``.

    ``rho = (z / rz)^2 + (y / ry)^2 + (x / rx)^2``: inner 0 and outer 1 fill the ellipsoid, larger
    than 0 leaves a hollow shell.

    Parameters
    ----------
    radii
        (rz, ry, rx) in voxels, larger than 0.
    inner, outer
        Range of rho.
    """
    reach = [int(np.sqrt(outer) * r) for r in radii]
    z, y, x = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    rho = (z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2
    return np.argwhere((inner <= rho) & (rho <= outer)) - reach


def bezier_curve(start: Vector, middle: Vector, end: Vector, samples: int) -> Vector:
    """Return points (samples, 3) of the quadratic Bezier curve of three control points (3,)."""
    t = np.linspace(0, 1, samples)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end


def sum_at_voxels(
    voxels: Sequence[NDArray[np.int64]], values: Sequence[float], shape: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Add up what objects bring to their voxels, each object once to each of its own.

    Parameters
    ----------
    voxels
        Of every object, (N, 3) inside ``shape``, repeated ones count once.
    values
        What each object adds.
    shape
        Of the grid.

    Returns
    -------
    tuple
        The voxels with a value, (M, 3), each once, in raster order; and the values (M,).
    """
    own = [np.unique(np.ravel_multi_index(tuple(v.T), shape)) for v in voxels]
    places, where = np.unique(np.concatenate(own), return_inverse=True)
    brought = np.repeat(values, [len(v) for v in own])
    total = np.bincount(where, weights=brought).astype(np.float32)
    return np.stack(np.unravel_index(places, shape), axis=1), total


def stamp_dilated(
    target: NDArray[np.float32],
    voxels: NDArray[np.int64],
    values: NDArray[np.float32],
    radius: int,
) -> None:
    """Write the grey dilation by a ball of an image that is zero but at a few voxels.

    Parameters
    ----------
    target
        (Z, Y, X), zero or a previous dilation: the maximum is kept.
    voxels
        (N, 3), each once; may lie outside of ``target``, where only their ball reaches in.
    values
        (N,), not negative.
    radius
        Of the ball, in voxels.
    """
    flat = target.reshape(-1)
    # The voxels of one offset are all different, so that none is lost in an indexed write.
    footprint: NDArray[np.uint8] = ball(radius)
    for offset in np.argwhere(footprint) - radius:
        moved = voxels + offset
        inside = ((moved >= 0) & (moved < target.shape)).all(axis=1)
        places = np.ravel_multi_index(tuple(moved[inside].T), target.shape)
        flat[places] = np.maximum(flat[places], values[inside])


def add_copies(
    target: NDArray[np.float32],
    offsets: NDArray[np.int64],
    centres: NDArray[np.int64],
    values: NDArray[np.float64],
) -> None:
    """Add copies of one shape, each of its own brightness; what reaches outside is cut off.

    Parameters
    ----------
    target
        (Z, Y, X), contiguous.
    offsets
        (N, 3) voxels of the shape around its centre.
    centres
        (M, 3), may lie outside of ``target``.
    values
        (M,) brightness.
    """
    flat = target.reshape(-1)
    reach = np.abs(offsets).max(axis=0)
    near = ((centres >= -reach) & (centres < target.shape + reach)).all(axis=1)
    for centre, value in zip(centres[near], values[near], strict=True):
        moved = offsets + centre
        inside = ((moved >= 0) & (moved < target.shape)).all(axis=1)
        # A copy's voxels are all different: a plain indexed sum.
        flat[np.ravel_multi_index(tuple(moved[inside].T), target.shape)] += np.float32(value)
