"""Measurements of labelled objects on disk, as a table."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.images.plane_file import Planes
from scopekit.images.voxel import VoxelSize
from scopekit.memory import memory_budget
from tenet.objects.labelling import Box, Labels, plane_slabs
from tenet.objects.measurements import ObjectMeasurement, measure_objects

COLUMNS = (
    "label", "centroid_z_um", "centroid_y_um", "centroid_x_um", "volume_um3", "surface_um2",
    "sphericity", "z_xy_ratio", "mean_brightness", "mean_recorded", "touches_border",
)  # fmt: skip
# Measuring a surface holds some numbers per voxel of an object's box.
_BYTES_PER_VOXEL = 40
# Share of the memory that measuring one object may take.
_SHARE = 0.8


@dataclass(frozen=True)
class MeasuredObject:
    """One object, and the mean of what was recorded in it."""

    measured: ObjectMeasurement
    mean_recorded: float


def object_bytes(max_memory_gb: float | None) -> float:
    """Return the memory that measuring one object may take, within `memory_budget`."""
    return memory_budget(torch.device("cpu"), max_memory_gb).available * _SHARE


def measured_objects(
    labels: Labels,
    brightness: Planes,
    recorded: Planes,
    scale: int,
    voxel_um: VoxelSize,
    max_bytes: float,
) -> Iterator[MeasuredObject]:
    """Measure every object within its box.

    Parameters
    ----------
    labels, brightness
        (Z, Y, X).
    recorded
        (Z / scale, Y, X), the recorded stack.
    scale
        Planes of the labels for one recorded.
    voxel_um
        (z, y, x) step of the labels in um.
    max_bytes
        Objects whose box takes more get no surface, sphericity and axial ratio: NaN.
    """

    def light(box: Box) -> NDArray[Any]:
        return brightness[box]

    def counts(box: Box) -> NDArray[Any]:
        return _recorded(recorded, box, scale)

    for number, box in enumerate(labels.boxes, start=1):
        found, (_, mean_recorded) = measured_object(
            labels.volume, number, box, (light, counts), voxel_um, max_bytes
        )
        yield MeasuredObject(found, mean_recorded)


def measured_object(
    labels: Planes,
    number: int,
    box: Box,
    images: Sequence[Callable[[Box], NDArray[Any]]],
    voxel_um: VoxelSize,
    max_bytes: float,
) -> tuple[ObjectMeasurement, list[float]]:
    """Measure an object within its box; return its measures and its mean in each image.

    Parameters
    ----------
    labels
        (Z, Y, X).
    number, box
        The object.
    images
        Each read by box; the first is its intensity.
    voxel_um
        (z, y, x) step in um.
    max_bytes
        If its box takes more, there is no surface, sphericity and axial ratio: NaN.
    """
    size = math.prod(side.stop - side.start for side in box)
    if size * _BYTES_PER_VOXEL > max_bytes:
        return _large_object(labels, number, box, images, voxel_um)
    mask = labels[box] == number
    means = [float(read(box)[mask].mean()) for read in images]
    (found,) = measure_objects(mask.astype(np.uint8), voxel_um)
    measured = replace(
        found,
        label=number,
        centroid_um=_shifted(found.centroid_um, box, voxel_um),
        mean_intensity=means[0] if means else None,
        touches_border=touches(box, labels.shape),
    )
    return measured, means


def _large_object(
    labels: Planes,
    number: int,
    box: Box,
    images: Sequence[Callable[[Box], NDArray[Any]]],
    voxel_um: VoxelSize,
) -> tuple[ObjectMeasurement, list[float]]:
    count, sums, places = 0, [0.0] * len(images), np.zeros(3)
    planes, *lateral = box
    for part in plane_slabs((planes.stop - planes.start, *(s.stop - s.start for s in lateral))):
        y, x = lateral
        here = (slice(planes.start + part.start, planes.start + part.stop), y, x)
        mask = labels[here] == number
        count += int(mask.sum())
        for index, read in enumerate(images):
            sums[index] += float(read(here)[mask].sum(dtype=np.float64))
        for axis, side in enumerate(here):
            others = tuple(n for n in range(3) if n != axis)
            places[axis] += float(mask.sum(axis=others) @ np.arange(side.start, side.stop))
    z_um, y_um, x_um = places / count * voxel_um
    means = [total / count for total in sums]
    measured = ObjectMeasurement(
        label=number,
        centroid_um=(float(z_um), float(y_um), float(x_um)),
        volume_um3=count * math.prod(voxel_um),
        surface_um2=math.nan,
        sphericity=math.nan,
        z_xy_ratio=math.nan,
        mean_intensity=means[0] if means else None,
        touches_border=touches(box, labels.shape),
    )
    return measured, means


def _recorded(recorded: Planes, box: tuple[slice, ...], scale: int) -> np.ndarray:
    """Return what was recorded within a box, planes repeated."""
    planes, *lateral = box
    first, last = planes.start // scale, (planes.stop - 1) // scale + 1
    part = recorded[(slice(first, last), *lateral)]
    which = np.arange(planes.start, planes.stop) // scale - first
    repeated: np.ndarray = part[which]
    return repeated


def _shifted(
    centroid_um: tuple[float, float, float], box: Box, voxel_um: VoxelSize
) -> tuple[float, float, float]:
    z, y, x = (c + s.start * um for c, s, um in zip(centroid_um, box, voxel_um, strict=True))
    return z, y, x


def touches(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether a box reaches the border of a volume."""
    return any(side.start == 0 or side.stop == n for side, n in zip(box, shape, strict=True))


def write_table(path: Path, objects: Iterator[MeasuredObject], advance: Callable[[], None]) -> int:
    """Write objects as CSV, lengths in um; return how many have no surface.

    What could not be measured is left empty.
    """
    unmeasured = 0
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for one in objects:
            found = one.measured
            numbers = (
                *found.centroid_um, found.volume_um3, found.surface_um2, found.sphericity,
                found.z_xy_ratio, found.mean_intensity, one.mean_recorded,
            )  # fmt: skip
            texts = ("" if n is None or math.isnan(n) else f"{n:.6g}" for n in numbers)
            writer.writerow([found.label, *texts, found.touches_border])
            unmeasured += math.isnan(found.surface_um2)
            advance()
    return unmeasured
