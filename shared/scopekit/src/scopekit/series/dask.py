"""Frames of a series spread over the workers of a dask cluster."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from scopekit.errors import UserError
from scopekit.memory import take_share
from scopekit.progress import console, progress_bar, say

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_CONNECT_SECONDS = 20
# After an error, of the file system perhaps; how often workers may die is the scheduler's affair.
_RETRIES = 3
# Frames a worker is given at a time: the next is there when one is done.
_AHEAD = 2
# Of a worker's memory: at 80 % dask lets it pause.
_SHARE_OF_WORKER = 0.75

Options = TypeVar("Options", bound="DataclassInstance")

# A process has one network, and the memory for one frame, however many tasks it is given.
_one_at_a_time = Lock()


def spread_frames(
    scheduler: str, work: Callable[[int], str | None], frames: Iterable[int], what: str
) -> dict[int, str]:
    """Do ``work`` on frames on the workers of a cluster; frames of lost workers are done again.

    Parameters
    ----------
    scheduler
        Address such as ``tcp://host:8786``, or a scheduler file.
    work
        Does a frame, for good: returns ``None``, or why it failed. It travels to the workers, so
        it must be picklable, and may be called twice for a frame.
    frames
        Which.
    what
        What is being done, for the progress bar.

    Returns
    -------
    dict
        Why frames failed, by frame.

    Raises
    ------
    UserError
        If there is no scheduler, or it goes away.
    """
    distributed = _distributed()
    failures: dict[int, str] = {}
    with _connected(distributed, scheduler) as client:
        _await_worker(client, scheduler)
        todo = list(frames)
        waiting = iter(todo)
        # No more than the workers can start on, so that none is given all and others nothing.
        running = distributed.as_completed(loop=client.loop)
        frame_of: dict[str, int] = {}

        def hand_out() -> None:
            free = _AHEAD * len(client.scheduler_info(n_workers=-1)["workers"]) - len(frame_of)
            for frame in itertools.islice(waiting, max(free, 0 if frame_of else 1)):
                future = client.submit(work, frame, pure=False, retries=_RETRIES)
                frame_of[future.key] = frame
                running.add(future)

        with progress_bar(what, len(todo)) as advance:
            hand_out()
            for future in running:
                frame = frame_of.pop(future.key)
                failure = _outcome(future)
                if failure is not None:
                    failures[frame] = failure
                    say(f"error: frame {frame}: {failure}")
                future.release()
                advance()
                hand_out()
    return failures


class WorkerJob:
    """Work on frames that travels to the workers of a cluster, which do one frame at a time.

    To be derived from: picklable, with `do`.
    """

    def do(self, frame: int) -> None:
        """Do a frame, for good; it may be asked for twice. Raise `UserError` if it fails."""
        raise NotImplementedError

    def __call__(self, frame: int) -> str | None:
        """Do one frame; return why it failed, or ``None``."""
        with _one_at_a_time:
            console.quiet = True  # nobody watches a worker
            take_worker_share()
            try:
                self.do(frame)
            except UserError as failure:
                return str(failure)
        return None


def with_absolute_paths(
    options: Options, *, left: Collection[str] = (), texts: Collection[str] = ()
) -> Options:
    """Return options in which all files have absolute names: workers run in other folders.

    Parameters
    ----------
    options
        A dataclass.
    left
        Fields that stay as they are.
    texts
        Fields whose text may be the name of a file.
    """
    absolute: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in left:
            continue
        if isinstance(value, Path) and value.exists():
            absolute[field.name] = value.resolve()
        elif field.name in texts and value is not None and Path(value).is_file():
            absolute[field.name] = str(Path(value).resolve())
    return replace(options, **absolute)


def require_scheduler(scheduler: str) -> None:
    """Raise `UserError` if there is no scheduler at this address, or of this scheduler file."""
    with _connected(_distributed(), scheduler):
        pass


def worker_share(scheduler: str) -> float | None:
    """Return the memory in bytes that any worker of a cluster plans with, ``None`` if unlimited."""
    with _connected(_distributed(), scheduler) as client:
        _await_worker(client, scheduler)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    return _SHARE_OF_WORKER * min(limits) if limits else None


def take_worker_share() -> None:
    """Take the threads that this dask worker was given (``--nthreads``), and its memory."""
    worker = _distributed().get_worker()
    torch.set_num_threads(worker.state.nthreads)
    limit = worker.memory_manager.memory_limit
    if limit:  # of its nanny, which ends it when it takes 95 % of that
        take_share(_SHARE_OF_WORKER * limit)


def _await_worker(client: Any, scheduler: str) -> None:
    if not client.scheduler_info(n_workers=-1)["workers"]:
        say(
            f"{scheduler}: waiting for workers; start one: dask worker "
            + (scheduler if "://" in scheduler else f"--scheduler-file {scheduler}")
        )
    client.wait_for_workers(1)


def _outcome(future: Any) -> str | None:
    if future.status == "cancelled":
        raise UserError("the dask scheduler went away; give the command again to go on")
    failure = future.exception()
    if failure is None:
        reported: str | None = future.result()
        return reported and str(UserError(reported))
    if type(failure).__name__ == "KilledWorker":
        return "every worker that tried it died: do they have enough memory?"
    return f"{type(failure).__name__} on a worker: {' '.join(str(failure).split())[:200]}"


@contextmanager
def _connected(distributed: Any, scheduler: str) -> Iterator[Any]:
    is_address = "://" in scheduler
    if not is_address and not Path(scheduler).is_file():
        raise UserError(
            f"`dask={scheduler}`: no such file; give a scheduler file, or an address such as "
            "tcp://host:8786"
        )
    where = {"address": scheduler} if is_address else {"scheduler_file": scheduler}
    try:
        client = distributed.Client(**where, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as failure:
        raise UserError(
            f"`dask={scheduler}`: no scheduler answers there; start one with 'dask scheduler'"
        ) from failure
    with client:
        yield client


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as failure:
        raise UserError(
            "`dask` needs the package distributed: run 'pip install distributed'"
        ) from failure
