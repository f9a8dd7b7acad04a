"""Objects painted into a volume, and the two labels made from it."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from datagen.labels.files import Plane, Size
from datagen.labels.shapes import Voxels

Labels = NDArray[np.unsignedinteger]
Placed = tuple[Voxels, NDArray[np.int_]]
_BRIGHTNESS_SPREAD = 0.5


def painted_planes(
    size: Size,
    n_objects: int,
    draw: Callable[[np.random.Generator], Placed],
    generator: np.random.Generator,
) -> Iterator[tuple[Plane, Plane]]:
    """Paint objects of random brightness and yield the planes of labelx and labelz.

    labelx is 1 where there is any object; labelz is the brightness of the brightest there. Objects
    are painted from the dimmest to the brightest, each by its number, so that a voxel holds two
    bytes (four for 65536 objects or more) and the labels exist one plane at a time.

    Parameters
    ----------
    size
        (Z, Y, X) of the volume.
    n_objects
        How many to paint.
    draw
        Draws one: its voxels (3, n), and the corner (3,) to count them from.
    generator
        The source of random numbers.
    """
    brightness = draw_brightness(n_objects, generator)
    labels = np.zeros(size, np.uint16 if n_objects < 2**16 else np.uint32)
    for number in range(1, n_objects + 1):
        paint(labels, *draw(generator), number)
    of_number = np.concatenate([np.zeros(1, np.float32), brightness])
    for plane in labels:
        yield (plane > 0).astype(np.float32), of_number[plane]


def draw_brightness(number: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the brightness min(1, exp(0.5 N(0, 1))) of objects, the dimmest first."""
    brightness = np.exp(_BRIGHTNESS_SPREAD * generator.standard_normal(number))
    return np.sort(np.minimum(brightness, 1)).astype(np.float32)


def paint(labels: Labels, voxels: Voxels, corner: NDArray[np.int_], number: int) -> None:
    """Write ``number`` into those voxels of an object at ``corner`` that lie in the volume."""
    places = voxels + corner[:, None]
    inside = ((places >= 0) & (places < np.array(labels.shape)[:, None])).all(axis=0)
    labels[tuple(places[:, inside])] = number
