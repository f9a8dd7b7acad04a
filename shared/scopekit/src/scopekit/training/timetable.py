"""A training of a given time: how many epochs it has, planned anew as they go faster or slower."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scopekit.progress import say
from scopekit.training.recipe import Loop

# Share of the time by which the end may be off before the epochs are counted anew.
_TOLERANCE = 0.1


@dataclass
class Timetable:
    """How long a training may take, all its starts together, and how many epochs that is.

    The rate falls towards the last epoch, so their number must be known ahead. The first steps tell
    it only roughly: other programs come and go.

    Attributes
    ----------
    seconds
        For all.
    started
        When this start began, by `time.perf_counter`.
    loop_of
        The loop of so many epochs.
    settle
        Keeps the number of epochs for a run that goes on; ``None`` in all processes but the first.
    samples
        What an epoch has, in words: "48 samples".
    """

    seconds: float
    started: float
    loop_of: Callable[[int], Loop]
    settle: Callable[[int], None] | None
    samples: str
    _before: float = 0.0
    _epoch_s: float = 0.0
    _begun: float = 0.0
    _done: int = 0

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.seconds - self._before - (time.perf_counter() - self.started)

    def plan(self, epochs: int, epoch_s: float | None = None) -> Loop:
        """Let the training have so many epochs, of so many seconds each if that is new."""
        self._epoch_s = epoch_s = epoch_s or self._epoch_s
        if self.settle is not None:
            left, an_epoch = (f"{seconds / 60:.2g} minutes" for seconds in (self.left(), epoch_s))
            number = "1 epoch" if epochs == 1 else f"{epochs} epochs"
            if epochs == 1 and epoch_s > self.left():
                say(f"1 epoch of {self.samples}, the least, takes about {an_epoch}")
            else:
                say(f"{number} of {self.samples} fit: {left} are left, one takes {an_epoch}")
            self.settle(epochs)
        return self.loop_of(epochs)

    def begin(self) -> None:
        """Take the time from here for that of the epochs."""
        self._begun, self._done = time.perf_counter(), 0

    def note_epoch(self) -> None:
        """Take the time of another epoch, with the validations before its end."""
        self._done += 1
        self._epoch_s = (time.perf_counter() - self._begun) / self._done

    def fitting(self, done: int, planned: int) -> int:
        """Return how many epochs fit, as many as planned if the end is off by little.

        A run that is not at its end has another epoch, in which the rate falls.
        """
        more = max(round(self.left() / self._epoch_s), int(planned > done))
        off = abs(done + more - planned) * self._epoch_s
        return done + more if off > _TOLERANCE * self.seconds else planned

    def state(self) -> dict[str, float]:
        """Return what a run that goes on must know."""
        return {"spent_s": self.seconds - self.left(), "epoch_s": self._epoch_s}

    def restore(self, state: Mapping[str, float] | None, history: list[Any]) -> None:
        """Go on with what `state` returned, or with the epochs of a run that had no timetable."""
        took = [row["seconds"] for row in history]
        self._before = sum(took) if state is None else state["spent_s"]
        self._epoch_s = sum(took) / max(len(took), 1) if state is None else state["epoch_s"]
