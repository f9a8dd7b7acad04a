"""What the workers of a dask cluster enhance, each with its own network: time points, or parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from scopekit.errors import UserError
from scopekit.images.files import Selection
from scopekit.memory import return_freed_memory
from scopekit.series.dask import WorkerJob, spread_frames
from scopekit.series.parts import FrameParts
from scopekit.series.store import FrameSeries
from tenet.config.files import Config
from tenet.enhancement.plan import Plan
from tenet.enhancement.recording import Enhancer
from tenet.enhancement.results import StackOptions, StackTask
from tenet.enhancement.series import MakeFrames, make_each
from tenet.enhancement.store import make_frame, planned_work
from tenet.network.jnet import JNet
from tenet.network.weights import load_evaluated


@dataclass(frozen=True)
class EnhanceSetting:
    """What all time points share; files have absolute names.

    Attributes
    ----------
    config
        The configuration; ``config_text`` tells it from others.
    weights, weights_sha256
        The network, and what tells it from an earlier one of the same name.
    device
        Where each worker computes.
    options, out, selection, overwrite
        See `tenet.enhancement.recording.Enhancer`.
    """

    config: Config = field(compare=False)
    config_text: str
    weights: Path
    weights_sha256: str
    device: str
    options: StackOptions
    out: Path
    selection: Selection
    overwrite: bool


@dataclass(frozen=True)
class EnhanceJob(WorkerJob):
    """Enhances any of some time points; travels to workers.

    Attributes
    ----------
    setting
        What they share.
    tasks
        Recording and time point of each.
    """

    setting: EnhanceSetting
    tasks: tuple[tuple[Path, int], ...]

    def do(self, frame: int) -> None:
        """Enhance the time point of that number, unless an earlier worker has."""
        path, time_point = self.tasks[frame]
        enhancer = _enhancer_once(self.setting)
        opened = enhancer.open(path)
        if not enhancer.is_done(opened, time_point):
            enhancer.enhance(opened, time_point)


@dataclass(frozen=True)
class StoreJob(WorkerJob):
    """Makes time points of a recording in its store; travels to workers.

    Attributes
    ----------
    setting
        What they share.
    path
        The recording.
    series
        The store.
    """

    setting: EnhanceSetting
    path: Path
    series: FrameSeries

    def do(self, frame: int) -> None:
        """Make the time point of that number, unless an earlier worker has."""
        if frame not in self.series.records():
            enhancer = _enhancer_once(self.setting)
            task = enhancer.task(enhancer.open(self.path), frame)
            make_frame(enhancer.model, task, self.series)


@dataclass(frozen=True)
class PartJob(WorkerJob):
    """Makes parts of a time point in a store; travels to workers.

    Attributes
    ----------
    store
        Recording, store, and what is shared.
    time_point
        Which one of the recording.
    """

    store: StoreJob
    time_point: int

    def do(self, frame: int) -> None:
        """Make the part of that number, unless an earlier worker has."""
        series = self.store.series
        parts = series.parts(self.time_point)
        if frame not in parts.finished():
            enhancer = _enhancer_once(self.store.setting)
            task = enhancer.task(enhancer.open(self.store.path), self.time_point)
            planned_work(enhancer.model, task, series).do(frame)
            parts.finish(frame)


def make_on_workers(scheduler: str, setting: EnhanceSetting, model: JNet) -> MakeFrames:
    """Return what makes the time points of a store on a cluster; of a single one, its parts."""

    def make(series: FrameSeries, tasks: Sequence[StackTask]) -> dict[int, str]:
        there = FrameSeries(series.result.resolve(), series.store.resolve())
        recording = tasks[0].recording
        job = StoreJob(setting, recording.path.resolve(), there)
        if recording.n_frames > 1:
            frames = [task.frame for task in tasks]
            return spread_frames(scheduler, job, frames, recording.path.name)
        (task,) = tasks

        def spread(plan: Plan, parts: FrameParts) -> None:
            finished, n_chunks = parts.finished(), len(plan.chunks)
            # What is imaged again is what all chunks are.
            for numbers in (range(n_chunks), range(n_chunks, plan.steps)):
                todo = [number for number in numbers if number not in finished]
                failed = spread_frames(scheduler, PartJob(job, task.frame), todo, task.label)
                if failed:
                    raise UserError(f"{task.where}: {next(iter(failed.values()))}")

        return make_each(series, tasks, lambda one: make_frame(model, one, series, spread))

    return make


@lru_cache(maxsize=1)
def _enhancer_once(setting: EnhanceSetting) -> Enhancer:
    return_freed_memory()
    model = load_evaluated(
        setting.weights,
        setting.config,
        threshold=setting.options.threshold,
        device=setting.device,
    )
    return Enhancer(
        setting.config,
        model,
        setting.weights,
        setting.options,
        setting.out,
        setting.selection,
        overwrite=setting.overwrite,
    )
