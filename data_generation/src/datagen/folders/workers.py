"""Numbered items made by several processes, which end with the program that started them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from scopekit.errors import UserError
from scopekit.progress import progress_bar

Result = TypeVar("Result")
Advance = Callable[[], None]
_LOOK_EVERY_S = 0.2
_OUT_OF_MEMORY = "out of memory: give a smaller `jobs`, or close other programs"


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
    if _stopped:  # in an import, some of which swallow every exception
        sys.exit(1)
    return make(number, _count_part)


_finished: Synchronized
_stopped = False


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
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stop(*_: object) -> None:
    global _stopped
    _stopped = True
    sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
