"""One recorded stack to a folder of results, never more than a part of it in memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.images.files import VoxelSize, is_zarr, stack_stem
from scopekit.images.plane_file import PlaneFile, Planes, scaled_to_uint16
from scopekit.memory import memory_budget
from scopekit.preview import save_preview
from scopekit.progress import progress_bar, say, say_time
from scopekit.settings import write_yaml
from tenet.data.recordings import RecordingFile
from tenet.data.value_range import ValueRange, scale_of
from tenet.enhancement.plan import Plan, plan_enhancement
from tenet.enhancement.stack import (
    StackWork,
    expected_seconds,
    fine_shape,
    own_range,
)
from tenet.network.jnet import JNet
from tenet.objects.labelling import Labels, label_number_type, label_on_disk, plane_slabs
from tenet.objects.table import measured_objects, object_bytes, write_table

Array = NDArray[np.float32]

IMAGES = ("structure", "brightness", "reconstruction")
"""Names of what a stack becomes."""
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
    format
        ``tif`` or ``zarr``; ``None`` is that of the recording.
    """

    threshold: float
    value_range: ValueRange | None
    max_memory_gb: float | None
    dtype: str
    format: str | None = None

    def lands_as_zarr(self, path: Path) -> bool:
        """Whether the results of a recording are one OME-Zarr store."""
        return is_zarr(path) if self.format is None else self.format == "zarr"


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


def result_name(recording: RecordingFile, frame: int | None = None) -> str:
    """Return the stem of the results of a recording, or of one of its time points."""
    name = stack_stem(recording.path)
    if frame is not None and recording.n_frames > 1:
        name += f"_t{frame:0{max(len(str(recording.n_frames - 1)), 3)}d}"
    return f"{name}_tenet"


def enhance_stack(model: JNet, task: StackTask, folder: Path) -> None:
    """Write all results of a stack to a folder, as ``result`` with `ENDINGS`.

    Raises
    ------
    UserError
        If the stack is constant or holds NaN, or if memory or disk are too small.
    """
    options = task.options
    volume, value_range = read_scaled(task, folder / "recorded.raw")
    plan = plan_enhancement(model, volume.shape, memory_budget(model.device, options.max_memory_gb))
    tell_time(model, task, plan)
    value_range = fitting_range(model, task, volume, value_range)
    scale, fine_um = model.image.scale, fine_voxel_um(model, task)
    fine = fine_shape(model, volume.shape)
    structure, brightness, reconstruction = images = [
        PlaneFile.create(folder / f"result_{name}.tif", shape, np.float32, voxel_um)
        for name, shape, voxel_um in zip(
            IMAGES, (fine, fine, volume.shape), (fine_um, fine_um, task.voxel_um), strict=True
        )
    ]
    work = StackWork(model, volume, value_range, structure, brightness, reconstruction, plan)
    with progress_bar(task.label, plan.steps) as advance:
        work.do_all(advance)
    labels = _label(task, structure, folder, fine_um)
    write_objects(folder / "result_objects.csv", task, labels, brightness, volume, scale, fine_um)
    draw(folder / "result.png", volume, images, fine_um)
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


def fine_voxel_um(model: JNet, task: StackTask) -> VoxelSize:
    """Return the (z, y, x) step of structure and brightness in um."""
    z_um, y_um, x_um = task.voxel_um
    return z_um / model.image.scale, y_um, x_um


def read_scaled(task: StackTask, path: Path) -> tuple[PlaneFile, ValueRange]:
    """Copy a stack to a plain file; return it, and the values that are 0 and 1 unless found.

    Raises
    ------
    UserError
        If it is constant, holds NaN, or lies outside what is to be 0 and 1.
    """
    recording = task.recording
    volume = PlaneFile.create_raw(path, recording.shape, recording.dtype)
    least, largest = recording.copy(task.frame, volume)
    given, full_scale = task.options.value_range, recording.full_scale
    return volume, scale_of(task.where, least, largest, given, full_scale)


def tell_time(model: JNet, task: StackTask, plan: Plan) -> None:
    """Say how long a stack will take, where that is long."""
    own = task.options.value_range is None
    say_time(task.label, expected_seconds(model, task.recording.shape, plan, own=own))


def fitting_range(
    model: JNet, task: StackTask, volume: PlaneFile, value_range: ValueRange
) -> ValueRange:
    """Return the values that fit the network best, where it finds them, else those given."""
    found = own_range(model, volume) if task.options.value_range is None else None
    if found is None:
        return value_range
    say(f"{task.label}: {found[0]:.4g} to {found[1]:.4g} count as 0 to 1")
    return found


def write_objects(
    path: Path,
    task: StackTask,
    labels: Labels,
    brightness: Planes,
    volume: Planes,
    scale: int,
    fine_um: VoxelSize,
) -> None:
    """Write the table of the objects; say how many are too large for the memory."""
    room = object_bytes(task.options.max_memory_gb)
    with progress_bar(f"{task.label} objects", len(labels.boxes)) as advance:
        rows = measured_objects(labels, brightness, volume, scale, fine_um, room)
        unmeasured = write_table(path, rows, advance)
    if unmeasured:
        say(
            f"{task.label}: {unmeasured} objects are too large for the memory: no surface, "
            "sphericity and axial ratio; give more memory, or a higher threshold"
        )


def _label(task: StackTask, structure: PlaneFile, folder: Path, fine_um: VoxelSize) -> Labels:
    shape = structure.shape
    mask = PlaneFile.create(folder / "result_mask.tif", shape, np.uint8, fine_um)
    preliminary = PlaneFile.create_raw(folder / "labels.raw", shape, np.int32)

    def final(n_objects: int) -> PlaneFile:
        kind = label_number_type(n_objects)
        return PlaneFile.create(folder / "result_labels.tif", shape, kind, fine_um)

    threshold = task.options.threshold
    with progress_bar(f"{task.label} labels", 2 * len(plane_slabs(shape))) as advance:
        labels = label_on_disk(structure, threshold, preliminary, final, advance, mask=mask)
    preliminary.path.unlink()
    return labels


def draw(
    path: Path,
    recorded: Iterable[NDArray[Any]],
    images: Sequence[Planes],
    fine_um: VoxelSize,
) -> None:
    """Draw a stack and what was made of it: structure, brightness and reconstruction."""
    structure, brightness, reconstruction = images

    def thick(planes: Iterable[NDArray[Any]]) -> Iterator[Array]:
        for plane in planes:
            for _ in range(len(structure) // len(reconstruction)):
                yield plane

    panels = {
        "recorded": thick(recorded),
        "reconstruction": thick(reconstruction),
        "structure": iter(structure),
        "structure x brightness": (x * z for x, z in zip(structure, brightness, strict=True)),
    }
    save_preview(path, panels, fine_um, overwrite=True)


def _to_uint16(images: list[PlaneFile], task: StackTask, fine_um: VoxelSize) -> dict[str, float]:
    factors = {}
    for name, image in zip(IMAGES, images, strict=True):
        voxel_um = task.voxel_um if name == "reconstruction" else fine_um
        scaled = image.path.with_suffix(".scaled")
        factors[name] = scaled_to_uint16(image, scaled, voxel_um)
        scaled.replace(image.path)
        say(f"{task.label} {name}: stored value = {factors[name]:.6g} x value")
    return factors
