"""Claims on results: locks on hidden files, taken and given back whole, whatever signals come.

A signal's handler, which may raise an error between any two steps, runs in the main thread; so
the steps are done in another.
"""

import _thread
import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

# Windows has other locks, which are not used here.
fcntl: Any = import_module("fcntl") if os.name == "posix" else None

_claims: set[Path] = set()  # of this process
_guard = threading.Lock()


class BusyError(Exception):
    """Another run has the claim; ``process`` is its number, where it is known."""

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


class Claim:
    """A claim of this process, by a lock on a file, which is removed when it is given back.

    However a process ends, its locks go with it. On systems without such locks there is no claim.

    Parameters
    ----------
    lock
        The file; one name for each, whatever links lead to it.
    """

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._handle: int | None = None
        self._is_over = False
        self._fault: Exception | None = None

    def take(self) -> None:
        """Make the file and lock it.

        Raises
        ------
        BusyError
            If another run, or another block of this process, has it.
        OSError
            If the file cannot be made.
        """
        _do_apart(self._take)
        if self._fault is not None:
            raise self._fault

    def give_back(self) -> None:
        """Remove the file; nothing if it was never made, or is gone. It cannot be taken again."""
        _do_apart(self._give_back)

    def _take(self) -> None:
        if fcntl is None or self._is_over:
            return
        try:
            if self._lock in _claims:  # not to be opened: closing it would give the claim back
                raise BusyError(str(os.getpid()))
            self._handle = _locked(self._lock)
            _claims.add(self._lock)
        except Exception as fault:
            self._fault = fault

    def _give_back(self) -> None:
        self._is_over = True
        if self._handle is None:
            return
        # In this order: a file that is there without a lock is nobody's.
        with suppress(OSError):
            self._lock.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = None
        _claims.remove(self._lock)


def _do_apart(work: Callable[[], None]) -> None:
    """Do it in a thread of its own, one at a time, and wait for that."""
    done = threading.Lock()
    done.acquire()

    def guarded() -> None:
        try:
            with _guard:
                work()
        finally:
            done.release()

    # `threading.Thread` and `Event` wait in steps, between which handlers raise errors.
    _thread.start_new_thread(guarded, ())
    done.acquire()


def _locked(lock: Path) -> int:
    """Make a file and lock it; return its descriptor."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            if failure.errno in (errno.EACCES, errno.EAGAIN):
                who = os.read(handle, 20).decode(errors="replace")
                os.close(handle)
                raise BusyError(who if who.isdigit() else "") from failure
        try:
            held = os.path.samestat(os.fstat(handle), lock.stat())
            if held:
                with suppress(OSError):  # only words for others: a full disk is found out later
                    os.truncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                return handle
        except FileNotFoundError:  # removed by the run that had it: that run is over
            pass
        os.close(handle)
