"""Signals that end a program, as batch systems and closing terminals send them."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class EndedBySignal(SystemExit):
    """The program was told to end; what it had begun is cleaned up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `EndedBySignal` while the block runs.

    Those that are ignored (nohup) stay so. A second one does not disturb the cleaning up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that was forked has nothing to clean up
            os._exit(128 + number)
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise EndedBySignal(number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    before = {number: how for number, how in before.items() if how == signal.SIG_DFL}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)
