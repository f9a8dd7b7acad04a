"""One recorded stack to a folder of results, never more than a part of it in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.images.files import VoxelSize
from scopekit.images.plane_file import PlaneFile, scaled_to_uint16
from scopekit.memory import memory_budget
from scopekit.preview import save_preview
from scopekit.progress import progress_bar, say, say_time
from scopekit.settings import write_yaml
from tenet.data.recordings import RecordingFile
from tenet.data.value_range import ValueRange, scale_of
from tenet.enhancement.stack import (
    enhance_into,
    expected_seconds,
    fine_shape,
    own_range,
    plan_enhancement,
)
from tenet.network.jnet import JNet
from tenet.objects.labelling import Labels, label_on_disk, plane_slabs
from tenet.objects.table import measured_objects, write_table

Array = NDArray[np.float32]

_IMAGES = ("structure", "brightness", "reconstruction")
# The structure last: where it is, all results are.
ENDINGS = (
    ".yaml",
    ".png",
    "_objects.csv",
    "_labels.tif",
    "_mask.tif",
    "_reconstruction.tif",
    "_brightness.tif",
    "_structure.tif",
)
# Read at once: a compressed file is unpacked anew each time.
_READ_BYTES = 400_000_000
# Share of the memory that measuring one object may take.
_OBJECT_SHARE = 0.8


@dataclass(frozen=True)
class StackOptions:
    """How to enhance a stack.

    Attributes
    ----------
    threshold
        Structure that counts as an object.
    value_range
        Recorded values that are 0 and 1 to the network; ``None`` for the stack's own.
    max_memory_gb
        See `scopekit.memory.memory_budget`.
    dtype
        ``float32`` or ``uint16``.
    """

    threshold: float
    value_range: ValueRange | None
    max_memory_gb: float | None
    dtype: str


@dataclass(frozen=True)
class StackTask:
    """What to enhance.

    Attributes
    ----------
    recording, frame
        The file, and which of its time points.
    voxel_um
        (z, y, x) step of the recording in um.
    options
        How.
    noted
        What else to note beside the results.
    """

    recording: RecordingFile
    frame: int
    voxel_um: VoxelSize
    options: StackOptions
    noted: dict[str, Any]

    @property
    def label(self) -> str:
        """The file's name, with the time point where there are several."""
        name = self.recording.path.name
        return name + (f" [{self.frame}]" if self.recording.n_frames > 1 else "")

    @property
    def where(self) -> str:
        """The file, with the time point where there are several, for messages."""
        series = self.recording.n_frames > 1
        return str(self.recording.path) + (f", time point {self.frame}" if series else "")


def enhance_stack(model: JNet, task: StackTask, folder: Path) -> None:
    """Write all results of a stack to a folder, as ``result`` with `ENDINGS`.

    Raises
    ------
    UserError
        If the stack is constant or holds NaN, or if memory or disk are too small.
    """
    options = task.options
    volume, least, largest = copy_recorded(task.recording, task.frame, folder / "recorded.raw")
    where, full_scale = task.where, task.recording.full_scale
    value_range = scale_of(where, least, largest, options.value_range, full_scale)
    plan = plan_enhancement(model, volume.shape, memory_budget(model.device, options.max_memory_gb))
    own = options.value_range is None
    say_time(task.label, expected_seconds(model, volume.shape, plan, own=own))
    if own:
        found = own_range(model, volume)
        if found is not None:
            value_range = found
            say(f"{task.label}: {found[0]:.4g} to {found[1]:.4g} count as 0 to 1")
    scale = model.image.scale
    fine_um = (task.voxel_um[0] / scale, *task.voxel_um[1:])
    fine = fine_shape(model, volume.shape)
    structure, brightness, reconstruction = images = [
        PlaneFile.create(folder / f"result_{name}.tif", shape, np.float32, voxel_um)
        for name, shape, voxel_um in zip(
            _IMAGES, (fine, fine, volume.shape), (fine_um, fine_um, task.voxel_um), strict=True
        )
    ]
    with progress_bar(task.label, plan.steps) as advance:
        enhance_into(
            model, volume, value_range, structure, brightness, reconstruction, plan, advance
        )
    labels = _label(task, structure, folder, fine_um)
    room = memory_budget(torch.device("cpu"), options.max_memory_gb).available * _OBJECT_SHARE
    with progress_bar(f"{task.label} objects", len(labels.boxes)) as advance:
        rows = measured_objects(labels, brightness, volume, scale, fine_um, room)
        unmeasured = write_table(folder / "result_objects.csv", rows, advance)
    if unmeasured:
        say(
            f"{task.label}: {unmeasured} objects are too large for the memory: no surface, "
            "sphericity and axial ratio; give more memory, or a higher threshold"
        )
    _draw(folder / "result.png", volume, images, fine_um)
    settings = {
        **task.noted,
        "recorded_range": list(value_range),
        "voxel_um": dict(zip("zyx", map(float, fine_um), strict=True)),
        "shape": list(fine),
        "chunks": len(plan.chunks),
        "objects": len(labels.boxes),
    }
    if options.dtype == "uint16":
        settings["uint16_factors"] = _to_uint16(images, task, fine_um)
    write_yaml(folder / "result.yaml", settings, overwrite=True)


def copy_recorded(
    recording: RecordingFile, frame: int, path: Path
) -> tuple[PlaneFile, float, float]:
    """Copy a time point to a plain file; return it, and its least and largest value.

    Those are NaN or infinite if any value is.
    """
    volume = PlaneFile.create_raw(path, recording.shape, recording.dtype)
    depth, height, width = recording.shape
    step = max(_READ_BYTES // (recording.dtype.itemsize * height * width), 1)
    lows, highs = [], []
    for start in range(0, depth, step):
        planes = recording.planes(frame, start, min(start + step, depth))
        lows.append(planes.min())
        highs.append(planes.max())
        volume[start : start + step,] = planes
    return volume, float(np.min(lows)), float(np.max(highs))


def _label(task: StackTask, structure: PlaneFile, folder: Path, fine_um: VoxelSize) -> Labels:
    mask = PlaneFile.create(folder / "result_mask.tif", structure.shape, np.uint8, fine_um)
    path = folder / "result_labels.tif"
    with progress_bar(f"{task.label} labels", 2 * len(plane_slabs(structure.shape))) as advance:
        return label_on_disk(structure, task.options.threshold, mask, path, fine_um, advance)


def _draw(path: Path, volume: PlaneFile, images: list[PlaneFile], fine_um: VoxelSize) -> None:
    structure, brightness, reconstruction = images

    def thick(planes: PlaneFile) -> Iterator[Array]:
        for plane in planes:
            for _ in range(len(structure) // len(volume)):
                yield plane

    panels = {
        "recorded": thick(volume),
        "reconstruction": thick(reconstruction),
        "structure": iter(structure),
        "structure x brightness": (x * z for x, z in zip(structure, brightness, strict=True)),
    }
    save_preview(path, panels, fine_um, overwrite=True)


def _to_uint16(images: list[PlaneFile], task: StackTask, fine_um: VoxelSize) -> dict[str, float]:
    factors = {}
    for name, image in zip(_IMAGES, images, strict=True):
        voxel_um = task.voxel_um if name == "reconstruction" else fine_um
        scaled = image.path.with_suffix(".scaled")
        factors[name] = scaled_to_uint16(image, scaled, voxel_um)
        scaled.replace(image.path)
        say(f"{task.label} {name}: stored value = {factors[name]:.6g} x value")
    return factors
