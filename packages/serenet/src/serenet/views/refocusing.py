"""Views of a light field: selection, background, and digital refocusing."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scopekit.errors import UserError

BACKGROUND_QUANTILE = 0.01


def subtract_background(views: Tensor, background: float | None = None) -> Tensor:
    """Subtract one value from all views and set what falls below zero to zero.

    Parameters
    ----------
    views
        (A, h, w), in counts.
    background
        The value; default: the 1 % quantile over all views and pixels.
    """
    if background is None:
        # torch.quantile refuses more than 2^24 numbers; torch.kthvalue takes five times the memory.
        rank = max(round(BACKGROUND_QUANTILE * views.numel()) - 1, 0)
        background = float(np.partition(views.detach().cpu().numpy(), rank, axis=None)[rank])
    if not math.isfinite(background):
        raise UserError(f"--background {background}: give a number of counts")
    return (views - background).clamp_(min=0)


def normalise(views: Tensor, low: float, high: float) -> Tensor:
    """Return ``(views - p_low) / (p_high - p_low + 1e-3)`` clamped to [0, 1].

    Parameters
    ----------
    views
        Any shape, counts.
    low, high
        Percentiles, 0 to 100, over all values.
    """
    bottom, top = percentiles(views, (low, high))
    return ((views - bottom) / (top - bottom + 1e-3)).clamp_(0, 1)


def percentiles(values: Tensor, shares: Sequence[float]) -> list[float]:
    """Return percentiles (0 to 100) over all values."""
    # torch.quantile refuses more than 2^24 numbers.
    return [float(p) for p in np.percentile(values.detach().cpu().numpy(), shares)]


def decompose(views: Tensor, shift: Tensor) -> Tensor:
    """Refocus views digitally: shift every view to every depth (depth decomposition).

    ``out[a, z](p) = view_a(p + shift[a, z])``, bilinear, zero outside.

    Parameters
    ----------
    views
        (A, h, w).
    shift
        (A, D, 2): row and column shift in view pixels. The PSF's shift is in object pixels;
        divide it by the lateral scale ``n_num / scanning``.

    Returns
    -------
    Tensor
        (A, D, h, w).
    """
    height, width = views.shape[-2:]
    return decompose_window(views, shift, (0, height), (0, width))


def decompose_window(
    views: Tensor, shift: Tensor, rows: tuple[int, int], columns: tuple[int, int]
) -> Tensor:
    """Return the window ``[..., rows[0]:rows[1], columns[0]:columns[1]]`` of `decompose`.

    Parameters
    ----------
    views, shift
        As in `decompose`.
    rows, columns
        First and last (exclusive) pixel of the window, inside the views.

    Returns
    -------
    Tensor
        (A, D, rows[1] - rows[0], columns[1] - columns[0]).
    """
    height, width = views.shape[-2:]
    # One zero on every side stands for all that lies outside.
    padded = F.pad(views, (1, 1, 1, 1))
    whole = shift.floor()
    # One more than the window, for the second neighbour.
    y = torch.arange(rows[0], rows[1] + 1, device=views.device) + whole[..., 0, None].long() + 1
    x = torch.arange(columns[0], columns[1] + 1, device=views.device)
    x = x + whole[..., 1, None].long() + 1
    y, x = y.clamp(0, height + 1), x.clamp(0, width + 1)
    weight = (shift - whole).to(views.dtype)[..., None, None]
    out = views.new_empty((*shift.shape[:2], rows[1] - rows[0], columns[1] - columns[0]))
    for a, view in enumerate(padded):
        lines = view[y[a]]
        lines = torch.lerp(lines[:, :-1], lines[:, 1:], weight[a, :, 0])
        pixels = lines.gather(2, x[a][:, None].expand(-1, lines.shape[1], -1))
        torch.lerp(pixels[..., :-1], pixels[..., 1:], weight[a, :, 1], out=out[a])
    return out
