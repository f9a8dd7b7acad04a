"""From views to a volume with a network, whole or in exact tiles.

The networks look only a few view pixels far, so tiles with that much surround give the same
volume as one pass over the whole field: no blending, no seams.
"""

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget, memory_budget
from scopekit.progress import OnProgress, counted
from serenet.networks.base import Network, Prepared, VolumeNetwork, compute
from serenet.networks.tiling import Tile, cut_field, part_tile, volume_shape

Place = tuple[slice, slice, slice]

# View pixels a side that a time is taken from: a third of a second of a CPU, of all that ship.
_TIMED_SIDE = 24
# Less work than so many times that is soon done.
_WORTH_TIMING = 20


def plan_tiles(
    model: VolumeNetwork,
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
    demand, what = model.demand(n_depths, scale), f"{n_depths} depths"
    return cut_field(field, scale, demand, budget, model.device.type, what, half=half)


@torch.no_grad()
def volume_parts(
    views: Tensor,
    model: VolumeNetwork,
    shift: Tensor | None,
    scale: float,
    tiles: Sequence[Tile],
    *,
    half: bool = False,
) -> Iterator[tuple[Place, Tensor]]:
    """Yield the volume of a light field tile by tile.

    Parameters
    ----------
    views, model, shift, scale, half
        As in `reconstruct`.
    tiles
        From `plan_tiles`.

    Yields
    ------
    place
        Where the part lies in the volume.
    part
        (D, rows, columns), float32, not negative, where the network is.
    """
    prepared = model.prepare(views, shift, scale).to(model.device)
    for tile in tiles:
        yield tile.place, tile_of_volume(prepared, model, tile, half=half)


@torch.no_grad()
def expected_seconds(
    views: Tensor,
    model: VolumeNetwork,
    shift: Tensor | None,
    scale: float,
    tiles: Sequence[Tile],
    *,
    half: bool = False,
) -> float:
    """Return how long `volume_parts` will take on a CPU, by the time of a small part.

    0 where that is soon done, or on another device.
    """
    field = (views.shape[-2], views.shape[-1])
    middle = [((n - min(n, _TIMED_SIDE)) // 2, min(n, _TIMED_SIDE)) for n in field]
    part = part_tile(*((first, first + n) for first, n in middle), field=field, scale=scale)
    ratio = sum(map(_n_pixels, tiles)) / _n_pixels(part)
    if model.device.type != "cpu" or ratio < _WORTH_TIMING:
        return 0.0
    prepared = model.prepare(views, shift, scale)
    tile_of_volume(prepared, model, part, half=half)  # what is first done takes longer
    started = time.perf_counter()
    tile_of_volume(prepared, model, part, half=half)
    return ratio * (time.perf_counter() - started)


def _n_pixels(tile: Tile) -> int:
    return math.prod(stop - start for start, stop in (tile.rows, tile.columns))


def tile_of_volume(prepared: Prepared, model: VolumeNetwork, tile: Tile, *, half: bool) -> Tensor:
    """Return one part for `volume_parts`."""
    part = compute(lambda dtype: model.tile(prepared, tile, dtype), model.device, half=half)
    return part.clamp_(min=0)


def reconstruct(
    views: Tensor,
    model: Network,
    shift: Tensor | None,
    scale: float,
    *,
    half: bool = False,
    max_memory_gb: float | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Reconstruct a volume from the views of a light field.

    Parameters
    ----------
    views
        (A, h, w), in the model's channel order, in counts, background subtracted; an rlnet takes
        them with their background.
    model
        From `serenet.load_checkpoint`.
    shift
        (A, D, 2), row and column shift of the PSF in object pixels; VCD-Net and HyLFM-Net do
        without: ``None``.
    scale
        Volume pixels per view pixel, ``n_num / scanning``: 13 / 3 for nnum13, 5 for nnum15.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. Tiles give the same volume.
    on_progress
        Told the number of tiles done, and of all; what it raises ends the work.

    Returns
    -------
    Tensor
        (D, round(h scale), round(w scale)), float32 on the CPU, not negative. The SeReNet family
        gives counts, the others (VCD-Net, HyLFM-Net, RL-Net) a relative brightness from 0.
    """
    if not isinstance(model, VolumeNetwork):
        raise UserError(f"a {model.published_name} makes no volumes")
    n_depths, device = model.check_inputs(views, shift), model.device
    field = (views.shape[-2], views.shape[-1])
    # A GPU copies to page-locked memory thirty times as fast, and PyTorch keeps it for next time.
    volume = torch.empty(volume_shape(n_depths, field, scale), pin_memory=device.type == "cuda")
    budget = memory_budget(device, max_memory_gb)
    if device.type == "cpu":
        budget = MemoryBudget(budget.available - volume.numel() * 4, budget.total)
    tiles = plan_tiles(model, field, n_depths, scale, budget, half=half)
    advance = counted(on_progress, len(tiles))
    for place, part in volume_parts(views, model, shift, scale, tiles, half=half):
        volume[place] = part
        advance()
    return volume
