"""Digital refocusing of the views of a light field."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
