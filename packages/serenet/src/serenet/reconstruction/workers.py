"""Frames that the workers of a cluster reconstruct: each loads the network once."""

import tempfile
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.memory import return_freed_memory
from scopekit.progress import console
from scopekit.series.dask import take_worker_threads
from scopekit.series.pipeline import process_frame, scratch_volume
from scopekit.series.store import FrameSeries
from serenet.networks.shipped import weights_file
from serenet.reconstruction.frame import (
    FrameReconstructor,
    ReconstructOptions,
    Setup,
    draw_shifts,
    set_up,
)
from serenet.views.files import open_views

# Options that take the name of weights that ship.
_WEIGHTS = ("checkpoint", "virtual_scan")

# A process has one network, and the memory for one frame, however many tasks it is given.
_one_at_a_time = Lock()


@dataclass(frozen=True)
class FrameJob:
    """Reconstructs any frame of a view stack and keeps it; travels to workers.

    Attributes
    ----------
    path
        The view stack.
    options
        The command's.
    series
        Where frames are kept.
    stem
        The results' name without ending.
    """

    path: Path
    options: ReconstructOptions
    series: FrameSeries
    stem: Path

    def __call__(self, frame: int) -> str | None:
        """Do one frame; return why it failed, or ``None``."""
        with _one_at_a_time:
            console.quiet = True  # nobody watches a worker
            take_worker_threads()
            try:
                setup = _set_up_once(self.options)
                stack, solver = _open_once(self.path, self.options)
                shape = setup.volume_shape(stack.shape[-2:])
                with scratch_volume(Path(tempfile.gettempdir()), shape) as target:
                    record = process_frame(stack, frame, target, solver)
                    draw_shifts(solver, setup, self.stem, frame, stack.n_frames)
                    self.series.keep(frame, target, record)
            except UserError as failure:
                return str(failure)
        return None


def frame_job(path: Path, options: ReconstructOptions, series: FrameSeries, stem: Path) -> FrameJob:
    """Return a job in which all files have absolute names: workers run in other folders."""
    absolute: dict[str, Any] = {
        field.name: value.resolve()
        for field in fields(options)
        if isinstance(value := getattr(options, field.name), Path)
        and value.exists()
        # A folder here may be named as weights that ship.
        and not (field.name in _WEIGHTS and weights_file(str(value)))
    }
    if options.microscope is not None and Path(options.microscope).is_file():
        options = replace(options, microscope=str(Path(options.microscope).resolve()))
    return FrameJob(
        path.resolve(),
        replace(options, **absolute),
        FrameSeries(series.result.resolve(), series.store.resolve()),
        stem.resolve(),
    )


@lru_cache(maxsize=1)
def _set_up_once(options: ReconstructOptions) -> Setup:
    return_freed_memory()
    return set_up(options)


@lru_cache(maxsize=1)
def _open_once(path: Path, options: ReconstructOptions) -> tuple[StackFile, FrameReconstructor]:
    setup = _set_up_once(options)
    stack, pages = open_views(path, setup.recorded)
    return stack, FrameReconstructor(setup, pages)
