"""Connected objects of a volume that need not fit the memory, slab by slab."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from scopekit.images.plane_file import Planes, WritablePlanes

# Voxels that share a face, an edge or a corner.
CONNECTIVITY = 26
NEIGHBOURS = np.ones((3, 3, 3))
_SLAB_VOXELS = 8_000_000
_LARGEST_UINT16 = 65535

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Labels:
    """A labelled volume.

    Attributes
    ----------
    volume
        0, or the number of the object, from 1 in the order of first planes.
    boxes
        Of each object, in order.
    """

    volume: Planes
    boxes: list[Box]


def plane_slabs(shape: tuple[int, ...], layer: int = 1) -> list[slice]:
    """Return the planes of a volume in slabs of a few million voxels, of whole layers of planes."""
    step = max(_SLAB_VOXELS // (shape[1] * shape[2] * layer), 1) * layer
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def label_on_disk(
    structure: Planes,
    threshold: float,
    preliminary: WritablePlanes,
    final: Callable[[int], WritablePlanes],
    advance: Callable[[], None],
    *,
    mask: WritablePlanes | None = None,
    layer: int = 1,
) -> Labels:
    """Label what is at or above a threshold; objects touch by faces, edges or corners (26).

    Parameters
    ----------
    structure
        (Z, Y, X).
    threshold
        What counts as an object.
    preliminary
        Gets preliminary numbers, integers of 32 bits.
    final
        Given the number of objects, returns what gets the labels; it may be ``preliminary``.
    advance
        Called after each of ``2 len(plane_slabs(shape, layer))`` steps.
    mask
        Gets 255 in objects, else 0.
    layer
        How many planes of a volume are stored together.
    """
    parts = plane_slabs(structure.shape, layer)
    n_found, pairs = 0, []
    last: NDArray | None = None
    for part in parts:
        found = structure[part,] >= threshold
        if mask is not None:
            mask[part,] = found * np.uint8(255)
        numbers, n = label(found, NEIGHBOURS, output=np.int32)
        numbers[found] += n_found
        n_found += n
        if last is not None:
            pairs.append(_touching(last, numbers[0]))
        last = numbers[-1].copy()
        preliminary[part,] = numbers
        advance()
    merged, n_objects = _merged(n_found, pairs)
    volume = final(n_objects)
    boxes: list[Box | None] = [None] * n_objects
    for part in parts:
        numbers = merged[preliminary[part,]]
        volume[part,] = numbers
        for index, box in enumerate(find_objects(numbers)):
            if box is not None:
                planes, *lateral = box
                boxes[index] = _around(boxes[index], (_moved(planes, part.start), *lateral))
        advance()
    return Labels(volume, [box for box in boxes if box is not None])


def label_number_type(n_objects: int) -> type[np.generic]:
    """Return the number type, of those that ImageJ knows, for labels of so many objects."""
    return np.uint16 if n_objects <= _LARGEST_UINT16 else np.float32


def _touching(before: NDArray, behind: NDArray) -> NDArray:
    """Return pairs (n, 2) of the numbers that touch between two planes."""
    padded = np.pad(before, 1)
    height, width = behind.shape
    pairs = []
    for dy in range(3):
        for dx in range(3):
            other = padded[dy : dy + height, dx : dx + width]
            both = (other > 0) & (behind > 0)
            pairs.append(np.unique(np.stack([other[both], behind[both]], axis=1), axis=0))
    return np.concatenate(pairs)


def _merged(n_found: int, pairs: list[NDArray]) -> tuple[NDArray, int]:
    """Return the final number of each preliminary one, 0 for 0, and how many there are."""
    first, second = (np.concatenate(pairs) if pairs else np.empty((0, 2), np.int32)).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(n_found + 1,) * 2)
    n, groups = connected_components(graph, directed=False)
    # Preliminary numbers grow with the planes: so do the final ones.
    _, firsts = np.unique(groups, return_index=True)
    order = np.empty(n, np.int32)
    order[np.argsort(firsts)] = np.arange(n, dtype=np.int32)
    return order[groups], n - 1


def _moved(planes: slice, start: int) -> slice:
    return slice(planes.start + start, planes.stop + start)


def _around(one: Box | None, other: Box) -> Box:
    if one is None:
        return other
    z, y, x = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return z, y, x
