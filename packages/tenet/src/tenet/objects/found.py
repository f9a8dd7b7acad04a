"""Beads and objects of volumes that need not fit the memory, measured one by one in their boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scopekit.images.plane_file import Planes, WritablePlanes
from scopekit.images.voxel import VoxelSize
from tenet.objects.labelling import Labels, label_on_disk, plane_slabs
from tenet.objects.measurements import ObjectMeasurement
from tenet.objects.selection import SMALLEST_OBJECT
from tenet.objects.table import measured_object, touches

# Objects smaller than this share of the largest in their image are noise, not beads.
_SMALLEST_BEAD = 0.1


@dataclass(frozen=True)
class Search:
    """Where to look for objects.

    Attributes
    ----------
    structure
        (Z, Y, X).
    threshold
        What counts as structure.
    brightness
        Of that shape, if objects have one.
    voxel_um
        (z, y, x) step.
    numbers
        Of that shape, integers of 32 bits: gets the numbers of the connected parts.
    max_bytes
        Memory for one object; those that need more have no surface, see `measured_object`.
    """

    structure: Planes
    threshold: float
    brightness: Planes | None
    voxel_um: VoxelSize
    numbers: WritablePlanes
    max_bytes: float


def find_beads(search: Search) -> tuple[list[ObjectMeasurement], int]:
    """Measure the beads of a volume; return how many parts were none, if there is no bead, too.

    Specks of less than a tenth of the largest object are left out. So are, of several objects,
    those that touch the border, which may cut them; one alone is the bead that the volume was cut
    out for, and counts wherever it lies, unless it reaches all six sides: then it is no bead.
    """
    labels, sizes = _labelled(search)
    keep = sizes >= _SMALLEST_BEAD * sizes.max(initial=0)
    shape = search.structure.shape
    if keep.sum() > 1:
        keep &= ~np.array([touches(box, shape) for box in labels.boxes])
    else:
        whole = tuple(slice(0, n) for n in shape)
        keep &= np.array([box != whole for box in labels.boxes], bool)
    beads = _measured(search, labels, keep)
    return beads, 0 if beads else len(sizes)


def find_objects(search: Search) -> list[ObjectMeasurement]:
    """Measure all objects of ten voxels or more; voxels that share a corner are of one."""
    labels, sizes = _labelled(search)
    return _measured(search, labels, sizes >= SMALLEST_OBJECT)


def _labelled(search: Search) -> tuple[Labels, NDArray[np.int64]]:
    """Return all connected parts, and how many voxels each has."""
    numbers = search.numbers
    labels = label_on_disk(
        search.structure, search.threshold, numbers, lambda _: numbers, lambda: None
    )
    sizes = np.zeros(len(labels.boxes) + 1, np.int64)
    for part in plane_slabs(numbers.shape):
        sizes += np.bincount(numbers[part,].ravel(), minlength=len(sizes))
    return labels, sizes[1:]


def _measured(search: Search, labels: Labels, keep: NDArray[np.bool_]) -> list[ObjectMeasurement]:
    """Return the measures of the parts to be kept, numbered anew."""
    brightness = search.brightness
    images = () if brightness is None else (brightness.__getitem__,)
    kept: Sequence[int] = np.flatnonzero(keep).tolist()
    found = []
    for label, index in enumerate(kept, start=1):
        box = labels.boxes[index]
        measured, _ = measured_object(
            labels.volume, index + 1, box, images, search.voxel_um, search.max_bytes
        )
        found.append(replace(measured, label=label))
    return found
