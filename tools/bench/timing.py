"""Time and memory of two ways to the same result, taken in turn."""

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.machine import Machine, synchronise

# The first runs on CUDA load libraries and choose algorithms.
_CUDA_REPEATS = 5


@dataclass(frozen=True)
class Work:
    """The least that a computation does, counted from its formula.

    Attributes
    ----------
    flops
        Floating-point operations of the fast method.
    moved
        Bytes: every input read once, every result written once.
    precision
        Of most operations, as in `Machine.flops`.
    """

    flops: float
    moved: float
    precision: str = "float32"


@dataclass
class Result:
    """One comparison; times in seconds.

    ``share`` is that of the hardware limit: the time that the operations or the bytes take at the
    machine's measured speed, the longer of the two, over the time taken.
    """

    name: str
    seconds: float
    plain: str
    plain_seconds: float
    ratio: float
    max_relative_difference: float
    correlation: float
    peak_gib: float
    plain_peak_gib: float
    flops: float
    moved_bytes: float
    precision: str
    share: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {_duration(self.seconds)}, plain {_duration(self.plain_seconds)} "
            f"({self.plain}), {self.ratio:.1f} x faster, {self.share:.0%} of the {self.precision} "
            f"limit, difference {self.max_relative_difference:.1e}, correlation "
            f"{self.correlation:.6f}, peak {self.peak_gib:.2f} GiB, plain "
            f"{self.plain_peak_gib:.2f} GiB"
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


@dataclass(frozen=True)
class Bench:
    """Where and how large to measure.

    Attributes
    ----------
    device, machine
        The device and what it can do.
    full
        Take the full field of a camera.
    tiny
        Take sizes that run in no time, to see that the cases work.
    checkpoint
        Weights of a serenet; default: random ones.
    minutes
        How long networks learn.
    """

    device: torch.device
    machine: Machine
    full: bool = False
    tiny: bool = False
    checkpoint: Path | None = None
    minutes: float = 5.0

    @property
    def float32(self) -> str:
        """The precision of convolutions that are given float32."""
        return "tf32" if self.device.type == "cuda" else "float32"

    def compare(
        self,
        name: str,
        ours: Callable[[], Tensor],
        plain_name: str,
        plain: Callable[[], Tensor],
        work: Work,
        *,
        scale: float = 1,
        repeats: int = 3,
        matching: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda a, b: (a, b),
    ) -> Result:
        """Time both in turn.

        Parameters
        ----------
        name
            What is computed.
        ours, plain
            Return the result; called alternately.
        plain_name
            How the plain one does it.
        work
            The least that ours does.
        scale
            How many times as much ours does as the plain run.
        repeats
            The shortest of so many runs counts.
        matching
            Takes both results and returns those numbers of them that should be equal.
        """
        if self.device.type == "cuda":
            repeats = max(repeats, _CUDA_REPEATS)
        if self.tiny:
            repeats = 1
        if self.device.type == "cuda" and not self.tiny:
            ours(), plain()
        times: list[tuple[float, float]] = []
        peak, plain_peak = 0.0, 0.0
        for repeat in range(repeats):
            seconds, gib, result = self._measure(ours)
            plain_seconds, plain_gib, expected = self._measure(plain)
            times.append((seconds, scale * plain_seconds))
            peak, plain_peak = max(peak, gib), max(plain_peak, plain_gib)
            if repeat == repeats - 1:
                difference, correlation = _agreement(*matching(result, expected))
            del result, expected
        best, plain_best = (min(column) for column in zip(*times, strict=True))
        machine = self.machine
        limit = max(work.flops / machine.flops[work.precision], work.moved / machine.bandwidth)
        return Result(
            name=name,
            seconds=best,
            plain=plain_name,
            plain_seconds=plain_best,
            ratio=plain_best / best,
            max_relative_difference=difference,
            correlation=correlation,
            peak_gib=peak,
            plain_peak_gib=plain_peak,
            flops=work.flops,
            moved_bytes=work.moved,
            precision=work.precision,
            share=limit / best,
        )

    def _measure(self, work: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
        """Return seconds, peak memory in GiB and the result."""
        if self.device.type == "cpu":
            return _measure_on_cpu(work)
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        result = work()
        synchronise(self.device)
        seconds = time.perf_counter() - start
        return seconds, torch.cuda.max_memory_allocated(self.device) / 2**30, result


def _measure_on_cpu(work: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
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


def counted_flops(model: nn.Module, *inputs: Any) -> float:
    """Return the operations of a network's convolutions and matrix products, computing none."""
    arguments = [x.to("meta") if isinstance(x, Tensor) else x for x in inputs]
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).to("meta")(*arguments)
    return float(counter.get_total_flops())


def _agreement(result: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return the largest difference relative to the largest value, and the correlation."""
    result, expected = result.detach().float().flatten(), expected.detach().float().flatten()
    expected = expected.to(result.device)
    difference = float((result - expected).abs().max() / expected.abs().max())
    a, b = result - result.double().mean(), expected - expected.double().mean()
    cosine = (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()
    return difference, float(cosine)
