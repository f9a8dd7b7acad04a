"""Sets of synthetic volumes with known structure (labelx) and brightness (labelz)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datagen.labels.files import Plane, Size, read_planes, write_volume_files
from scopekit.images.files import VoxelSize

# Of the published TENET configurations; what is drawn in voxels only shows it.
PUBLISHED_VOXEL_UM: VoxelSize = (0.05, 0.05, 0.05)
Row = dict[str, Any]
Projections = tuple[Plane, Plane, Plane]


@dataclass(frozen=True)
class LabelSet(ABC):
    """What the volumes of a set are drawn from; volume i depends on ``seed`` and i alone.

    Attributes
    ----------
    has_table
        Whether there is a table of the objects of every volume.
    shown_voxels
        Thickness of the middle slab that the contact sheet shows; ``None`` for all.
    number
        Volumes in the set, counted from 0.
    size
        (Z, Y, X) of each.
    voxel_um
        (z, y, x) step in um.
    seed
        Of the whole set.
    """

    has_table: ClassVar[bool] = False
    shown_voxels: ClassVar[int | None] = None

    number: int
    size: Size
    voxel_um: VoxelSize
    seed: int

    @property
    @abstractmethod
    def title(self) -> str:
        """What the set shows, in a few words."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return all that shapes the volumes, in plain values."""

    @abstractmethod
    def n_objects(self, index: int) -> int:
        """Return how many objects volume ``index`` is drawn from."""

    @abstractmethod
    def planes(self, index: int) -> Iterator[tuple[Plane, Plane]]:
        """Draw volume ``index``: yield (labelx, labelz), each (Y, X), for every z in turn.

        labelx is 1 in objects, else 0; labelz is the brightness in [0, 1].
        """

    def table(self, index: int) -> list[Row]:
        """Return a row for every object of volume ``index``, where `has_table` says so."""
        return []

    def lines(self, row: Row) -> list[str]:
        """Return what the contact sheet says about a volume, from its row of statistics."""
        shown = [] if self.shown_voxels is None else [f"(middle {self.shown_voxels} voxels)"]
        return [
            f"{row['objects']} objects",
            f"{100 * row['filled_share']:.2f} % filled",
            f"brightness {row['mean_brightness']:.3f}",
            *shown,
        ]

    def generator(self, index: int) -> np.random.Generator:
        """Return the random numbers of volume ``index``."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, index]))


def slab_projections(planes: Iterable[Plane], size: Size, thickness: int | None) -> Projections:
    """Return the maximum projections (Y, X), (Z, X) and (Y, Z) through middle slabs.

    Parameters
    ----------
    planes
        (Y, X), for every z in turn.
    size
        (Z, Y, X).
    thickness
        Of each slab in voxels; ``None`` for the whole volume.
    """
    thin = [n if thickness is None else min(thickness, n) for n in size]
    z, y, x = (slice((n - t) // 2, (n + t) // 2) for n, t in zip(size, thin, strict=True))
    xy = np.zeros(size[1:], np.float32)
    zx, zy = np.zeros((size[0], size[2]), np.float32), np.zeros(size[:2], np.float32)
    for k, plane in enumerate(planes):
        if z.start <= k < z.stop:
            np.maximum(xy, plane, out=xy)
        zx[k] = plane[y].max(axis=0)
        zy[k] = plane[:, x].max(axis=1)
    return xy, zx, zy.T


def complete_volume(
    label_set: LabelSet, files: Sequence[Sequence[Path]], missing: frozenset[int], index: int
) -> tuple[Row, Projections]:
    """Write volume ``index`` if it is missing; read it and return what there is to tell and show.

    Parameters
    ----------
    label_set
        What to draw.
    files
        Of every volume, see `volume_files`.
    missing
        The volumes to write.
    index
        The volume.

    Returns
    -------
    tuple
        Statistics, and the projections of labelz.
    """
    labelz, labelx = files[index][0], files[index][-1]
    if index in missing:
        table = label_set.table(index) if label_set.has_table else []
        write_volume_files(files[index], label_set.size, label_set.planes(index), table)
    sums = {"x": 0.0, "z": 0.0}

    def summed() -> Iterator[Plane]:
        for x_plane, z_plane in zip(read_planes(labelx), read_planes(labelz), strict=True):
            sums["x"] += float(x_plane.sum(dtype=np.float64))
            sums["z"] += float(z_plane.sum(dtype=np.float64))
            yield z_plane

    projections = slab_projections(summed(), label_set.size, label_set.shown_voxels)
    row: Row = {
        "volume": f"{index:04d}",
        "objects": label_set.n_objects(index),
        "labelx_sum": round(sums["x"]),
        "labelz_sum": round(sums["z"], 3),
        "filled_share": sums["x"] / math.prod(label_set.size),
        "mean_brightness": sums["z"] / max(sums["x"], 1),
    }
    return row, projections
