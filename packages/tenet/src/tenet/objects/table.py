"""Measurements of labelled objects on disk, as a table."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scopekit.images.plane_file import Planes
from scopekit.images.stack import VoxelSize
from tenet.objects.labelling import Box, Labels, plane_slabs
from tenet.objects.measurements import ObjectMeasurement, measure_objects

COLUMNS = (
    "label", "centroid_z_um", "centroid_y_um", "centroid_x_um", "volume_um3", "surface_um2",
    "sphericity", "z_xy_ratio", "mean_brightness", "mean_recorded", "touches_border",
)  # fmt: skip
# Measuring a surface holds some numbers per voxel of an object's box.
_BYTES_PER_VOXEL = 40


@dataclass(frozen=True)
class MeasuredObject:
    """One object, and the mean of what was recorded in it."""

    measured: ObjectMeasurement
    mean_recorded: float


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
    shape = labels.volume.shape
    for number, box in enumerate(labels.boxes, start=1):
        size = math.prod(side.stop - side.start for side in box)
        if size * _BYTES_PER_VOXEL > max_bytes:
            yield _large_object(number, box, labels, brightness, recorded, scale, voxel_um)
            continue
        mask = labels.volume[box] == number
        bright = brightness[box]
        (found,) = measure_objects(mask.astype(np.uint8), voxel_um, bright)
        measured = replace(
            found,
            label=number,
            centroid_um=_shifted(found.centroid_um, box, voxel_um),
            touches_border=_touches(box, shape),
        )
        yield MeasuredObject(measured, float(_recorded(recorded, box, scale)[mask].mean()))


def _large_object(
    number: int,
    box: Box,
    labels: Labels,
    brightness: Planes,
    recorded: Planes,
    scale: int,
    voxel_um: VoxelSize,
) -> MeasuredObject:
    count, light, counts, places = 0, 0.0, 0.0, np.zeros(3)
    planes, *lateral = box
    for part in plane_slabs((planes.stop - planes.start, *(s.stop - s.start for s in lateral))):
        here = (slice(planes.start + part.start, planes.start + part.stop), *lateral)
        mask = labels.volume[here] == number
        count += int(mask.sum())
        light += float(brightness[here][mask].sum(dtype=np.float64))
        counts += float(_recorded(recorded, here, scale)[mask].sum(dtype=np.float64))
        for axis, side in enumerate(here):
            others = tuple(n for n in range(3) if n != axis)
            places[axis] += float(mask.sum(axis=others) @ np.arange(side.start, side.stop))
    z, y, x = places / count * voxel_um
    measured = ObjectMeasurement(
        label=number,
        centroid_um=(float(z), float(y), float(x)),
        volume_um3=count * math.prod(voxel_um),
        surface_um2=math.nan,
        sphericity=math.nan,
        z_xy_ratio=math.nan,
        mean_intensity=light / count,
        touches_border=_touches(box, labels.volume.shape),
    )
    return MeasuredObject(measured, counts / count)


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


def _touches(box: Box, shape: tuple[int, ...]) -> bool:
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
