"""What is done to crops in training: turns and flips, masks, margins."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def turned(volume: Array, turn: tuple[int, bool, tuple[bool, bool, bool]]) -> Array:
    """Return a volume (Z, Y, X) turned by quarters about z, by a half in z-y, and flipped.

    Parameters
    ----------
    volume
        (Z, Y, X); for an odd number of quarters as high as wide.
    turn
        Quarters about the optical axis; whether half a turn in z-y; whether each axis is flipped.
    """
    quarters, half, flips = turn
    volume = np.rot90(volume, quarters, axes=(1, 2))
    if half:
        volume = volume[::-1, ::-1]
    for axis, flip in enumerate(flips):
        if flip:
            volume = np.flip(volume, axis)
    return volume


def draw_turn(
    rng: np.random.Generator, *, square: bool
) -> tuple[int, bool, tuple[bool, bool, bool]]:
    """Draw a turn for `turned`, all alike; without ``square``, only half turns about z."""
    quarters = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
    z, y, x = (bool(rng.integers(2)) for _ in range(3))
    return quarters, bool(rng.integers(2)), (z, y, x)


def draw_mask(
    shape: tuple[int, int, int], number: int, size: tuple[int, int, int], rng: np.random.Generator
) -> Array:
    """Return ones (Z, Y, X) with ``number`` boxes of zeros at uniform places, cut at the border."""
    mask = np.ones(shape, np.float32)
    for _ in range(number):
        corner = [int(rng.integers(1 - side, n)) for side, n in zip(size, shape, strict=True)]
        box = [slice(max(c, 0), c + side) for c, side in zip(corner, size, strict=True)]
        mask[tuple(box)] = 0
    return mask


def clear_margin(mask: Array, margin: tuple[int, int, int]) -> None:
    """Set a margin of so many voxels in (z, y, x) to 0, in place."""
    for axis, width in enumerate(margin):
        if width:
            along = np.moveaxis(mask, axis, 0)
            along[:width] = 0
            along[-width:] = 0
