"""Structure and brightness of a stack of any size, and its image by the microscope of the model."""

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.errors import UserError
from scopekit.images.files import VoxelSize
from scopekit.images.plane_file import Planes, WritablePlanes
from scopekit.images.target import require_finite
from scopekit.memory import MemoryBudget, memory_budget
from scopekit.progress import OnProgress, counted
from tenet.array_kinds import Array, Kind, like, to_array
from tenet.data.recordings import Recording
from tenet.data.value_range import ValueRange, scale_of
from tenet.enhancement.chunks import Chunk
from tenet.enhancement.plan import Plan, plan_enhancement
from tenet.enhancement.reimaging import Window, reimage_window
from tenet.network.jnet import JNet, hill
from tenet.network.scale import find_scale, voxels_looked_at

# Recorded voxels (z, y, x) that a time is taken from: half a second of a CPU at most.
_TIMED_SHAPE = (8, 48, 48)
# Less work than so many times that is soon done.
_WORTH_TIMING = 20


@dataclass(frozen=True)
class Enhanced(Generic[Kind]):
    """What JNet makes of a stack; arrays or tensors of float32, as the stack was.

    Attributes
    ----------
    structure, brightness
        (Z scale, Y, X), from 0 to 1.
    reconstruction
        (Z, Y, X), from 0 to 1: their product, or that of the quantised structure where
        ``use_x_quantized`` says so, as the microscope would image it.
    voxel_um
        (z, y, x) step of structure and brightness; the reconstruction has that of the stack.
    value_range
        Values of the stack that were 0 and 1 to the network.
    """

    structure: Kind
    brightness: Kind
    reconstruction: Kind
    voxel_um: VoxelSize
    value_range: ValueRange


@overload
def enhance(
    model: JNet,
    stack: Tensor,
    *,
    voxel_um: VoxelSize | None = ...,
    value_range: ValueRange | None = ...,
    with_hill: bool = ...,
    max_memory_gb: float | None = ...,
    on_progress: OnProgress | None = ...,
) -> Enhanced[Tensor]: ...
@overload
def enhance(
    model: JNet,
    stack: NDArray[Any] | Recording,
    *,
    voxel_um: VoxelSize | None = ...,
    value_range: ValueRange | None = ...,
    with_hill: bool = ...,
    max_memory_gb: float | None = ...,
    on_progress: OnProgress | None = ...,
) -> Enhanced[Array]: ...
def enhance(
    model: JNet,
    stack: NDArray[Any] | Tensor | Recording,
    *,
    voxel_um: VoxelSize | None = None,
    value_range: ValueRange | None = None,
    with_hill: bool = True,
    max_memory_gb: float | None = None,
    on_progress: OnProgress | None = None,
) -> Enhanced[Array] | Enhanced[Tensor]:
    """Enhance a stack, in chunks where it does not fit the memory.

    Parameters
    ----------
    model
        The network, as from `tenet.load_model`, on the device where it is to run; it runs in
        evaluation mode.
    stack
        (Z, Y, X) as recorded, of any size and in any unit; or what `tenet.read_recording` read,
        whose 0 and 1 stay what they are, and which tells its voxel size.
    voxel_um
        (z, y, x) step of the stack; by default that of the recording, else the configuration's.
    value_range
        Values that become 0 and 1, others are clipped; by default a stack's least and largest, or
        what fits best (`tenet.network.scale`), if the network was trained for ``any_scale``.
    with_hill
        Whether the network is shown what `tenet.network.jnet.hill` makes of the stack, as while it
        learns. Published inference on beads does without.
    max_memory_gb
        Peak of the process on the CPU, or of the device's memory on CUDA; by default what it holds
        and 80 % of what is free.
    on_progress
        Told the number of parts done, and of all; what it raises ends the work.

    Returns
    -------
    Enhanced
        Structure, brightness, reconstruction, and the voxel size of the former two.

    Raises
    ------
    UserError
        If the stack has other axes, holds NaN or is constant, or if the memory is too small.

    Examples
    --------
    >>> import numpy as np, tenet
    >>> model = tenet.load_model("demo_pretrain")
    >>> stack = np.random.default_rng(0).integers(90, 400, (4, 24, 24))
    >>> found = tenet.enhance(model, stack, voxel_um=(0.8, 0.2, 0.2))
    >>> found.structure.shape, found.reconstruction.shape, found.voxel_um
    ((16, 24, 24), (4, 24, 24), (0.2, 0.2, 0.2))
    """
    if isinstance(stack, Recording):
        voxel_um = voxel_um or stack.voxel_um
        if not (model.params.any_scale and stack.own_scale):
            value_range = value_range or (0.0, 1.0)
        stack = stack.volume
    if stack.ndim != 3:
        raise UserError(f"a stack of shape {tuple(stack.shape)}; expected (Z, Y, X)")
    volume = to_array(stack)
    zero, one = scale_of("the stack", *_extremes(volume), value_range)
    if value_range is None:
        zero, one = own_range(model, volume) or (zero, one)
    fine = fine_shape(model, volume.shape)
    structure, brightness = (np.empty(fine, np.float32) for _ in range(2))
    reconstruction = np.empty(volume.shape, np.float32)
    enhance_into(
        model,
        volume,
        (zero, one),
        (structure, brightness, reconstruction),
        with_hill=with_hill,
        max_memory_gb=max_memory_gb,
        held=2 * structure.nbytes + reconstruction.nbytes,
        on_progress=on_progress,
    )
    z_um, y_um, x_um = voxel_um or model.recorded_voxel_um
    made = [like(torch.from_numpy(v), stack) for v in (structure, brightness, reconstruction)]
    fine_um = (z_um / model.image.scale, y_um, x_um)
    return Enhanced(made[0], made[1], made[2], fine_um, (zero, one))


class Journal(Protocol):
    """What remembers which parts of a stack are finished."""

    def finished(self) -> Collection[int]:
        """Return their numbers."""

    def finish(self, part: int) -> None:
        """Remember one."""


def enhance_into(
    model: JNet,
    volume: Planes,
    value_range: ValueRange,
    results: tuple[WritablePlanes, WritablePlanes, WritablePlanes],
    *,
    with_hill: bool = True,
    max_memory_gb: float | None = None,
    held: int = 0,
    on_progress: OnProgress | None = None,
) -> None:
    """Enhance a stack (Z, Y, X) into structure, brightness and reconstruction, see `enhance`.

    ``held`` is what these take of the memory, in bytes, which need not be taken yet.
    """
    budget = memory_budget(model.device, max_memory_gb)
    if model.device.type == "cpu":
        budget = MemoryBudget(budget.available - held, budget.total)
    plan = plan_enhancement(model, volume.shape, budget)
    work = StackWork(model, volume, value_range, *results, plan, with_hill)
    work.do_all(counted(on_progress, plan.steps))


def expected_seconds(model: JNet, shape: tuple[int, ...], plan: Plan, *, own: bool) -> float:
    """Return how long a stack (Z, Y, X) will take on a CPU, by the time of a small one.

    0 where that is soon done, or on another device; ``own`` says whether its scale is to be found.
    """
    made = sum(chunk.voxels for chunk in plan.chunks)
    made += voxels_looked_at(model, shape) if own else 0
    ratio = made / (model.image.scale * math.prod(_TIMED_SHAPE))
    if model.device.type != "cpu" or ratio < _WORTH_TIMING:
        return 0.0
    return ratio * _seconds_of_small(model)


# All time points of a run are of one model.
@lru_cache(maxsize=1)
def _seconds_of_small(model: JNet) -> float:
    image = torch.rand((1, 1, *_TIMED_SHAPE), generator=torch.Generator().manual_seed(0))
    with _evaluating(model):
        model.enhance(image)  # what is first done takes longer
        started = time.perf_counter()
        model.enhance(image)
    return time.perf_counter() - started


@dataclass(frozen=True)
class StackWork:
    """A stack that is enhanced part by part, into volumes in memory or on disk.

    Attributes
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
    with_hill
        See `enhance`.
    """

    model: JNet
    volume: Planes
    value_range: ValueRange
    structure: WritablePlanes
    brightness: WritablePlanes
    reconstruction: WritablePlanes
    plan: Plan
    with_hill: bool = True

    def do(self, part: int) -> None:
        """Make a part; those that are imaged again come after all others."""
        chunks = self.plan.chunks
        with _evaluating(self.model):
            if part < len(chunks):
                self._enhance(chunks[part])
            else:
                self._reimage(self.plan.windows[part - len(chunks)])

    def do_all(self, advance: Callable[[], None], journal: Journal | None = None) -> None:
        """Make all parts, but those that are finished; tell of each."""
        finished = journal.finished() if journal else ()
        for part in range(self.plan.steps):
            if part not in finished:
                self.do(part)
                if journal:
                    journal.finish(part)
            advance()

    def _enhance(self, chunk: Chunk) -> None:
        place = chunk.place()
        found = _enhance_chunk(
            self.model, self.volume, self.value_range, chunk, with_hill=self.with_hill
        )
        for part in found:
            require_finite(part)
        self.structure[place], self.brightness[place] = found

    def _reimage(self, window: Window) -> None:
        section = self._section
        part = reimage_window(self.model, section, self.structure, self.brightness, window)
        require_finite(part)
        self.reconstruction[window.place()] = part

    @cached_property
    def _section(self) -> Tensor:
        return self.model.image.section()


def fine_shape(model: JNet, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of the result for a stack (Z, Y, X)."""
    return shape[0] * model.image.scale, shape[1], shape[2]


def own_range(model: JNet, volume: Planes) -> ValueRange | None:
    """Return the values of a stack (Z, Y, X) that are 0 and 1 to a network for ``any_scale``.

    ``None`` for other networks, and where there is nothing to find.
    """
    if not model.params.any_scale:
        return None
    with _evaluating(model):
        return find_scale(model, volume)


def _extremes(volume: NDArray[Any]) -> tuple[float, float]:
    """Return minimum and maximum, planes looked at one by one; NaN if any value is."""
    lows, highs = zip(*((plane.min(), plane.max()) for plane in volume), strict=True)
    return float(np.min(lows)), float(np.max(highs))


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
    model: JNet, volume: Planes, value_range: ValueRange, chunk: Chunk, *, with_hill: bool
) -> tuple[Array, Array]:
    """Return structure and brightness of the core of a chunk, which alone is read."""
    low, high = value_range
    part = volume[chunk.source(model.image.scale)]
    # In the precision of the values: an offset may be far larger than what it is added to.
    part = part.astype(np.result_type(part.dtype, np.float32))
    part -= part.dtype.type(low)
    part /= part.dtype.type(high - low)
    image = torch.from_numpy(part).float()[None, None].to(model.device).clamp_(0, 1)
    structure, brightness = model.enhance(hill(image) if with_hill else image)
    inner = chunk.inner()
    return structure[0, 0][inner].cpu().numpy(), brightness[0, 0][inner].cpu().numpy()
