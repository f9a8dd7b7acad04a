"""What the machine can do: its name, and the speed of its matrix products and copies, measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Machine:
    """A processor or graphics card and its measured limits.

    Attributes
    ----------
    name
        The model, as the system tells it.
    threads
        That PyTorch computes with, on the CPU.
    flops
        Floating-point operations per second of a large matrix product, by precision. ``tf32`` is
        what convolutions in float32 use on CUDA by default.
    bandwidth
        Bytes per second of a large copy, read and written.
    """

    name: str
    threads: int
    flops: dict[str, float]
    bandwidth: float


def measure_machine(device: torch.device, *, quick: bool = False) -> Machine:
    """Measure the limits of ``device``; ``quick`` takes sizes too small to be right."""
    on_cuda = device.type == "cuda"
    side = 256 if quick else 8192 if on_cuda else 2048
    precisions = ("float32", "bfloat16") + (("tf32", "float16") if on_cuda else ())
    flops = {name: _product_speed(device, name, side) for name in precisions}
    source = torch.ones((1 if quick else 1024 if on_cuda else 256) * 2**18, device=device)
    target = torch.empty_like(source)
    seconds = _shortest(lambda: target.copy_(source), device)
    return Machine(_name(device), torch.get_num_threads(), flops, 8 * source.numel() / seconds)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _product_speed(device: torch.device, precision: str, side: int) -> float:
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    factor = torch.rand((side, side), device=device).to(dtype)
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        seconds = _shortest(lambda: factor @ factor, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * side**3 / seconds


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(6):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "CPU"
