"""How a stack is cut into chunks that fit the memory, with the surround that JNet looks at."""

import itertools
import math
from dataclasses import dataclass

from scopekit.cuts import Span, least_work, possible_cuts, smallest_part, with_surround
from scopekit.errors import Page, UserError
from scopekit.memory import GB, MemoryBudget
from tenet.config.sections import Params

# Share of the budget planned for; the rest is for the allocator.
_PLANNED = {"cpu": 0.9, "cuda": 0.7, "mps": 0.7}
# Taken by the libraries whatever the size of a chunk.
_WORK_SPACE = 100_000_000
# Numbers held at once per voxel of the result and channel of the finest level, as measured.
_VALUES_PER_CHANNEL = 6.0
# Surround, in voxels of the coarsest level, and at most in voxels of the result: what lies further
# off changes the result too little to pay for.
_HALO_STEPS = 7
_LARGEST_HALO = 64
_BLOCK_PLANES = 16


@dataclass(frozen=True)
class Chunk:
    """A part of the result and the surround that it is computed from.

    Attributes
    ----------
    covered
        First and last (exclusive) voxel of the result on each axis (z, y, x), surround included.
    core
        The part that is kept.
    """

    covered: tuple[Span, Span, Span]
    core: tuple[Span, Span, Span]

    @property
    def voxels(self) -> int:
        """How many voxels of the result it is computed from."""
        return math.prod(stop - start for start, stop in self.covered)

    def place(self) -> tuple[slice, ...]:
        """Return where the part lies in the result."""
        return tuple(slice(*span) for span in self.core)

    def inner(self) -> tuple[slice, ...]:
        """Return where the part lies in what is computed."""
        axes = zip(self.core, self.covered, strict=True)
        return tuple(slice(a - start, b - start) for (a, b), (start, _) in axes)

    def source(self, scale: int) -> tuple[slice, ...]:
        """Return what of the recorded stack it is computed from."""
        (start, stop), *lateral = self.covered
        return slice(start // scale, stop // scale), *(slice(*span) for span in lateral)


def receptive_field(params: Params) -> int:
    """Return how many voxels of the result around it a voxel depends on, on each side.

    Two convolutions a residual block, in voxels of its level: 312 for the published network.
    """
    convolutions = 2 * params.nblocks
    total: int = 3 + 2 * convolutions + 1
    for level in range(1, params.levels + 1):
        # The pooled voxels reach one further, as does the enlargement.
        total += (2 * convolutions + 2) * 2**level
    return total


def _scale(params: Params) -> int:
    return params.scale if params.superres else 1


def _steps(params: Params) -> tuple[int, int, int]:
    """Return what chunks start at multiples of: where pooling does, and at recorded planes."""
    grid = 2**params.levels
    return math.lcm(_scale(params), grid), grid, grid


def halo(params: Params) -> tuple[int, ...]:
    """Return the surround of a chunk on each axis (z, y, x), voxels of the result."""
    reach = min(receptive_field(params), _HALO_STEPS * 2**params.levels, _LARGEST_HALO)
    # Planes are interpolated between their neighbours before all else.
    reaches = (reach + _scale(params), reach, reach)
    return tuple(
        math.ceil(n / step) * step for n, step in zip(reaches, _steps(params), strict=True)
    )


def sees_everything(params: Params) -> bool:
    """Whether self-attention makes every voxel depend on all."""
    return any(params.attn_list)


def bytes_for(params: Params, voxels: float, device: str) -> float:
    """Return the memory that a chunk of so many voxels, surround included, takes."""
    return (voxels * _per_voxel(params) + _WORK_SPACE) / _PLANNED[device]


def _per_voxel(params: Params) -> float:
    return 4 * _VALUES_PER_CHANNEL * params.hidden_channels_list[0]


def block(params: Params, side: int) -> tuple[int, int, int]:
    """Return what results may be stored in blocks of (z, y, x): whole pooling grids.

    A few planes, about ``side`` voxels across.
    """
    z, y, x = _steps(params)
    return z * max(_BLOCK_PLANES // z, 1), math.lcm(y, side), math.lcm(x, side)


def plan_chunks(
    params: Params,
    shape: tuple[int, int, int],
    budget: MemoryBudget,
    device: str,
    blocks: tuple[int, int, int] | None = None,
) -> list[Chunk]:
    """Cut a stack into chunks that fit the memory budget, with as little surround as can be.

    Chunks start where the network's pooling grids do, and at whole recorded planes.

    Parameters
    ----------
    params
        The network.
    shape
        (Z, Y, X) of the recorded stack.
    budget
        What may be allocated.
    device
        ``cpu``, ``cuda`` or ``mps``.
    blocks
        What the result is stored in blocks of: chunks are to be made of whole ones.

    Raises
    ------
    UserError
        If not even the smallest chunk fits, or if the network has self-attention and the stack
        does not fit as a whole.
    """
    z, *lateral = shape
    result = (z * _scale(params), *lateral)
    halos, steps = halo(params), blocks or _steps(params)
    possible = [
        possible_cuts(n, halo, step, step)
        for n, halo, step in zip(result, halos, steps, strict=True)
    ]
    if sees_everything(params):
        possible = [of_axis[:1] for of_axis in possible]
    largest = (budget.available * _PLANNED[device] - _WORK_SPACE) / _per_voxel(params)
    cuts = least_work(possible, largest)
    if cuts is None:
        least = bytes_for(params, smallest_part(possible), device)
        needed = math.ceil((budget.total - budget.available + least) / GB * 20) / 20
        too_small = f"`max_memory_gb={budget.total / GB:.2f}` is too small for a stack {shape}"
        if sees_everything(params):
            raise UserError(
                f"{too_small}, which a network with self-attention (attn_list) must see as a "
                f"whole; give at least {needed:.2f}, or crop the stack",
                page=Page.memory,
            )
        raise UserError(f"{too_small}; give at least {needed:.2f}", page=Page.memory)
    return [
        Chunk(
            covered=tuple(map(with_surround, cores, result, halos)),  # type: ignore[arg-type]
            core=cores,  # type: ignore[arg-type]
        )
        for cores in itertools.product(*(cut.cores for cut in cuts))
    ]
