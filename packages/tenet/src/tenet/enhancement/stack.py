"""Structure and brightness of a stack of any size, and its image by the microscope of the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.errors import UserError
from scopekit.images.plane_file import Planes, WritablePlanes
from scopekit.memory import GB, MemoryBudget, memory_budget
from tenet.enhancement.chunks import Chunk, plan_chunks
from tenet.enhancement.reimaging import Window, plan_windows, reimage_window
from tenet.network.jnet import JNet, hill

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
    plan = plan_enhancement(model, volume.shape, budget)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, plan.steps)

    enhance_into(model, volume, (low, high), structure, brightness, reconstruction, plan, advance)
    return Enhanced(*map(torch.from_numpy, (structure, brightness, reconstruction)))


@dataclass(frozen=True)
class Plan:
    """The parts that a stack is enhanced in, and those that are imaged again."""

    chunks: list[Chunk]
    windows: list[Window]

    @property
    def steps(self) -> int:
        """How many parts there are."""
        return len(self.chunks) + len(self.windows)


def plan_enhancement(model: JNet, shape: tuple[int, ...], budget: MemoryBudget) -> Plan:
    """Plan work on a stack (Z, Y, X) within a memory budget; raise `UserError` if it is too small.

    The results themselves are not part of the budget.
    """
    z, y, x = shape
    device = next(model.parameters()).device.type
    chunks = plan_chunks(model.params, (z, y, x), budget, device)
    return Plan(chunks, plan_windows(model, shape, budget))


def enhance_into(
    model: JNet,
    volume: Planes,
    value_range: tuple[float, float],
    structure: WritablePlanes,
    brightness: WritablePlanes,
    reconstruction: WritablePlanes,
    plan: Plan,
    advance: Callable[[], None],
) -> None:
    """Enhance a stack, part by part, into volumes in memory or on disk.

    Parameters
    ----------
    model
        The network; it runs in evaluation mode.
    volume
        (Z, Y, X).
    value_range
        Values that become 0 and 1; others are clipped.
    structure, brightness, reconstruction
        Get the results, see `Enhanced`.
    plan
        From `plan_enhancement`.
    advance
        Called after every part.
    """
    with _evaluating(model):
        for chunk in plan.chunks:
            place = chunk.place()
            structure[place], brightness[place] = _enhance_chunk(model, volume, value_range, chunk)
            advance()
        section = model.image.section()
        for window in plan.windows:
            part = reimage_window(model, section, structure, brightness, window)
            reconstruction[window.place()] = part
            advance()


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
def _evaluating(model: JNet) -> Iterator[None]:
    """Let a model be in evaluation mode, without gradients, while the block runs."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _enhance_chunk(
    model: JNet, volume: Planes, value_range: tuple[float, float], chunk: Chunk
) -> tuple[Array, Array]:
    """Return structure and brightness of the core of a chunk, which alone is read."""
    low, high = value_range
    part = volume[chunk.source(model.image.scale)].astype(np.float32)
    part -= np.float32(low)
    part /= np.float32(high - low)
    device = next(model.parameters()).device
    image = torch.from_numpy(part)[None, None].to(device).clamp_(0, 1)
    structure, brightness = model.enhance(hill(image))
    inner = chunk.inner()
    return structure[0, 0][inner].cpu().numpy(), brightness[0, 0][inner].cpu().numpy()
