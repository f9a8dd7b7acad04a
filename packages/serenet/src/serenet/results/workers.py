"""Frames that the workers of a dask cluster make: each sets up once what its frames share."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.series.dask import (
    Options,
    WorkerJob,
    require_scheduler,
    spread_frames,
    with_absolute_paths,
)
from scopekit.series.pipeline import FrameSolver, scratch_volume
from scopekit.series.store import FrameSeries
from serenet.networks.shipped import weights_file

# Options that take the name of weights that ship.
_WEIGHTS = ("checkpoint", "virtual_scan")


@dataclass(frozen=True)
class OpenFrames:
    """Frames that can be made.

    Attributes
    ----------
    stack
        Where they are read.
    volume_shape
        (Z, Y, X) of the result of one.
    solve
        Makes one.
    kept
        Told every frame that no interruption can lose any more.
    """

    stack: StackFile
    volume_shape: tuple[int, int, int]
    solve: FrameSolver
    kept: Callable[[int], None] = lambda _: None


class FrameSource(Protocol):
    """What is to be done with the frames of an input: picklable, hashable, names absolute.

    Sources are equal only if the files behind them are.
    """

    @property
    def path(self) -> Path:
        """The input."""
        ...

    def open(self) -> OpenFrames:
        """Set up what its frames share."""
        ...

    def __hash__(self) -> int:
        """Return a number that is equal for equal sources."""
        ...


@dataclass(frozen=True)
class FrameJob(WorkerJob):
    """Makes any frame of an input and keeps it; travels to workers.

    Attributes
    ----------
    source
        The input, and what to do with it.
    series
        Where frames are kept.
    """

    source: FrameSource
    series: FrameSeries

    def do(self, frame: int) -> None:
        """Make one frame and keep it."""
        opened = _open_once(self.source)
        with scratch_volume(Path(tempfile.gettempdir()), opened.volume_shape) as target:
            self.series.keep(frame, target, opened.solve(opened.stack, frame, target))
        opened.kept(frame)


def frame_job(source: FrameSource, series: FrameSeries) -> FrameJob:
    """Return the job of a series, its files with absolute names: workers run in other folders."""
    return FrameJob(source, FrameSeries(series.result.resolve(), series.store.resolve()))


def spread_series(
    scheduler: str, source: FrameSource, series: FrameSeries, frames: Sequence[int]
) -> dict[int, str]:
    """Make frames of a series on the workers of a cluster; return why frames failed, by frame."""
    return spread_frames(scheduler, frame_job(source, series), frames, source.path.name)


def require_series(scheduler: str, format_: str | None) -> None:
    """Raise `UserError` if there is no scheduler, or if results are to be no OME-Zarr."""
    if format_ == "tif":
        raise UserError("`dask`: workers write OME-Zarr, frame by frame; leave `format=tif` out")
    require_scheduler(scheduler)


def absolute_options(options: Options) -> Options:
    """Return a command's options for workers; weights that ship keep their names."""
    # A folder here may be named as weights that ship.
    shipped = [n for n in _WEIGHTS if weights_file(str(getattr(options, n, None)))]
    return with_absolute_paths(options, left=shipped, texts=["microscope"])


@lru_cache(maxsize=1)
def _open_once(source: FrameSource) -> OpenFrames:
    return source.open()
