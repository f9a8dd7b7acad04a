"""Structure and brightness of a stack of any size, and its image by the microscope of the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.errors import UserError
from scopekit.memory import GB, MemoryBudget, memory_budget
from tenet.chunks import Chunk, plan_chunks
from tenet.jnet import JNet, hill
from tenet.reimaging import plan_windows, reimage_window

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Enhanced:
    """What JNet makes of a stack; float32, on the CPU.

    Attributes
    ----------
    structure, brightness
        (Z scale, Y, X), from 0 to 1.
    reconstruction
        (Z, Y, X), from 0 to 1: their product, or that of the quantised structure where
        ``use_x_quantized`` says so, as the microscope would image it.
    """

    structure: Tensor
    brightness: Tensor
    reconstruction: Tensor


def enhance(
    model: JNet,
    stack: Tensor,
    *,
    full_range: tuple[float, float] | None = None,
    max_memory_bytes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Enhanced:
    """Enhance a stack, in chunks where it does not fit the memory.

    Parameters
    ----------
    model
        The network, on the device where it is to run; it runs in evaluation mode.
    stack
        (Z, Y, X), of any size.
    full_range
        Values that become 0 and 1, others are clipped; by default the stack's minimum and maximum.
    max_memory_bytes
        Peak of the process on the CPU, or of the device's memory on CUDA; by default what it holds
        and 80 % of what is free.
    on_progress
        Called with the number of parts done, and of all.

    Raises
    ------
    UserError
        If the stack has other axes, holds NaN or is constant, or if the memory is too small.
    """
    if stack.dim() != 3:
        raise UserError(f"a stack of shape {tuple(stack.shape)}; expected (Z, Y, X)")
    volume = stack.detach().cpu().numpy()
    low, high = value_range(volume) if full_range is None else full_range
    fine = fine_shape(model, volume.shape)
    structure, brightness = (np.empty(fine, np.float32) for _ in range(2))
    reconstruction = np.empty(volume.shape, np.float32)
    device = next(model.parameters()).device
    limit = None if max_memory_bytes is None else max_memory_bytes / GB
    budget = memory_budget(device, limit)
    if device.type == "cpu":
        taken = 2 * structure.nbytes + reconstruction.nbytes
        budget = MemoryBudget(budget.available - taken, budget.total)
    chunks = plan_chunks(model.params, volume.shape, budget, device.type)
    windows = plan_windows(model, volume.shape, budget)
    done, total = 0, len(chunks) + len(windows)
    with evaluating(model):
        for chunk in chunks:
            place = chunk.place()
            structure[place], brightness[place] = enhance_chunk(model, volume, low, high, chunk)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        section = model.image.section()
        for window in windows:
            part = reimage_window(model, section, structure, brightness, window)
            reconstruction[window.place()] = part
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    return Enhanced(*map(torch.from_numpy, (structure, brightness, reconstruction)))


def fine_shape(model: JNet, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of the result for a stack (Z, Y, X)."""
    return shape[0] * model.image.scale, shape[1], shape[2]


def value_range(volume: NDArray) -> tuple[float, float]:
    """Return minimum and maximum; raise `UserError` if all values are one, or some are no numbers.

    Planes are looked at one by one.
    """
    lows, highs = zip(*((plane.min(), plane.max()) for plane in volume), strict=True)
    low, high = float(np.min(lows)), float(np.max(highs))
    if not np.isfinite([low, high]).all():
        raise UserError("NaN or infinite values; replace them by numbers first")
    if low == high:
        raise UserError(f"constant, every voxel is {low:g}; leave it out")
    return low, high


@contextmanager
def evaluating(model: JNet) -> Iterator[None]:
    """Let a model be in evaluation mode, without gradients, while the block runs."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def enhance_chunk(
    model: JNet, volume: NDArray, low: float, high: float, chunk: Chunk
) -> tuple[Array, Array]:
    """Return structure and brightness of the core of a chunk.

    Parameters
    ----------
    model
        In evaluation mode, see `evaluating`.
    volume
        (Z, Y, X), the whole stack; only the chunk is read.
    low, high
        Values that become 0 and 1; others are clipped.
    chunk
        From `plan_chunks`.
    """
    part = volume[chunk.source(model.image.scale)].astype(np.float32)
    part -= np.float32(low)
    part /= np.float32(high - low)
    device = next(model.parameters()).device
    image = torch.from_numpy(part)[None, None].to(device).clamp_(0, 1)
    structure, brightness = model.enhance(hill(image))
    inner = chunk.inner()
    return structure[0, 0][inner].cpu().numpy(), brightness[0, 0][inner].cpu().numpy()
