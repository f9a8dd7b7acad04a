"""Frames of a series spread over the workers of a dask cluster."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from scopekit.errors import UserError
from scopekit.progress import progress_bar, say

_CONNECT_SECONDS = 20
# A frame is given up after it was lost, with its worker, so many times.
_RETRIES = 3


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
        if not client.scheduler_info(n_workers=-1)["workers"]:
            say(f"{scheduler}: waiting for workers")
        client.wait_for_workers(1)
        todo = list(frames)
        futures = client.map(work, todo, pure=False, retries=_RETRIES)
        frame_of = {future.key: frame for future, frame in zip(futures, todo, strict=True)}
        with progress_bar(what, len(todo)) as advance:
            for future in distributed.as_completed(futures):
                failure = _outcome(future)
                if failure is not None:
                    frame = frame_of[future.key]
                    failures[frame] = failure
                    say(f"error: frame {frame}: {failure}")
                future.release()
                advance()
    return failures


def _outcome(future: Any) -> str | None:
    if future.status == "cancelled":
        raise UserError("the dask scheduler went away; give the command again to go on")
    failure = future.exception()
    if failure is None:
        reported: str | None = future.result()
        return reported
    if type(failure).__name__ == "KilledWorker":
        return "every worker that tried it died: do they have enough memory?"
    return f"{type(failure).__name__} on a worker: {' '.join(str(failure).split())[:200]}"


@contextmanager
def _connected(distributed: Any, scheduler: str) -> Iterator[Any]:
    is_address = "://" in scheduler
    if not is_address and not Path(scheduler).is_file():
        raise UserError(
            f"--dask {scheduler}: no such file; give a scheduler file, or an address such as "
            "tcp://host:8786"
        )
    where = {"address": scheduler} if is_address else {"scheduler_file": scheduler}
    try:
        client = distributed.Client(**where, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as failure:
        raise UserError(
            f"--dask {scheduler}: no scheduler answers there; start one with 'dask scheduler'"
        ) from failure
    with client:
        yield client


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as failure:
        raise UserError(
            "--dask needs the package distributed: run 'pip install distributed'"
        ) from failure
