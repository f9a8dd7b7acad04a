"""Single objects of phantoms: rotated bars and solids, elastically deformed, as lists of voxels.

An elastic deformation is a displacement field, the cubic spline through a coarse grid of random
displacements: a voxel takes the value of the object at its own place plus the displacement.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates
from skimage.morphology import ball, octahedron

Floats = NDArray[np.floating]
Voxels = NDArray[np.intp]

SOLIDS: dict[str, Callable[[int], NDArray[Any]]] = {
    "ball": ball,
    "octahedron": octahedron,
    "cube": lambda radius: np.ones((2 * radius + 1,) * 3, np.uint8),
}


def displacement_field(grid: Floats, size: int) -> Floats:
    """Return the cubic-spline interpolation of a coarse grid of displacements over a cube.

    The outermost nodes lie on the outermost voxels, where the spline is mirrored (its slope is 0).

    Parameters
    ----------
    grid
        Displacements (n, n, n, 3) in voxels.
    size
        Voxels along each side of the cube.

    Returns
    -------
    NDArray
        (3, size, size, size).
    """
    n = len(grid)
    weights = _spline(np.linspace(0, size - 1, n), np.eye(n))(np.arange(size))
    field: Floats = np.einsum("za,yb,xc,abck->kzyx", weights, weights, weights, grid, optimize=True)
    return field


def _spline(nodes: Floats, values: Floats) -> CubicSpline:
    return CubicSpline(nodes, values, bc_type="clamped")


def deformed_solid(shape: str, radius: int, grid: Floats) -> Voxels:
    """Return the voxels of a deformed ball, octahedron or cube.

    Parameters
    ----------
    shape
        A key of `SOLIDS`.
    radius
        Of the undeformed solid in voxels: it spans 2 radius + 1.
    grid
        Displacements (n, n, n, 3) in voxels, spanning the undeformed solid; beyond it the field
        keeps the value of its border.

    Returns
    -------
    NDArray
        (3, voxels): z, y, x from the corner of the undeformed solid; some are negative.
    """
    field = displacement_field(grid, 2 * radius + 1)
    reach = int(np.ceil(np.abs(field).max()))
    field = np.pad(field, ((0, 0), *3 * ((reach, reach),)), mode="edge")
    places = np.indices(field.shape[1:]) - reach + field
    solid = SOLIDS[shape](radius).astype(np.float32)
    values = map_coordinates(solid, places, order=1, mode="grid-constant")
    return np.array(np.nonzero(values >= 0.5)) - reach


def rotated_bar(
    length: int,
    width: int,
    section: int,
    rotation: Floats,
    *,
    threshold: float,
    grid: Floats | None = None,
) -> Voxels:
    """Return the voxels of a rotated square bar, deformed before if wanted.

    Deformation and rotation are one interpolation: a voxel is turned back into the frame of the
    bar, displaced there and looked up, which equals resampling twice but for its blur. As the
    deformed bar is an array of its own before it is rotated, what the deformation moves out of
    ``length`` x ``section`` x ``section`` is cut off.

    Parameters
    ----------
    length
        Of the bar in voxels.
    width, section
        Sides of the bar and of the empty square around its axis, in voxels.
    rotation
        (3, 3) from the frame of the bar, its axis first, to (z, y, x).
    threshold
        Interpolated value, between 0 (outside) and 1 (inside), from which a voxel belongs to it.
    grid
        Displacements (n, 3) in voxels, evenly spaced along the bar, in its frame.

    Returns
    -------
    NDArray
        (3, voxels): z, y, x from the corner of the box that just holds the rotated section.
    """
    size = np.array((length, section, section))
    voxels = rotated_box(size, rotation)
    places = rotation.T @ (voxels - (enclosing_box(size, rotation)[:, None] - 1) / 2)
    if grid is not None:
        nodes = np.linspace(-1, 1, len(grid)) * (length - 1) / 2
        places += _spline(nodes, grid)(places[0].clip(nodes[0], nodes[-1])).T
    margin = (section - width) // 2
    bar = np.zeros(size, np.float32)
    bar[:, margin : margin + width, margin : margin + width] = 1
    places += (size[:, None] - 1) / 2
    values = map_coordinates(bar, places, order=1, mode="grid-constant")
    return voxels[:, values >= threshold]


def enclosing_box(size: NDArray[np.int_], rotation: Floats) -> NDArray[np.int_]:
    """Return the sides (3,) of the box of voxels that just holds a rotated box."""
    # Less a rounding error, so that an unrotated box keeps its size.
    sides: NDArray[np.int_] = np.ceil(np.abs(rotation) @ size - 1e-6).astype(int)
    return sides


def rotated_box(size: NDArray[np.int_], rotation: Floats) -> Voxels:
    """Return the voxels whose centres lie in a rotated box.

    Parameters
    ----------
    size
        (3,) sides of the box in voxels, in its own frame.
    rotation
        (3, 3) from the frame of the box to (z, y, x).

    Returns
    -------
    NDArray
        (3, voxels): z, y, x from the corner of `enclosing_box`, whose middle both share.
    """
    # Every row of voxels along x meets the three pairs of sides in three intervals.
    box = enclosing_box(size, rotation)
    z, y = np.ogrid[: box[0], : box[1]]
    middle = (box - 1) / 2
    first, last = np.zeros(box[:2]), np.full(box[:2], box[2] - 1.0)
    for side, axis in zip(size / 2, rotation.T, strict=True):
        step = np.copysign(max(abs(axis[2]), 1e-9), axis[2])
        crossing = middle[2] - (axis[0] * (z - middle[0]) + axis[1] * (y - middle[1])) / step
        first = np.maximum(first, crossing - side / abs(step))
        last = np.minimum(last, crossing + side / abs(step))
    start = np.ceil(first).astype(int)
    counts = np.maximum(np.floor(last).astype(int) - start + 1, 0)
    rows = np.nonzero(counts)
    start, counts = start[rows], counts[rows]
    ends = np.cumsum(counts)
    x = np.arange(counts.sum()) + np.repeat(start - ends + counts, counts)
    return np.stack([np.repeat(rows[0], counts), np.repeat(rows[1], counts), x])
