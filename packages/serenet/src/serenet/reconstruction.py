"""From views to a volume with a network of the SeReNet family, whole or in exact tiles.

The networks look only a few view pixels far, so tiles with that much surround give the same
volume as one pass over the whole field: no blending, no seams.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scopekit.errors import UserError
from scopekit.memory import GB, MemoryBudget, memory_budget
from serenet.networks import SeReNet
from serenet.views import decompose_window

# Share of the budget planned for; the rest is for the allocator.
_PLANNED = {"cpu": 0.95, "cuda": 0.7}
# Taken by the libraries whatever the size of a tile.
_WORK_SPACE = 80_000_000
# bfloat16 is not half of it: inputs and results stay float32.
_HALF_SHARE = 0.7
_SMALLEST_CORE = 4


@dataclass(frozen=True)
class Tile:
    """A part of the field in view pixels, with the surround it needs, and its place in the volume.

    Attributes
    ----------
    rows, columns
        First and last (exclusive) view pixel, surround included.
    volume_rows, volume_columns
        The part of the volume it gives.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    volume_rows: tuple[int, int]
    volume_columns: tuple[int, int]


def volume_shape(n_depths: int, field: tuple[int, ...], scale: float) -> tuple[int, int, int]:
    """Return (D, H, W) of the volume reconstructed from views of height and width ``field``."""
    return (n_depths, round(field[-2] * scale), round(field[-1] * scale))


def plan_tiles(
    model: SeReNet,
    field: tuple[int, int],
    n_depths: int,
    scale: float,
    budget: MemoryBudget,
    *,
    half: bool = False,
) -> list[Tile]:
    """Cut a field into equal tiles that fit the memory budget, with as little surround as can be.

    Parameters
    ----------
    model
        The network.
    field
        Height and width of the views.
    n_depths
        Planes of the volume.
    scale
        Volume pixels per view pixel.
    budget
        What may be allocated.
    half
        Whether the network runs in half precision.

    Raises
    ------
    UserError
        If not even the smallest tile fits.
    """
    device = next(model.parameters()).device.type
    per_pixel = 4 * model.peak_values * n_depths * (_HALF_SHARE if half else 1)
    fixed = _WORK_SPACE + 4 * model.n_views * field[0] * field[1]
    area = (budget.available * _PLANNED[device] - fixed) / per_pixel
    possible = [_possible_cuts(n, model.halo) for n in field]
    fitting = [
        (rows[0] * columns[0], rows[2], columns[2])
        for rows, columns in itertools.product(*possible)
        if rows[1] * columns[1] <= area
    ]
    if not fitting:
        rows, columns = (min(sides for _, sides, _ in of_axis) for of_axis in possible)
        least = (rows * columns * per_pixel + fixed) / _PLANNED[device]
        needed = (budget.total - budget.available + least) / GB
        raise UserError(
            f"--max-memory-gb {budget.total / GB:.2f} is too small for {n_depths} depths; "
            f"give at least {math.ceil(needed * 20) / 20:.2f}"
        )
    cuts = min(fitting)[1:]
    return [
        Tile(
            *(_with_surround(core, n, model.halo) for core, n in zip(cores, field, strict=True)),
            *(_in_volume(core, n, scale) for core, n in zip(cores, field, strict=True)),
        )
        for cores in ((r, c) for r in _pairs(cuts[0]) for c in _pairs(cuts[1]))
    ]


def _possible_cuts(n: int, halo: int) -> list[tuple[int, int, list[int]]]:
    """Return (sum of the tiles' sides, the largest side, borders) for every number of tiles."""
    possible = []
    for count in range(1, max((n - 2 * halo) // _SMALLEST_CORE, 1) + 1):
        cuts = _equal_cuts(n, halo, count)
        sides = [b - a for a, b in (_with_surround(core, n, halo) for core in _pairs(cuts))]
        possible.append((sum(sides), max(sides), cuts))
    return possible


def _equal_cuts(n: int, halo: int, count: int) -> list[int]:
    """Return borders of ``count`` parts that are equal together with their surround.

    Small tiles at the field's border, which needs no surround, would make convolutions choose
    algorithms that take several times the memory.
    """
    side = (n + 2 * halo * (count - 1)) / count
    return [0, *(round(halo + i * (side - 2 * halo)) for i in range(1, count)), n]


def _pairs(cuts: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(cuts))


def _with_surround(core: tuple[int, int], n: int, halo: int) -> tuple[int, int]:
    return max(core[0] - halo, 0), min(core[1] + halo, n)


def _in_volume(core: tuple[int, int], n: int, scale: float) -> tuple[int, int]:
    size = round(n * scale)
    return round(core[0] * size / n), round(core[1] * size / n)


@torch.no_grad()
def reconstruct_tile(
    views: Tensor, model: SeReNet, shift: Tensor, scale: float, tile: Tile, *, half: bool = False
) -> Tensor:
    """Return the part of the volume that ``tile`` stands for.

    Parameters
    ----------
    views
        (A, h, w), the whole field.
    model
        The network, in evaluation mode.
    shift
        (A, D, 2), object pixels.
    scale
        Volume pixels per view pixel.
    tile
        From `plan_tiles`.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.

    Returns
    -------
    Tensor
        (D, rows, columns), float32, not negative.
    """
    device = next(model.parameters()).device
    inputs = decompose_window(views.to(device), shift.to(device) / scale, tile.rows, tile.columns)[
        None
    ].contiguous(memory_format=torch.channels_last_3d)
    dtype = torch.bfloat16 if device.type == "cpu" else torch.float16
    with torch.autocast(device.type, dtype, enabled=half):
        enlarged = model.enlarged(inputs)[0, 0].float()
    del inputs
    for axis, (place, covered, n) in enumerate(
        zip(
            (tile.volume_rows, tile.volume_columns),
            (tile.rows, tile.columns),
            views.shape[-2:],
            strict=True,
        )
    ):
        enlarged = _resize_window(
            enlarged,
            axis + 1,
            place,
            covered[0] * model.enlargement,
            n * model.enlargement,
            round(n * scale),
        )
    return enlarged.clamp_(min=0)


def _resize_window(
    x: Tensor, axis: int, place: tuple[int, int], first: int, source: int, target: int
) -> Tensor:
    """Return samples ``place`` of the linear resize of an axis from ``source`` to ``target``.

    ``x`` holds the source from sample ``first`` on. Same sampling points as
    ``interpolate(..., align_corners=False)``.
    """
    points = (torch.arange(*place, device=x.device, dtype=torch.float64) + 0.5) * source / target
    points = (points - 0.5).clamp(min=0)
    below = points.floor()
    weight = (points - below).to(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.dim())])
    lower = below.long()
    upper = (lower + 1).clamp(max=source - 1)
    return torch.lerp(
        x.index_select(axis, lower - first), x.index_select(axis, upper - first), weight
    )


def reconstruct_tiles(
    views: Tensor,
    model: SeReNet,
    shift: Tensor,
    scale: float,
    tiles: list[Tile],
    *,
    half: bool = False,
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield every tile and its part of the volume, see `reconstruct_tile`."""
    for tile in tiles:
        yield tile, reconstruct_tile(views, model, shift, scale, tile, half=half)


def check_inputs(views: Tensor, model: SeReNet, shift: Tensor) -> None:
    """Raise `UserError` if views, model and shift do not belong together."""
    if views.dim() != 3 or views.shape[0] != model.n_views:
        raise UserError(
            f"views have shape {tuple(views.shape)}; the model takes ({model.n_views}, h, w)"
        )
    if shift.dim() != 3 or shift.shape[0] != model.n_views or shift.shape[2] != 2:
        raise UserError(
            f"the PSF shift has shape {tuple(shift.shape)}; expected ({model.n_views}, depths, 2)"
        )


def reconstruct(
    views: Tensor,
    model: SeReNet,
    shift: Tensor,
    scale: float,
    *,
    half: bool = False,
    max_memory_gb: float | None = None,
) -> Tensor:
    """Reconstruct a volume from the views of a light field.

    Parameters
    ----------
    views
        (A, h, w), in the model's channel order, background subtracted, in counts.
    model
        From `serenet.load_checkpoint`.
    shift
        (A, D, 2), row and column shift of the PSF in object pixels.
    scale
        Volume pixels per view pixel, ``n_num / scanning``: 13 / 3 for nnum13, 5 for nnum15.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. Tiles give the same volume.

    Returns
    -------
    Tensor
        (D, round(h scale), round(w scale)), float32 on the CPU, not negative.
    """
    check_inputs(views, model, shift)
    device = next(model.parameters()).device
    volume = torch.empty(volume_shape(shift.shape[1], tuple(views.shape[-2:]), scale))
    budget = memory_budget(device, max_memory_gb)
    if device.type == "cpu":
        budget = MemoryBudget(budget.available - volume.numel() * 4, budget.total)
    field = (views.shape[-2], views.shape[-1])
    tiles = plan_tiles(model, field, shift.shape[1], scale, budget, half=half)
    for tile, part in reconstruct_tiles(views, model, shift, scale, tiles, half=half):
        volume[:, slice(*tile.volume_rows), slice(*tile.volume_columns)] = part
    return volume
