"""The parts that a stack is enhanced in, as large as the memory lets them be."""

from dataclasses import dataclass

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget
from tenet.enhancement.chunks import Chunk, block, bytes_for, plan_chunks
from tenet.enhancement.reimaging import Window, bytes_for_window, plan_windows
from tenet.network.jnet import JNet

# Of blocks that results are stored in, in pixels, the best first: few files, else little memory.
_BLOCK_SIDES = (128, 64, 32)
_BLOCK_PLANES = 16


@dataclass(frozen=True)
class Plan:
    """The parts that a stack is enhanced in, and those that are imaged again.

    They are numbered in this order.
    """

    chunks: list[Chunk]
    windows: list[Window]

    @property
    def steps(self) -> int:
        """How many parts there are."""
        return len(self.chunks) + len(self.windows)

    def bytes_needed(self, model: JNet) -> float:
        """Return the memory that the largest part takes."""
        largest = max(chunk.voxels for chunk in self.chunks)
        of_chunks = bytes_for(model.params, largest, model.device.type)
        of_windows = bytes_for_window(model, max(window.voxels for window in self.windows))
        return max(of_chunks, of_windows)


@dataclass(frozen=True)
class Blocks:
    """What results are stored in blocks of (z, y, x): parts of the work are made of whole ones.

    Attributes
    ----------
    fine
        Those of structure and brightness.
    recorded
        Those of the reconstruction.
    """

    fine: tuple[int, int, int]
    recorded: tuple[int, int, int]


def plan_enhancement(
    model: JNet,
    shape: tuple[int, ...],
    budget: MemoryBudget,
    blocks: Blocks | None = None,
    device: str | None = None,
) -> Plan:
    """Plan work on a stack (Z, Y, X) within a memory budget; raise `UserError` if it is too small.

    The results themselves are not part of the budget. ``device`` is the kind that it is planned
    for, by default that of the model.
    """
    z, y, x = shape
    params, device = model.params, device or model.device.type
    if blocks is None:
        chunks = plan_chunks(params, (z, y, x), budget, device)
        return Plan(chunks, plan_windows(model, shape, budget))
    chunks = plan_chunks(params, (z, y, x), budget, device, blocks.fine)
    return Plan(chunks, plan_windows(model, shape, budget, blocks.recorded))


def blocks_within(model: JNet, shape: tuple[int, ...], budget: MemoryBudget) -> Blocks:
    """Return the largest blocks whose parts fit a memory budget; raise `UserError` if none do."""
    for side in _BLOCK_SIDES:
        blocks = Blocks(block(model.params, side), (_BLOCK_PLANES, side, side))
        try:
            plan_enhancement(model, shape, budget, blocks)
        except UserError:
            if side == _BLOCK_SIDES[-1]:
                raise
        else:
            break
    return blocks
