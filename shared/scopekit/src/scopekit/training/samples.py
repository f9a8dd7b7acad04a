"""The samples of a training run, read ahead in other threads; each follows from seed and number."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

_STEPS_AHEAD = 2
_READERS = 2
_ORDER, _SAMPLE, _MODEL = 0, 1, 2  # independent streams of random numbers


class SampleStream:
    """Draws the samples of each step.

    Parameters
    ----------
    draw
        ``draw(item, generator)`` makes a sample; called in other threads.
    n_samples
        Samples in an epoch, each drawn once, in an order of its own.
    a_process, a_step
        Samples in a step: of one process, of all.
    seed
        Of the order and of the samples' random numbers.
    """

    def __init__(
        self,
        draw: Callable[[int, np.random.Generator], Any],
        *,
        n_samples: int,
        a_process: int,
        a_step: int,
        seed: int,
    ) -> None:
        self._draw, self._n_samples, self._seed = draw, n_samples, seed
        self._a_process, self._a_step = a_process, a_step

    def ahead(self, steps: range, rank: int) -> Iterator[list[Any]]:
        """Yield the samples of every step in process ``rank``, read while earlier ones are used."""
        with ThreadPoolExecutor(_READERS) as readers:
            queue: deque[list[Future[Any]]] = deque()
            for step in steps:
                queue.append([readers.submit(self._sample, n) for n in self._numbers(step, rank)])
                if len(queue) > _STEPS_AHEAD:
                    yield [future.result() for future in queue.popleft()]
            while queue:
                yield [future.result() for future in queue.popleft()]

    def model_seed(self, number: int) -> int:
        """Return the seed of what the model itself draws in a step of a process."""
        return int(self._random(_MODEL, number).integers(2**62))

    def _numbers(self, step: int, rank: int) -> range:
        first = step * self._a_step + rank * self._a_process
        return range(first, first + self._a_process)

    def _sample(self, number: int) -> Any:
        epoch, place = divmod(number, self._n_samples)
        order = self._random(_ORDER, epoch).permutation(self._n_samples)
        return self._draw(int(order[place]), self._random(_SAMPLE, number))

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._seed, stream, number]))
