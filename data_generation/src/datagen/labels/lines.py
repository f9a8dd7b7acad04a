"""Straight thin lines at a known angle to the optical axis, to study resolution along it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from datagen.labels.files import Plane, Size
from datagen.labels.painting import Placed, painted_planes
from datagen.labels.sets import PUBLISHED_VOXEL_UM, LabelSet
from datagen.labels.shapes import Voxels, rotated_box
from scopekit.errors import UserError

LENGTHS = (20, 39)
WIDTH = 3
# A line of any direction fits into a cube of this side.
_LEAST_SIZE = math.ceil(math.hypot(LENGTHS[1], math.sqrt(2) * WIDTH))
_MOST_ERROR_DEG = 1.0


def draw_line(angle_deg: float | None, generator: np.random.Generator) -> Voxels:
    """Draw a line: its voxels (3, n) as z, y, x from the corner of the box that holds it.

    Its length, its direction around z and its turn around itself are random. One in a hundred
    is drawn anew, because its voxels lie along a direction that is off by more than a degree.

    Parameters
    ----------
    angle_deg
        Between the line and z, 0 to 90; ``None`` for directions that are uniform on the sphere.
    generator
        The source of random numbers.
    """
    while True:
        length = int(generator.integers(*LENGTHS, endpoint=True))
        tilt = np.arccos(generator.random()) if angle_deg is None else np.deg2rad(angle_deg)
        roll, azimuth = generator.uniform(0, 2 * np.pi, 2)
        # SciPy's x is the first axis here, z.
        rotation = Rotation.from_euler("xzx", [roll, tilt, azimuth]).as_matrix()
        voxels = rotated_box(np.array((length, WIDTH, WIDTH)), rotation)
        cosine = abs(principal_axis(voxels) @ rotation[:, 0])
        if cosine >= np.cos(np.deg2rad(_MOST_ERROR_DEG)):
            return voxels


def principal_axis(voxels: Voxels) -> np.ndarray:
    """Return the unit vector (z, y, x) along which voxels (3, n) spread most."""
    axes: np.ndarray = np.linalg.eigh(np.cov(voxels))[1]
    return axes[:, -1]


@dataclass(frozen=True)
class LineSet(LabelSet):
    """Straight lines, 20 to 39 voxels long and 3 wide, each wholly inside the volume.

    Attributes
    ----------
    angle_deg
        Between the lines and z; ``None`` for directions that are uniform on the sphere.
    count
        Lines in each volume.
    """

    angle_deg: float | None
    count: int

    def __post_init__(self) -> None:
        if min(self.size) < _LEAST_SIZE:
            raise UserError(
                f"`size={' '.join(map(str, self.size))}`: lines of up to {LENGTHS[1]} voxels "
                f"need at least {_LEAST_SIZE} along every axis"
            )

    @property
    def title(self) -> str:
        """What the set shows."""
        return f"Lines at {'random angles' if self.angle_deg is None else f'{self.angle_deg:g}°'}"

    def settings(self) -> dict[str, Any]:
        """Return all that shapes the volumes."""
        return {
            "dataset": "lines",
            "angle_deg": "random" if self.angle_deg is None else self.angle_deg,
            "count": self.count,
            "length_voxels": LENGTHS,
            "width_voxels": WIDTH,
            "size": self.size,
            "seed": self.seed,
        }

    def n_objects(self, index: int) -> int:
        """Return how many lines volume ``index`` is drawn from."""
        return self.count

    def planes(self, index: int) -> Iterator[tuple[Plane, Plane]]:
        """Draw volume ``index``: yield (labelx, labelz), each (Y, X), for every z in turn."""
        return painted_planes(self.size, self.count, self._draw, self.generator(index))

    def _draw(self, generator: np.random.Generator) -> Placed:
        voxels = draw_line(self.angle_deg, generator)
        return voxels, generator.integers(0, np.array(self.size) - voxels.max(axis=1))


def line_set(angle: str, *, count: int, size: Size, number: int, seed: int) -> LineSet:
    """Return the lines at ``angle``: degrees from 0 to 90 as text, or ``random``."""
    angle_deg = None
    if angle != "random":
        try:
            angle_deg = float(angle)
        except ValueError:
            angle_deg = math.nan
        if not 0 <= angle_deg <= 90:
            raise UserError(f"`angle={angle}`: give degrees from 0 to 90, or random")
    return LineSet(
        number=number,
        size=size,
        voxel_um=PUBLISHED_VOXEL_UM,
        seed=seed,
        angle_deg=angle_deg,
        count=count,
    )
