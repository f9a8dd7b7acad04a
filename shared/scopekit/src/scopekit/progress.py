"""Progress with the time left, on standard error: bars on a terminal, else lines for a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from scopekit.errors import worded

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

_LINE_SECONDS = 60
# What takes minutes is told so early.
_FIRST_SECONDS = 5
# Shorter work is done before one has read how long it takes.
_WORTH_TELLING_SECONDS = 10


class Advance(Protocol):
    """Told how far some work is, as `progress_bar` yields it."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Count steps that are done; ``note`` is shown beside the count."""


def no_progress(steps: int = 1, note: str = "") -> None:
    """Tell nobody."""


OnProgress = Callable[[int, int], None]
"""Told how many parts of some work are done, and of how many; what it raises ends the work."""


def counted(on_progress: OnProgress | None, total: int) -> Advance:
    """Return an `Advance` that tells ``on_progress`` how many of ``total`` parts are done."""
    if on_progress is None:
        return no_progress
    done = 0

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done
        done += steps
        on_progress(done, total)

    return advance


# The bar on the screen, under which further ones appear while their blocks run.
_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


@dataclass
class _Count:
    """How far a block is."""

    description: str
    total: int
    started: float
    done: int = 0
    note: str = ""

    def left(self, now: float) -> float:
        """Return the seconds that are left, 0 where that is not known yet."""
        if not 0 < self.done < self.total:
            return 0.0
        return (now - self.started) / self.done * (self.total - self.done)

    def text(self, now: float) -> str:
        told = f"{self.description}: {self.done}/{self.total}"
        if left := self.left(now):
            told += f", {timedelta(seconds=round(left))} left"
        return f"{told}, {self.note}" if self.note else told


@dataclass
class _Log:
    """Blocks that run, the outermost first, and when a line was last printed about them."""

    told: float
    counts: list[_Count] = field(default_factory=list)
    is_silent: bool = True

    def tell(self) -> None:
        """Print a line if a minute has passed since the last one, the first earlier if need be."""
        now = time.monotonic()
        long = any(count.left(now) >= _LINE_SECONDS for count in self.counts)
        wait = _FIRST_SECONDS if self.is_silent and long else _LINE_SECONDS
        if now - self.told >= wait:
            self.told, self.is_silent = now, False
            console.print("; ".join(count.text(now) for count in self.counts))


_logged: ContextVar[_Log | None] = ContextVar("logged", default=None)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Advance]:
    """Show a bar while the block runs; yield ``advance(steps=1, note="")``.

    Inside the block of another bar it appears below that one, and goes when its block ends.
    Without a terminal, such as in a log file, a line is printed at most once a minute, of all bars;
    the first one after seconds where minutes are left.

    Parameters
    ----------
    description
        What is being done, in a few words.
    total
        Number of steps.
    """
    if not (console.is_terminal or console.is_jupyter):
        with _logged_progress(description, total) as advance:
            yield advance
        return
    outer = _shown.get()
    if outer is not None:
        task = outer.add_task(description, total=total, note="")
        try:
            yield _advancing(outer, task)
        finally:
            outer.remove_task(task)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        token = _shown.set(progress)
        task = progress.add_task(description, total=total, note="")
        try:
            yield _advancing(progress, task)
        except Exception:  # what failed is told in a line, without a bar that stands still
            progress.update(task, visible=False)
            raise
        finally:
            _shown.reset(token)


@contextmanager
def one_log() -> Iterator[None]:
    """Let bars that follow one another share the minute after which a log gets a line."""
    token = _logged.set(_logged.get() or _Log(told=time.monotonic()))
    try:
        yield
    finally:
        _logged.reset(token)


@contextmanager
def _logged_progress(description: str, total: int) -> Iterator[Advance]:
    now = time.monotonic()
    log = _logged.get()
    if log is not None and log.counts and total == 1:  # the outer ones tell enough
        yield no_progress
        return
    log = log or _Log(told=now)
    count = _Count(description, total, started=now)

    def advance(steps: int = 1, note: str = "") -> None:
        count.done += steps
        count.note = note
        log.tell()

    log.counts.append(count)
    token = _logged.set(log)
    try:
        yield advance
    finally:
        _logged.reset(token)
        log.counts.remove(count)


def _advancing(progress: Progress, task: TaskID) -> Advance:
    def advance(steps: int = 1, note: str = "") -> None:
        progress.update(task, advance=steps, note=note)

    return advance


def say(message: str) -> None:
    """Print one line for the user on standard error, see `scopekit.errors.worded`."""
    console.print(worded(message))


def say_progress(message: str) -> None:
    """Print one line that tells how far the work is; a log needs no other for a minute."""
    say(message)
    if (log := _logged.get()) is not None:
        log.told, log.is_silent = time.monotonic(), False


def say_time(what: str, seconds: float) -> None:
    """Say how long some work will take; nothing of what is soon done."""
    if seconds >= _WORTH_TELLING_SECONDS:
        say(f"{what}: about {in_words(seconds)} on this machine")


def in_words(seconds: float) -> str:
    """Return a rough time as one says it.

    Examples
    --------
    >>> in_words(42), in_words(130), in_words(9000)
    ('40 s', '2 min', '2.5 h')
    """
    if seconds < 55:
        return f"{max(round(seconds, -1), 10):.0f} s"
    if seconds < 5400:
        return f"{max(round(seconds / 60), 1)} min"
    return f"{seconds / 3600:.1f} h"
