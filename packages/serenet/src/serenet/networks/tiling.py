"""Tiles of a field: how it is cut to fit the memory, and how a part of a grid is resized."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scopekit.cuts import least_work, possible_cuts, smallest_part, with_surround
from scopekit.errors import Page, UserError
from scopekit.memory import GB, MemoryBudget, float64_device

# Share of the budget planned for; the rest is for the allocator.
_PLANNED = {"cpu": 0.95, "cuda": 0.7, "mps": 0.7}
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

    @property
    def place(self) -> tuple[slice, slice, slice]:
        """Where its part lies in the volume (D, H, W)."""
        return slice(None), slice(*self.volume_rows), slice(*self.volume_columns)


def volume_shape(n_depths: int, field: tuple[int, ...], scale: float) -> tuple[int, int, int]:
    """Return (D, H, W) of the volume reconstructed from views of height and width ``field``."""
    return (n_depths, round(field[-2] * scale), round(field[-1] * scale))


@dataclass(frozen=True)
class Demand:
    """What a network asks for.

    Attributes
    ----------
    halo
        Surround of a tile, view pixels.
    step
        Tiles start at multiples of so many view pixels.
    field_values, tile_values
        Numbers held per view pixel of the whole field, and of a tile.
    """

    halo: int
    step: int
    field_values: float
    tile_values: float


def cut_field(
    field: tuple[int, int],
    scale: float,
    demand: Demand,
    budget: MemoryBudget,
    device: str,
    what: str,
    *,
    half: bool = False,
) -> list[Tile]:
    """Cut a field into equal tiles that fit the memory budget, with as little surround as can be.

    Parameters
    ----------
    field
        Height and width of the views.
    scale
        Pixels of the result per view pixel.
    demand
        What the network asks for.
    budget
        What may be allocated.
    device
        ``cpu``, ``cuda`` or ``mps``.
    what
        What does not fit, for the error.
    half
        Whether the network runs in half precision.

    Raises
    ------
    UserError
        If not even the smallest tile fits.
    """
    per_pixel = 4 * demand.tile_values * (_HALF_SHARE if half else 1)
    fixed = _WORK_SPACE + 4 * demand.field_values * field[0] * field[1]
    area = (budget.available * _PLANNED[device] - fixed) / per_pixel
    halo = demand.halo
    smallest = max(_SMALLEST_CORE, 2 * demand.step)
    possible = [possible_cuts(n, halo, demand.step, smallest) for n in field]
    cuts = least_work(possible, area)
    if cuts is None:
        least = (smallest_part(possible) * per_pixel + fixed) / _PLANNED[device]
        needed = (budget.total - budget.available + least) / GB
        raise UserError(
            f"`max_memory_gb={budget.total / GB:.2f}` is too small for {what}; "
            f"give at least {math.ceil(needed * 20) / 20:.2f}",
            page=Page.memory,
        )
    return [
        Tile(
            *(with_surround(core, n, halo) for core, n in zip(cores, field, strict=True)),
            *(_in_volume(core, n, scale) for core, n in zip(cores, field, strict=True)),
        )
        for cores in itertools.product(*(cut.cores for cut in cuts))
    ]


def part_tile(
    rows: tuple[int, int], columns: tuple[int, int], *, field: tuple[int, int], scale: float
) -> Tile:
    """Return a part of a field as a tile without surround."""
    places = (_in_volume(core, n, scale) for core, n in zip((rows, columns), field, strict=True))
    return Tile(rows, columns, *places)


def _in_volume(core: tuple[int, int], n: int, scale: float) -> tuple[int, int]:
    size = round(n * scale)
    return round(core[0] * size / n), round(core[1] * size / n)


def resize_window(
    x: Tensor, axis: int, place: tuple[int, int], first: int, source: int, target: int
) -> Tensor:
    """Return samples ``place`` of the linear resize of an axis from ``source`` to ``target``.

    ``x`` holds the source from sample ``first`` on. Same sampling points as
    ``interpolate(..., align_corners=False)``.
    """
    places = torch.arange(*place, device=float64_device(x), dtype=torch.float64)
    points = (places + 0.5) * source / target
    points = (points - 0.5).clamp(min=0)
    below = points.floor()
    weight = (points - below).to(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.dim())])
    lower = below.long()
    upper = (lower + 1).clamp(max=source - 1)
    # Beyond the part that is held, samples are of the tile's surround, which is cut off.
    last = x.shape[axis] - 1
    lower, upper = ((n - first).clamp(0, last).to(x.device) for n in (lower, upper))
    weight = weight.to(x.device)
    return torch.lerp(x.index_select(axis, lower), x.index_select(axis, upper), weight)
