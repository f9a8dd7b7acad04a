"""Enhanced stacks in one OME-Zarr store: its images, and a time point of it, part by part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scopekit.errors import Page, UserError
from scopekit.images.plane_file import PlaneFile
from scopekit.images.zarr_writer import NewImage, ZarrVolume, create_collection
from scopekit.memory import GB, MemoryBudget, memory_budget
from scopekit.outputs import make_folder
from scopekit.progress import progress_bar
from scopekit.series.parts import FrameParts
from scopekit.series.store import FrameSeries
from tenet.data.value_range import ValueRange
from tenet.enhancement.plan import Blocks, Plan, blocks_within, plan_enhancement
from tenet.enhancement.results import (
    IMAGES,
    StackTask,
    fine_voxel_um,
    fitting_range,
    read_scaled,
    tell_time,
    write_objects,
)
from tenet.enhancement.stack import StackWork, fine_shape
from tenet.network.jnet import JNet
from tenet.objects.labelling import Labels, label_on_disk, plane_slabs

LABELS = "objects"
"""Name of the label image of the structure."""

SpreadParts = Callable[[Plan, FrameParts], None]
"""``spread(plan, parts)`` makes the parts of a plan that are not finished, and notes them."""

# Beside what is noted of a time point.
_RECORDED = "recorded.raw"


def create_enhanced(path: Path, name: str, model: JNet, task: StackTask) -> None:
    """Make the store of a recording, whose images have all its time points, without values."""
    recording = task.recording
    frames = (recording.n_frames,) if recording.n_frames > 1 else ()
    fine = (*frames, *fine_shape(model, recording.shape))
    fine_um = fine_voxel_um(model, task)
    budget = memory_budget(model.device, task.options.max_memory_gb)
    blocks = blocks_within(model, recording.shape, budget)
    structure, brightness, reconstruction = IMAGES
    images = {
        structure: NewImage(fine, fine_um, blocks.fine),
        brightness: NewImage(fine, fine_um, blocks.fine),
        reconstruction: NewImage((*frames, *recording.shape), task.voxel_um, blocks.recorded),
        LABELS: NewImage(fine, fine_um, blocks.fine, "uint32", labels_of=structure),
    }
    create_collection(path, name, images)


def open_images(store: Path, frame: int) -> list[ZarrVolume]:
    """Return structure, brightness and reconstruction of a time point."""
    return [ZarrVolume(store / name, frame) for name in IMAGES]


def table_of(series: FrameSeries, frame: int) -> Path:
    """Return where the table of the objects of a time point lies until the store lands."""
    return series.state / f"{frame}.csv"


def make_frame(
    model: JNet, task: StackTask, series: FrameSeries, spread: SpreadParts | None = None
) -> None:
    """Make a time point of a store, from the part on where an interrupted run stopped.

    Parameters
    ----------
    model
        The network.
    task
        The time point, and how to enhance it.
    series
        The store.
    spread
        Makes the parts elsewhere; by default they are made here.

    Raises
    ------
    UserError
        If the stack is constant or holds NaN, or if memory or disk are too small.
    """
    parts = series.parts(task.frame)
    make_folder(parts.folder)
    recorded = parts.folder / _RECORDED
    try:
        volume, value_range = read_scaled(task, recorded)
        _plan(model, task, series, volume, value_range)
        work = planned_work(model, task, series)
        if spread is None:
            with progress_bar(task.label, work.plan.steps) as advance:
                work.do_all(advance, parts)
        else:
            spread(work.plan, parts)
        labels = _label(task, work, series)
        scale, fine_um = model.image.scale, fine_voxel_um(model, task)
        path = table_of(series, task.frame)
        write_objects(path, task, labels, work.brightness, volume, scale, fine_um)
    finally:
        recorded.unlink(missing_ok=True)
    record = {
        "time_point": task.frame,
        "recorded_range": list(work.value_range),
        "chunks": len(work.plan.chunks),
        "objects": len(labels.boxes),
    }
    series.note(task.frame, record)


def _plan(
    model: JNet, task: StackTask, series: FrameSeries, volume: PlaneFile, value_range: ValueRange
) -> None:
    """Note how a time point is cut and scaled, unless an interrupted run has, as which it stays."""
    budget = memory_budget(model.device, task.options.max_memory_gb)
    parts, blocks = series.parts(task.frame), _blocks(series.store)

    def make() -> dict[str, Any]:
        plan = plan_enhancement(model, volume.shape, budget, blocks)
        tell_time(model, task, plan)
        found = fitting_range(model, task, volume, value_range)
        return {
            "budget_bytes": budget.available,
            "device": model.device.type,
            "recorded_range": list(found),
        }

    parts.plan(make)
    _require_memory(model, task, _noted_plan(model, task, series), budget)


def planned_work(model: JNet, task: StackTask, series: FrameSeries) -> StackWork:
    """Return the work on a time point, as it is planned: wherever it is called, the same."""
    parts, recording = series.parts(task.frame), task.recording
    noted = parts.noted()
    volume = PlaneFile(parts.folder / _RECORDED, recording.shape, recording.dtype)
    plan = _noted_plan(model, task, series)
    low, high = noted["recorded_range"]
    structure, brightness, reconstruction = open_images(series.store, task.frame)
    return StackWork(model, volume, (low, high), structure, brightness, reconstruction, plan)


def _noted_plan(model: JNet, task: StackTask, series: FrameSeries) -> Plan:
    """Return the parts as they were planned, for another device perhaps."""
    noted = series.parts(task.frame).noted()
    budget = MemoryBudget(noted["budget_bytes"], noted["budget_bytes"])
    shape, blocks = task.recording.shape, _blocks(series.store)
    return plan_enhancement(model, shape, budget, blocks, noted["device"])


def _blocks(store: Path) -> Blocks:
    structure, _, reconstruction = open_images(store, 0)
    return Blocks(structure.chunk, reconstruction.chunk)


def _require_memory(model: JNet, task: StackTask, plan: Plan, budget: MemoryBudget) -> None:
    lacking = plan.bytes_needed(model) - budget.available
    if lacking > 0:
        raise UserError(
            f"{task.where}: an interrupted run began with larger parts than fit "
            f"`max_memory_gb={budget.total / GB:.2f}`; give at least "
            f"{(budget.total + lacking) / GB + 0.01:.2f}, or `overwrite=True` to start anew",
            page=Page.memory,
        )


def _label(task: StackTask, work: StackWork, series: FrameSeries) -> Labels:
    structure = work.structure
    labels = ZarrVolume(series.store / IMAGES[0] / "labels" / LABELS, task.frame)
    layer = labels.chunk[0]
    n_steps = 2 * len(plane_slabs(structure.shape, layer))
    with progress_bar(f"{task.label} labels", n_steps) as advance:
        threshold = task.options.threshold
        return label_on_disk(structure, threshold, labels, lambda _: labels, advance, layer=layer)
