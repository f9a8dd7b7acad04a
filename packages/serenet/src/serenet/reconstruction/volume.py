"""From views to a volume with a network, whole or in exact tiles.

The networks look only a few view pixels far, so tiles with that much surround give the same
volume as one pass over the whole field: no blending, no seams.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget, memory_budget
from serenet.networks.base import Network, VolumeNetwork, compute
from serenet.networks.rlnet import RLNet
from serenet.networks.serenet import SeReNet
from serenet.networks.tiling import Demand, Tile, cut_field, resize_window, volume_shape
from serenet.networks.view_networks import HyLFMNet, VCDNet
from serenet.views.refocusing import decompose, decompose_window, normalise, percentiles


def prepare(views: Tensor, model: Network, shift: Tensor | None, scale: float) -> Tensor:
    """Do what needs the whole field: normalise views, or refocus them.

    Parameters
    ----------
    views
        (A, h, w), background subtracted.
    model
        The network.
    shift
        (A, D, 2), object pixels, where the network wants refocused views.
    scale
        Volume pixels per view pixel.

    Returns
    -------
    Tensor
        What `reconstruct_tile` takes. VCD-Net and HyLFM-Net: the views, their 10 and 99.9
        percentiles brought to 0 and 1. RL-Net: the mean of the refocused views (D, h, w), its
        99.99 percentile brought to 1. Others: the views.
    """
    if isinstance(model, VCDNet | HyLFMNet):
        return normalise(views, 10, 99.9)
    if isinstance(model, RLNet):
        assert shift is not None
        return refocused_share(views, shift / scale)
    return views


def refocused_share(views: Tensor, shift: Tensor) -> Tensor:
    """Return the mean of the refocused views (D, h, w), as RL-Net takes it: from 0 to 1.

    Parameters
    ----------
    views
        (A, h, w).
    shift
        (A, D, 2), view pixels.
    """
    mean = views.new_zeros((shift.shape[1], *views.shape[-2:]))
    for view, of_view in zip(views, shift, strict=True):
        mean += decompose(view[None], of_view[None])[0]
    (top,) = percentiles(mean, (99.99,))
    return (mean / top if top > 0 else mean).clamp_(0, 1)


def plan_tiles(
    model: Network,
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
    demand = _demand(model, n_depths, scale)
    device = next(model.parameters()).device.type
    return cut_field(field, scale, demand, budget, device, f"{n_depths} depths", half=half)


def _demand(model: Network, n_depths: int, scale: float) -> Demand:
    if isinstance(model, VolumeNetwork):
        return Demand(model.halo, model.step, model.n_views, model.peak_values(n_depths))
    if isinstance(model, RLNet):
        halo = math.ceil((model.halo + model.step) / scale)
        return Demand(halo, 1, 2 * n_depths, model.values_per_voxel * n_depths * scale**2)
    raise UserError(f"a {model.published_name} makes no volumes")


@torch.no_grad()
def reconstruct_tile(
    prepared: Tensor,
    model: Network,
    shift: Tensor | None,
    scale: float,
    tile: Tile,
    *,
    half: bool = False,
) -> Tensor:
    """Return the part of the volume that ``tile`` stands for.

    Parameters
    ----------
    prepared
        The whole field, from `prepare`.
    model
        The network, in evaluation mode.
    shift
        (A, D, 2), object pixels; only the SeReNet family needs it here.
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
    prepared = prepared.to(device)

    def part(dtype: torch.dtype) -> Tensor:
        if isinstance(model, RLNet):
            return _sharpened(prepared, model, scale, tile)
        assert isinstance(model, VolumeNetwork)
        # The sums of the decomposition need more than bfloat16's eight bits.
        views = prepared.half() if dtype == torch.float16 else prepared
        volume: Tensor | None = None
        first = 0
        for enlarged, n_depths in _enlarged(views, model, shift, scale, tile):
            planes = enlarged[0, 0].float()
            made = _resized(planes, model.enlargement, prepared.shape[-2:], scale, tile)
            if len(made) == n_depths:
                return made
            if volume is None:
                volume = made.new_empty((n_depths, *made.shape[1:]))
            volume[first : first + len(made)] = made
            first += len(made)
        assert volume is not None
        return volume

    return compute(part, device, half=half).clamp_(min=0)


def _resized(
    enlarged: Tensor, enlargement: int, field: tuple[int, ...], scale: float, tile: Tile
) -> Tensor:
    """Return a tile of the enlarged volume on the volume's grid."""
    places = (tile.volume_rows, tile.volume_columns)
    for axis, (place, covered, n) in enumerate(
        zip(places, (tile.rows, tile.columns), field, strict=True)
    ):
        first, source = covered[0] * enlargement, n * enlargement
        enlarged = resize_window(enlarged, axis + 1, place, first, source, round(n * scale))
    return enlarged


def _enlarged(
    views: Tensor, model: VolumeNetwork, shift: Tensor | None, scale: float, tile: Tile
) -> Iterator[tuple[Tensor, int]]:
    """Yield a tile of the enlarged volume in slabs of depths, and how many depths there are."""
    if not isinstance(model, SeReNet):
        window = views[:, slice(*tile.rows), slice(*tile.columns)][None]
        enlarged = model.enlarged_tile(window, tile, views.shape[-2:])
        yield enlarged, enlarged.shape[2]
        return
    assert shift is not None
    shift = shift.to(views.device) / scale

    def read(depths: slice) -> Tensor:
        decomposed = decompose_window(views, shift[:, depths], tile.rows, tile.columns)
        return decomposed[None].contiguous(memory_format=torch.channels_last_3d)

    height, width = (stop - start for start, stop in (tile.rows, tile.columns))
    shape = (shift.shape[1], height, width)
    for enlarged in model.enlarged_slabs(read, shape):
        yield enlarged, shape[0]


def _sharpened(refocused: Tensor, model: RLNet, scale: float, tile: Tile) -> Tensor:
    """Return a tile of RL-Net's volume from the refocused mean (D, h, w) of the whole field."""
    sizes = [round(n * scale) for n in refocused.shape[-2:]]
    places = (tile.volume_rows, tile.volume_columns)
    starts = []
    for axis, (place, source, size) in enumerate(
        zip(places, refocused.shape[-2:], sizes, strict=True)
    ):
        start = max(place[0] - model.halo, 0) // model.step * model.step
        stop = min(place[1] + model.halo, size)
        refocused = resize_window(refocused, axis + 1, (start, stop), 0, source, size)
        starts.append(place[0] - start)
    inputs = refocused[None, None].contiguous(memory_format=torch.channels_last_3d)
    result = model(inputs)[0, 1].float()
    for axis, (start, place) in enumerate(zip(starts, places, strict=True)):
        result = result.narrow(axis + 1, start, place[1] - place[0])
    sharpened: Tensor = result.contiguous()
    return sharpened


def reconstruct_tiles(
    views: Tensor,
    model: Network,
    shift: Tensor | None,
    scale: float,
    tiles: list[Tile],
    *,
    half: bool = False,
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield every tile and its part of the volume, see `reconstruct_tile`."""
    prepared = prepare(views, model, shift, scale)
    for tile in tiles:
        yield tile, reconstruct_tile(prepared, model, shift, scale, tile, half=half)


def check_inputs(views: Tensor, model: Network, shift: Tensor | None) -> int:
    """Raise `UserError` if views, model and shift do not belong together; return the depths."""
    n_views = model.n_views if isinstance(model, VolumeNetwork) else views.shape[0]
    if views.dim() != 3 or views.shape[0] != n_views:
        raise UserError(f"views have shape {tuple(views.shape)}; the model takes ({n_views}, h, w)")
    if isinstance(model, VCDNet | HyLFMNet):
        return model.n_depths
    if shift is None or shift.dim() != 3 or shift.shape[0] != n_views or shift.shape[2] != 2:
        found = None if shift is None else tuple(shift.shape)
        raise UserError(f"the PSF shift has shape {found}; expected ({n_views}, depths, 2)")
    return shift.shape[1]


def reconstruct(
    views: Tensor,
    model: Network,
    shift: Tensor | None,
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
        (A, D, 2), row and column shift of the PSF in object pixels; VCD-Net and HyLFM-Net do
        without: ``None``.
    scale
        Volume pixels per view pixel, ``n_num / scanning``: 13 / 3 for nnum13, 5 for nnum15.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. Tiles give the same volume.

    Returns
    -------
    Tensor
        (D, round(h scale), round(w scale)), float32 on the CPU, not negative. The SeReNet family
        gives counts, the others (VCD-Net, HyLFM-Net, RL-Net) a relative brightness from 0.
    """
    n_depths = check_inputs(views, model, shift)
    device = next(model.parameters()).device
    field = (views.shape[-2], views.shape[-1])
    # A GPU copies to page-locked memory thirty times as fast, and PyTorch keeps it for next time.
    volume = torch.empty(volume_shape(n_depths, field, scale), pin_memory=device.type == "cuda")
    budget = memory_budget(device, max_memory_gb)
    if device.type == "cpu":
        budget = MemoryBudget(budget.available - volume.numel() * 4, budget.total)
    tiles = plan_tiles(model, field, n_depths, scale, budget, half=half)
    for tile, part in reconstruct_tiles(views, model, shift, scale, tiles, half=half):
        volume[:, slice(*tile.volume_rows), slice(*tile.volume_columns)] = part
    return volume
