"""Time and memory of two ways to the same result, taken in turn."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from torch import Tensor


@dataclass
class Result:
    """One comparison; times in seconds."""

    name: str
    seconds: float
    plain: str
    plain_seconds: float
    ratio: float
    max_relative_difference: float
    peak_gib: float
    plain_peak_gib: float


def measure(work: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """Return the seconds, the largest resident size in GiB, and the result."""
    process = psutil.Process()
    peak, done = process.memory_info().rss, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return seconds, peak / 2**30, result


def compare(
    name: str,
    ours: Callable[[], Tensor],
    plain_name: str,
    plain: Callable[[], Tensor],
    *,
    scale: float = 1,
    repeats: int = 3,
    differ: Callable[[Tensor, Tensor], float],
) -> Result:
    """Time both in turn; ``scale`` is how much more work ours does than the plain run."""
    times: list[tuple[float, float]] = []
    peak, plain_peak, difference = 0.0, 0.0, 0.0
    for _ in range(repeats):
        seconds, gib, result = measure(ours)
        plain_seconds, plain_gib, expected = measure(plain)
        times.append((seconds, scale * plain_seconds))
        peak, plain_peak = max(peak, gib), max(plain_peak, plain_gib)
        difference = differ(result, expected)
        del result, expected
    best, plain_best = (min(column) for column in zip(*times, strict=True))
    return Result(
        name, best, plain_name, plain_best, plain_best / best, difference, peak, plain_peak
    )


def relative(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().max() / expected.abs().max())
