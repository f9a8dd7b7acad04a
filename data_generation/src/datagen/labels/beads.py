"""Beads of a known radius at sub-voxel places, with the partial volumes of border voxels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datagen.labels.files import Plane, Size
from datagen.labels.sets import LabelSet, Row
from scopekit.errors import UserError

Floats = NDArray[np.floating]
# Free space between two beads, and between a bead and the border: with two voxel diagonals no
# voxel that a bead covers has one that another covers as a neighbour.
_GAP_DIAGONALS = 2
_TRIES = 1000
# A voxel is cut into columns at most this share of a radius wide, and at least so many a side.
_COLUMN_RADII, _LEAST_COLUMNS = 0.02, 4


def bead_volume_um3(radius_um: float) -> float:
    """Return the volume of a ball, um^3."""
    return 4 / 3 * math.pi * radius_um**3


def _voxels_along(centre_um: float, radius_um: float, step_um: float) -> range:
    """Return the indices of the voxels that a bead reaches along an axis."""
    first, last = (math.floor((centre_um + side * radius_um) / step_um + 0.5) for side in (-1, 1))
    return range(first, last + 1)


def planes_of(centre_um: Floats, radius_um: float, voxel_um: Floats) -> range:
    """Return the planes that a bead reaches; arguments as for `covered_plane`."""
    return _voxels_along(centre_um[0], radius_um, voxel_um[0])


def covered_plane(
    centre_um: Floats, radius_um: float, voxel_um: Floats, z: int
) -> tuple[tuple[slice, slice], Plane]:
    """Return the rows and columns of plane z around a bead, and the share of them it covers.

    Every voxel is cut into thin columns along z, of which the ball covers a known length.

    Parameters
    ----------
    centre_um
        (z, y, x); voxel i reaches from (i - 1/2) to (i + 1/2) steps.
    radius_um
        Of the bead.
    voxel_um
        (z, y, x) step.
    z
        Index of the plane.

    Returns
    -------
    tuple
        (rows, columns), and the share of each voxel in [0, 1].
    """
    place, distances = [], []
    for centre, step in zip(centre_um[1:], voxel_um[1:], strict=True):
        voxels = _voxels_along(centre, radius_um, step)
        n = max(_LEAST_COLUMNS, math.ceil(step / (_COLUMN_RADII * radius_um)))
        columns = np.array(voxels)[:, None] + (np.arange(n) + 0.5) / n - 0.5
        place.append(slice(voxels.start, voxels.stop))
        distances.append(columns * step - centre)
    from_axis = distances[0][:, :, None, None] ** 2 + distances[1] ** 2
    half_chord = np.sqrt(np.maximum(radius_um**2 - from_axis, 0))
    low, high = ((z + side) * voxel_um[0] - centre_um[0] for side in (-0.5, 0.5))
    length = np.minimum(high, half_chord) - np.maximum(low, -half_chord)
    share = (np.maximum(length, 0) / voxel_um[0]).mean(axis=(1, 3))
    return (place[0], place[1]), share.astype(np.float32)


def least_share(centre_um: Floats, radius_um: float, voxel_um: Floats) -> float:
    """Return the share s for which the voxels covered by s and more have the bead's volume.

    It is near a half; arguments as for `covered_plane`.
    """
    planes = planes_of(centre_um, radius_um, voxel_um)
    shares = [covered_plane(centre_um, radius_um, voxel_um, z)[1].ravel() for z in planes]
    falling = -np.sort(-np.concatenate(shares))
    number = round(bead_volume_um3(radius_um) / float(np.prod(voxel_um)))
    return float(falling[max(number, 1) - 1])


def place_beads(
    count: int, radius_um: float, size_um: Floats, gap_um: float, generator: np.random.Generator
) -> Floats:
    """Draw places of beads that touch neither each other nor the border.

    Parameters
    ----------
    count
        How many.
    radius_um
        Of every bead.
    size_um
        (z, y, x) extent of the volume.
    gap_um
        Least distance between two surfaces, and between a surface and the border.
    generator
        The source of random numbers.

    Returns
    -------
    NDArray
        (count, 3) centres from the corner of the volume, um.

    Raises
    ------
    UserError
        If there is no room.
    """
    room = size_um - 2 * (radius_um + gap_um)
    centres = np.empty((count, 3))
    for i in range(count):
        for _ in range(_TRIES):
            centre = radius_um + gap_um + generator.random(3) * room
            away = np.linalg.norm(centres[:i] - centre, axis=1) >= 2 * radius_um + gap_um
            if (room > 0).all() and away.all():
                centres[i] = centre
                break
        else:
            size = " x ".join(f"{n:g}" for n in size_um)
            raise UserError(
                f"`count={count}`: {i} beads of radius {radius_um:g} um found room in {size} um; "
                "give a smaller `count` or a larger `size`"
            )
    return centres


@dataclass(frozen=True)
class BeadSet(LabelSet):
    """Beads of one radius, apart from each other and from the border.

    labelz is the share of a voxel that a bead covers, so that its sum is the volume of the beads.
    labelx is 1 in the voxels covered most, about by half at least, as many as make up the volume.
    So both have the right volume, and labelz, unlike that of phantoms, reaches beyond labelx.

    Attributes
    ----------
    radius_um
        Of every bead.
    count
        Beads in each volume.
    """

    has_table: ClassVar[bool] = True

    radius_um: float
    count: int

    @property
    def title(self) -> str:
        """What the set shows."""
        return f"Beads of {self.radius_um:g} µm radius"

    def settings(self) -> dict[str, Any]:
        """Return all that shapes the volumes."""
        return {
            "dataset": "beads",
            "radius_um": self.radius_um,
            "voxel_um": self.voxel_um,
            "count": self.count,
            "size": self.size,
            "seed": self.seed,
        }

    def n_objects(self, index: int) -> int:
        """Return how many beads volume ``index`` holds."""
        return self.count

    def centres_um(self, index: int) -> Floats:
        """Return the centres (count, 3) of the beads of volume ``index``, um.

        They count from the middle of the first voxel: divided by the voxel size they are indices.
        """
        voxel_um = np.array(self.voxel_um)
        size_um = np.array(self.size) * voxel_um
        gap_um = _GAP_DIAGONALS * math.hypot(*self.voxel_um)
        generator = self.generator(index)
        corner = place_beads(self.count, self.radius_um, size_um, gap_um, generator)
        return corner - voxel_um / 2

    def planes(self, index: int) -> Iterator[tuple[Plane, Plane]]:
        """Draw volume ``index``: yield (labelx, labelz), each (Y, X), for every z in turn."""
        voxel_um = np.array(self.voxel_um)
        centres = self.centres_um(index)
        least = [least_share(centre, self.radius_um, voxel_um) for centre in centres]
        for z in range(self.size[0]):
            labelx, labelz = np.zeros((2, *self.size[1:]), np.float32)
            for centre, threshold in zip(centres, least, strict=True):
                if z in planes_of(centre, self.radius_um, voxel_um):
                    place, share = covered_plane(centre, self.radius_um, voxel_um, z)
                    labelz[place] = np.maximum(labelz[place], share)
                    labelx[place] = np.maximum(labelx[place], share >= threshold)
            yield labelx, labelz

    def table(self, index: int) -> list[Row]:
        """Return centre and radius, um, of every bead of volume ``index``."""
        return [
            {"z_um": z, "y_um": y, "x_um": x, "radius_um": self.radius_um}
            for z, y, x in self.centres_um(index).round(6).tolist()
        ]

    def lines(self, row: Row) -> list[str]:
        """Return what the contact sheet says about a volume: the mean volume of its beads."""
        voxel_um3 = math.prod(self.voxel_um)
        return [
            f"{self.count} beads of {bead_volume_um3(self.radius_um):.4g} µm³",
            f"labelx {row['labelx_sum'] * voxel_um3 / self.count:.4g} µm³",
            f"labelz {row['labelz_sum'] * voxel_um3 / self.count:.4g} µm³",
        ]


def bead_set(
    radius_um: float, voxel_um: str, *, count: int, size: Size, number: int, seed: int
) -> BeadSet:
    """Return beads of one radius; ``voxel_um`` is the step as text, or three with commas (z, y, x).

    Raises
    ------
    UserError
        If radius or step are no lengths, or if there is no room for the beads of every volume.
    """
    try:
        steps = [float(step) for step in voxel_um.split(",")]
    except ValueError:
        steps = []
    if len(steps) not in (1, 3) or not all(0 < step < math.inf for step in steps):
        raise UserError(f"`voxel_um={voxel_um}`: give one length above 0 in um, or Z,Y,X")
    if not max(steps) <= radius_um < math.inf:
        raise UserError(f"`radius_um={radius_um:g}`: give at least a voxel, {max(steps):g} um")
    z, y, x = 3 * steps if len(steps) == 1 else steps
    made = BeadSet(
        number=number,
        size=size,
        voxel_um=(z, y, x),
        seed=seed,
        radius_um=radius_um,
        count=count,
    )
    for index in range(number):
        made.centres_um(index)
    return made
