"""Phantoms: volumes crowded with deformed thick lines and a few deformed solids."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from datagen.labels.files import Plane
from datagen.labels.painting import Placed, painted_planes
from datagen.labels.phantom_config import SimulationConfig
from datagen.labels.sets import PUBLISHED_VOXEL_UM, LabelSet
from datagen.labels.shapes import SOLIDS, Voxels, deformed_solid, rotated_bar
from scopekit.images.files import VoxelSize

_LINE_NODES, _SOLID_NODES = 5, 5
_LINE_THRESHOLD = 0.1


@dataclass(frozen=True)
class ObjectMix:
    """Which objects a phantom is drawn from; lengths in voxels, ranges with both ends.

    Attributes
    ----------
    line_share
        Probability that an object is a line; the others are balls, octahedra and cubes alike.
    line_length
        Range of the lengths.
    bar_width, section_width
        Sides of the bar and of the square section in which it is deformed.
    solid_radius
        Range of the radii.
    displacement
        Standard deviation of the displacements at the nodes of a deformation.
    """

    line_share: float
    line_length: tuple[int, int]
    bar_width: int
    section_width: int
    solid_radius: tuple[int, int]
    displacement: float = 3.0


MIXES = {
    "mixture": ObjectMix(0.95, (120, 239), 7, 11, (10, 29)),
    "thin-lines": ObjectMix(0.9, (20, 119), 3, 11, (10, 29)),
    "solids": ObjectMix(0.0, (0, 0), 0, 0, (20, 20)),
    "deformed-solids": ObjectMix(0.0, (0, 0), 0, 0, (5, 14)),
}


def draw_object(mix: ObjectMix, generator: np.random.Generator) -> Voxels:
    """Draw one object: its voxels (3, n) as z, y, x from its corner."""
    if generator.random() < mix.line_share:
        length = int(generator.integers(*mix.line_length, endpoint=True))
        grid = mix.displacement * generator.standard_normal((_LINE_NODES, 3))
        # Uniform over all orientations.
        rotation = Rotation.from_quat(generator.standard_normal(4)).as_matrix()
        return rotated_bar(
            length,
            mix.bar_width,
            mix.section_width,
            rotation,
            threshold=_LINE_THRESHOLD,
            grid=grid,
        )
    shape = str(generator.choice(list(SOLIDS)))
    radius = int(generator.integers(*mix.solid_radius, endpoint=True))
    grid = mix.displacement * generator.standard_normal((*3 * (_SOLID_NODES,), 3))
    return deformed_solid(shape, radius, grid)


def object_counts(number: int, most: int, fewest: int) -> list[int]:
    """Return the objects in each of ``number`` volumes: from most, in equal steps, to fewest.

    The step is (most - fewest) / number, so that the last volume is a step above ``fewest``.
    """
    return [most - i * (most - fewest) // number for i in range(number)]


@dataclass(frozen=True)
class PhantomSet(LabelSet):
    """Phantoms of crowded objects at uniform corners, clipped at the borders.

    Attributes
    ----------
    counts
        Objects in each volume.
    objects
        A key of `MIXES`.
    """

    shown_voxels: ClassVar[int | None] = 40

    counts: tuple[int, ...]
    objects: str

    @property
    def title(self) -> str:
        """What the set shows."""
        return f"Phantoms ({self.objects})"

    def settings(self) -> dict[str, Any]:
        """Return all that shapes the volumes."""
        return {
            "dataset": "phantoms",
            "objects": self.objects,
            **dataclasses.asdict(MIXES[self.objects]),
            "counts": self.counts,
            "size": self.size,
            "seed": self.seed,
        }

    def n_objects(self, index: int) -> int:
        """Return how many objects volume ``index`` is drawn from."""
        return self.counts[index]

    def planes(self, index: int) -> Iterator[tuple[Plane, Plane]]:
        """Draw volume ``index``: yield (labelx, labelz), each (Y, X), for every z in turn."""
        return painted_planes(self.size, self.counts[index], self._draw, self.generator(index))

    def _draw(self, generator: np.random.Generator) -> Placed:
        return draw_object(MIXES[self.objects], generator), generator.integers(0, self.size)


def phantom_set(
    config: SimulationConfig,
    objects: str,
    seed: int,
    voxel_um: VoxelSize = PUBLISHED_VOXEL_UM,
) -> PhantomSet:
    """Return the phantoms that a configuration describes, those to train with first.

    Parameters
    ----------
    config
        Section ``simulation_data_generation``.
    objects
        A key of `MIXES`.
    seed
        Of the whole set.
    voxel_um
        (z, y, x) step, for the scale bar.
    """
    counts = [
        *object_counts(config.train_num, config.train_object_num_max, config.train_object_num_min),
        *object_counts(config.valid_num, config.valid_object_num_max, config.valid_object_num_min),
    ]
    return PhantomSet(
        number=len(counts),
        size=config.image_size,
        voxel_um=voxel_um,
        seed=seed,
        counts=tuple(counts),
        objects=objects,
    )
