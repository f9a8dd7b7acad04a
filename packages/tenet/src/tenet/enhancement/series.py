"""Recordings to OME-Zarr: all time points in one store, which an interrupted run goes on with."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.outputs import whole_file
from scopekit.progress import say
from scopekit.series.store import FrameSeries, begin_store, claimed_store
from scopekit.settings import write_yaml
from tenet.data.recordings import RecordingFile
from tenet.enhancement.results import StackTask, draw, fine_voxel_um, result_name
from tenet.enhancement.stack import fine_shape
from tenet.enhancement.store import create_enhanced, make_frame, open_images, table_of
from tenet.network.jnet import JNet

ZARR_ENDING = ".ome.zarr"
# The store last: where it is whole, all results are.
SERIES_ENDINGS = (".yaml", ".png", "_objects.csv", ZARR_ENDING)

MakeFrames = Callable[[FrameSeries, Sequence[StackTask]], dict[int, str]]
"""Makes time points in a store; returns why some failed, by number."""


@dataclass(frozen=True)
class SeriesTask:
    """What to make of a recording.

    Attributes
    ----------
    stem
        Of the results' names.
    stacks
        The time points that are asked for.
    stamp
        What must be equal for a run to go on with what another has made.
    overwrite
        Whether to replace an existing store.
    """

    stem: Path
    stacks: Sequence[StackTask]
    stamp: Mapping[str, Any]
    overwrite: bool

    @property
    def recording(self) -> RecordingFile:
        """The file."""
        return self.stacks[0].recording

    @property
    def result(self) -> Path:
        """The store."""
        return self.named(ZARR_ENDING)

    def named(self, ending: str) -> Path:
        """Return the final name of a file of the results."""
        return self.stem.with_name(self.stem.name + ending)


def make_here(model: JNet) -> MakeFrames:
    """Return what makes time points one after the other."""

    def make(series: FrameSeries, tasks: Sequence[StackTask]) -> dict[int, str]:
        return make_each(series, tasks, lambda task: make_frame(model, task, series))

    return make


def make_each(
    series: FrameSeries, tasks: Sequence[StackTask], one: Callable[[StackTask], None]
) -> dict[int, str]:
    """Make time points one after the other; return why some failed, by number."""
    failures: dict[int, str] = {}
    for task in tasks:
        try:
            one(task)
        except UserError as failure:
            if task.recording.n_frames == 1:
                if not series.done():
                    series.discard()
                raise
            say(f"error: {failure}")
            failures[task.frame] = str(failure)
    return failures


def enhance_series(model: JNet, task: SeriesTask, make: MakeFrames) -> int:
    """Make the time points that a store lacks, and land it; return how many there were.

    Raises
    ------
    UserError
        If some failed; the others have landed then, unless there are none.
    """
    with claimed_store(task.stem):
        return _enhance(model, task, make)


def _enhance(model: JNet, task: SeriesTask, make: MakeFrames) -> int:
    recording = task.recording

    def create(path: Path) -> None:
        create_enhanced(path, recording.path.name, model, task.stacks[0])

    series = begin_store(task.result, task.stamp, create, overwrite=task.overwrite)
    finished = series.records()
    todo = [stack for stack in task.stacks if stack.frame not in finished]
    if not todo and series.store == task.result:
        say(f"{task.result} exists: skipped")
        return 0
    failures = make(series, todo) if todo else {}
    records = series.records()
    if not records:
        if not series.done():
            series.discard()
        raise UserError(next(iter(failures.values())))
    _land(model, task, series, records, failures)
    made = len(todo) - len(failures)
    if failures:
        raise UserError(
            f"{recording.path}: {len(failures)} of {len(task.stacks)} time points failed "
            f"(time point {', '.join(map(str, sorted(failures)))}), the rest is done"
        )
    return made


def _land(
    model: JNet,
    task: SeriesTask,
    series: FrameSeries,
    records: Mapping[int, Mapping[str, Any]],
    failures: Mapping[int, str],
) -> None:
    recording, first = task.recording, next(iter(records))
    stack = task.stacks[0]
    for frame in records:
        name = f"{result_name(recording, frame)}_objects.csv"
        with whole_file(task.stem.with_name(name), overwrite=True) as partial:
            shutil.copyfile(table_of(series, frame), partial)
    images, fine_um = open_images(series.store, first), fine_voxel_um(model, stack)
    draw(task.named(".png"), _planes(recording, first), images, fine_um)
    settings = {
        **{name: value for name, value in stack.noted.items() if name != "time_point"},
        "voxel_um": dict(zip("zyx", map(float, fine_um), strict=True)),
        "shape": list(fine_shape(model, recording.shape)),
    }
    if recording.n_frames > 1:
        settings["frames"] = [dict(record) for record in records.values()]
    else:
        settings |= records[first]
    if failures:
        settings["failed_frames"] = dict(failures)
    write_yaml(task.named(".yaml"), settings, overwrite=True)
    series.land([frame for frame in range(recording.n_frames) if frame not in records])
    say(str(task.result))


def _planes(recording: RecordingFile, frame: int) -> Iterator[NDArray[Any]]:
    """Yield the planes of a recorded time point, read one by one."""
    for z in range(recording.shape[0]):
        yield recording.planes(frame, z, z + 1)[0]
