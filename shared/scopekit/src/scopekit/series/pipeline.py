"""Frames of a series one after the other: the next is read, the last written, while one is made."""

import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.stack import StackFile
from scopekit.images.target import Target
from scopekit.outputs import describe_write_failure, require_space
from scopekit.progress import progress_bar, say
from scopekit.series.store import FrameSeries

_ALL = slice(None)

FrameSolver = Callable[[StackFile, int, Target], dict[str, Any]]
"""``solve(source, frame, target)`` fills ``target``, (Z, Y, X), from a frame of a stack.

It returns what to record about the frame: plain values.
"""


def run_frames(
    source: StackFile,
    series: FrameSeries,
    frames: Sequence[int],
    solve: FrameSolver,
    kept: Callable[[int], None] = lambda _: None,
) -> dict[int, str]:
    """Make frames and keep them in the series, with the memory of one, and the disk of two.

    Parameters
    ----------
    source
        Where they are read.
    series
        Where they are kept.
    frames
        Which.
    solve
        Makes one.
    kept
        Told every frame that is safe in the series, from another thread.

    Returns
    -------
    dict
        Why frames failed, by frame; the others are done.

    Raises
    ------
    UserError
        If the series cannot be written.
    """
    failures: dict[int, str] = {}
    volume_shape = _volume_shape(series)
    with ExitStack() as resources:
        ahead = resources.enter_context(_read_ahead(source, frames))
        targets = [
            resources.enter_context(scratch_volume(series.store.parent, volume_shape))
            for _ in range(2)
        ]
        writer = resources.enter_context(ThreadPoolExecutor(1))
        advance = resources.enter_context(progress_bar(source.path.name, len(frames)))
        writing: list[Future[None] | None] = [None, None]

        def keep(frame: int, target: Target, record: Mapping[str, Any]) -> None:
            series.keep(frame, target, record)
            kept(frame)

        for number, frame in enumerate(frames):
            turn = number % 2
            if (earlier := writing[turn]) is not None:
                earlier.result()
            try:
                record = solve(ahead, frame, targets[turn])
            except UserError as failure:
                failures[frame] = str(failure)
                say(f"error: frame {frame}: {failure}")
                writing[turn] = None
            else:
                writing[turn] = writer.submit(keep, frame, targets[turn], record)
            advance()
        for last in writing:
            if last is not None:
                last.result()
    return failures


def _volume_shape(series: FrameSeries) -> tuple[int, int, int]:
    from scopekit.images.files import open_stack

    z, y, x = open_stack(series.store).shape[-3:]
    return z, y, x


@contextmanager
def scratch_volume(folder: Path, shape: tuple[int, int, int]) -> Iterator[Target]:
    """Yield a volume that lies in a nameless file, which goes when the block ends.

    Raises
    ------
    UserError
        If the disk has no room for it.
    """
    n_bytes = math.prod(shape) * 4
    require_space(folder, n_bytes)
    with ExitStack() as resources:
        try:
            file = resources.enter_context(tempfile.TemporaryFile(dir=folder))
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as failure:
            raise describe_write_failure(folder, failure) from failure
        yield Target(np.memmap(file, dtype=np.float32, mode="w+", shape=shape))


@dataclass(frozen=True, kw_only=True)
class _ReadAhead(StackFile):
    """Reads the next frame of a source while the caller works on the present one."""

    source: StackFile
    following: Mapping[int, int]
    pool: ThreadPoolExecutor
    reading: dict[int, Future[NDArray[np.float32]]] = field(default_factory=dict)

    def frame_name(self, frame: int) -> str:
        return self.source.frame_name(frame)

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        ready = self.reading.pop(frame, None)
        try:
            return self.source.read(frame) if ready is None else ready.result()
        finally:
            if (following := self.following.get(frame)) is not None:
                self.reading[following] = self.pool.submit(self.source.read, following)

    def stored(
        self, pages: Sequence[int], rows: slice = _ALL, columns: slice = _ALL, frame: int = 0
    ) -> Iterator[NDArray[Any]]:
        return self.source.stored(pages, rows, columns, frame)


@contextmanager
def _read_ahead(source: StackFile, frames: Sequence[int]) -> Iterator[StackFile]:
    following = dict(itertools.pairwise(frames))
    with ThreadPoolExecutor(1) as pool:
        yield _ReadAhead(
            path=source.path,
            shape=source.shape,
            dtype=source.dtype,
            steps=source.steps,
            full_scale=source.full_scale,
            source=source,
            following=following,
            pool=pool,
        )
