"""Virtual scanning of whole light fields with VsNet, in exact tiles."""

import torch
from torch import Tensor

from scopekit.errors import UserError
from scopekit.memory import memory_budget
from scopekit.progress import Advance, no_progress
from serenet.networks.base import compute
from serenet.networks.tiling import cut_field
from serenet.networks.vsnet import VsNet


@torch.no_grad()
def virtual_scan(
    views: Tensor,
    model: VsNet,
    *,
    half: bool = False,
    max_memory_gb: float | None = None,
    advance: Advance = no_progress,
) -> Tensor:
    """Return the views of an unscanned light field as if it had been scanned.

    Parameters
    ----------
    views
        (A, h, w), all views of the microscope, background subtracted.
    model
        From `serenet.load_checkpoint`, in evaluation mode.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. Tiles give the same views.
    advance
        Told after every tile how many view pixels it was.

    Returns
    -------
    Tensor
        (A, factor h, factor w), float32 on the CPU, not negative.
    """
    if views.dim() != 3 or len(views) != model.n_views:
        raise UserError(
            f"views have shape {tuple(views.shape)}; virtual scanning takes all "
            f"{model.n_views} views of the microscope, ({model.n_views}, h, w)"
        )
    device = model.device
    field, factor = (views.shape[-2], views.shape[-1]), model.factor
    finer = torch.empty((len(views), *(factor * n for n in field)))
    budget = memory_budget(device, max_memory_gb)
    what = f"virtual scanning of {model.n_views} views"
    tiles = cut_field(field, factor, model.demand(), budget, device.type, what, half=half)

    def scanned(part: Tensor) -> Tensor:
        return compute(lambda _: model(part)[0, 0], device, half=half)

    for tile in tiles:
        inputs = views[None, :, slice(*tile.rows), slice(*tile.columns)].to(device)
        result = scanned(inputs)
        (top, bottom), (left, right) = tile.volume_rows, tile.volume_columns
        y, x = top - factor * tile.rows[0], left - factor * tile.columns[0]
        core = result[:, y : y + bottom - top, x : x + right - left]
        finer[:, top:bottom, left:right] = core.float().clamp(min=0)
        advance((bottom - top) * (right - left) // factor**2)
    return finer
