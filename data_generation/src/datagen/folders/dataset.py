"""Folders of numbered items: made in parallel, each whole or absent, continued after a stop.

The resolved settings lie in the folder as ``dataset.yaml``. An item is made of its own number and
the settings alone, so that it is the same whether made alone, with others, or by any worker.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, TypeVar

import yaml

from scopekit.errors import UserError
from scopekit.outputs import make_folder, require_space
from scopekit.progress import progress_bar, say
from scopekit.settings import read_yaml, write_yaml

Result = TypeVar("Result")
Advance = Callable[[], None]
SETTINGS_NAME = "dataset.yaml"
_LOOK_EVERY_S = 0.2
_OUT_OF_MEMORY = "out of memory: give a smaller --jobs, or close other programs"


@dataclass(frozen=True)
class Dataset:
    """A folder of items and what they are made from.

    Attributes
    ----------
    folder
        Where the items lie; settings beside them.
    settings
        All that shapes an item, in plain values; a folder holds items of one kind of settings.
    items
        The files of every item. One whose files all exist is complete.
    patterns
        Glob patterns, in the folder, of all files of such datasets: ``--overwrite`` removes them.
    item_bytes
        Size of an item on disk.
    """

    folder: Path
    settings: Mapping[str, Any]
    items: Sequence[Sequence[Path]]
    patterns: Sequence[str]
    item_bytes: int

    def missing(self) -> list[int]:
        """Return the numbers of the items that are not complete."""
        return [i for i, files in enumerate(self.items) if not all(f.exists() for f in files)]

    def open(self, *, overwrite: bool) -> list[int]:
        """Prepare the folder; name the items that exist and return the numbers of the others.

        Raises
        ------
        UserError
            If the folder holds items made with other settings, or if the missing ones do not fit
            on the disk.
        """
        make_folder(self.folder)
        missing = list(range(len(self.items))) if overwrite else self._continued()
        old = [f for p in self.patterns for f in self.folder.glob(p)] if overwrite else []
        freed = sum(file.stat().st_size for file in old)
        require_space(self.folder, len(missing) * self.item_bytes - freed)
        for file in old:
            file.unlink()
        write_yaml(self.folder / SETTINGS_NAME, self.settings, overwrite=True)
        return missing

    def _continued(self) -> list[int]:
        settings = self.folder / SETTINGS_NAME
        if settings.exists():
            require_same_settings(settings, self.settings)
        elif any(True for p in self.patterns for _ in self.folder.glob(p)):
            raise UserError(
                f"{self.folder} holds items of unknown settings ({SETTINGS_NAME} is missing): "
                "choose another --out, or add --overwrite to replace them"
            )
        missing = self.missing()
        for i, files in enumerate(self.items):
            if i not in missing:
                say(f"{files[-1]} exists: skipped")
        return missing

    def require_missing(self, missing: Sequence[int]) -> None:
        """Raise `UserError` if ``missing`` is empty: there is nothing to do."""
        if not missing:
            raise UserError(
                f"{self.items[0][-1]} exists"
                + (f" (as do all {len(self.items)})" if len(self.items) > 1 else "")
                + ": add --overwrite to make all anew, or choose another --out"
            )


def require_same_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise `UserError`, naming the first difference, if the settings in ``path`` are others."""
    found = read_yaml(path)
    # As they would be read back: tuples are lists there.
    settings = yaml.safe_load(yaml.safe_dump(dict(settings), sort_keys=False))
    for key in [*settings, *(k for k in found if k not in settings)]:
        if found.get(key) != settings.get(key):
            raise UserError(
                f"{path.parent} was made with other settings ({key}: {found.get(key)}, now "
                f"{settings.get(key)}): choose another --out, or add --overwrite to replace it"
            )


def make_items(
    make: Callable[[int], Result], numbers: Iterable[int], *, jobs: int, description: str
) -> list[Result]:
    """Return ``make(number)`` of every number in turn, from ``jobs`` processes; show progress.

    Parameters
    ----------
    make
        Makes one item; a function that can be sent to another process.
    numbers
        The items to make.
    jobs
        Processes; with 1 the work is done in this one.
    description
        What is made, for the bar.

    Raises
    ------
    UserError
        Whatever stops a worker that the user can mend; the others are stopped then, and leave
        nothing half-written.
    """
    return make_in_parts(
        partial(_as_one_part, make), numbers, parts=1, jobs=jobs, description=description
    )


def _as_one_part(make: Callable[[int], Result], number: int, advance: Advance) -> Result:
    result = make(number)
    advance()
    return result


def make_in_parts(
    make: Callable[[int, Advance], Result],
    numbers: Iterable[int],
    *,
    parts: int,
    jobs: int,
    description: str,
) -> list[Result]:
    """Do as `make_items` for items that take long: the bar shows the parts of every item.

    Parameters
    ----------
    make
        ``make(number, advance)`` makes one item and calls ``advance()`` after each of its parts.
    numbers, jobs, description
        As for `make_items`.
    parts
        How many parts an item has.
    """
    wanted = list(numbers)
    with progress_bar(description, len(wanted) * parts) as advance:
        try:
            if min(jobs, len(wanted)) < 2:
                return [make(i, advance) for i in wanted]
            return _in_parallel(make, wanted, jobs, advance)
        except MemoryError as failure:
            raise UserError(_OUT_OF_MEMORY) from failure


def _in_parallel(
    make: Callable[[int, Advance], Result],
    numbers: Sequence[int],
    jobs: int,
    advance: Callable[[int], None],
) -> list[Result]:
    context = multiprocessing.get_context("spawn")
    finished = context.Value("q", 0)
    pool = ProcessPoolExecutor(
        min(jobs, len(numbers)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(finished,),
    )
    try:
        with _deaf_to_interrupts():  # as the workers are from birth: this process decides
            futures = [pool.submit(_make_in_worker, make, i) for i in numbers]
        waiting, shown = set(futures), 0
        while waiting:
            done, waiting = wait_for(waiting, _LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            # Without the lock, which a worker that was killed may hold for ever.
            count = finished.get_obj().value
            advance(count - shown)
            shown = count
        return [future.result() for future in futures]
    except BrokenProcessPool as failure:
        raise UserError(f"a worker was ended from outside; perhaps {_OUT_OF_MEMORY}") from failure
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while the block runs, in the one thread that may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _make_in_worker(make: Callable[[int, Advance], Result], number: int) -> Result:
    return make(number, _count_part)


_finished: Synchronized


def _count_part() -> None:
    with _finished.get_lock():
        _finished.value += 1


def _start_worker(finished: Synchronized) -> None:
    """Let this worker clean up when told to stop, and end with the program that started it.

    Parameters
    ----------
    finished
        The number of finished parts, of all workers.
    """
    global _finished
    _finished = finished
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
