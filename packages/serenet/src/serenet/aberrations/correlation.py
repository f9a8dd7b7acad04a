"""Digital adaptive optics before reconstruction (preDAO): the shift of every view, undone.

An aberration of phase W(f) in the pupil moves the view that looks through f by ``-grad W(f)``.
The shifts are found by correlating the views with the central one, and taken back. What grows in
proportion to the view's coordinates is defocus, the depth of the object, and is left alone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from optics import volume_size
from scopekit.errors import UserError

_SMALLEST_SIDE = 8


def predao(
    views: Tensor,
    view_indices: Sequence[int],
    n_num: int,
    scale: float,
    *,
    subpixel: bool = False,
) -> Tensor:
    """Align the views of a light field with its central view.

    Parameters
    ----------
    views
        (A, h, w), background subtracted.
    view_indices
        Index ``u * n_num + v`` of every view; the central one, ``(n_num^2 - 1) // 2``, among them.
    n_num
        Views per microlens side.
    scale
        Object pixels per view pixel, ``n_num / scanning``.
    subpixel
        Whether shifts are estimated to fractions of an object pixel.

    Returns
    -------
    Tensor
        (A, h, w), aligned, not negative.

    Raises
    ------
    UserError
        If the central view is missing, the shape does not fit, or values are not finite.
    """
    shifts = view_shifts(views, view_indices, n_num, scale, subpixel=subpixel)
    # Cubic interpolation overshoots.
    return shift_views(views, shifts / scale).clamp_(min=0)


def view_shifts(
    views: Tensor,
    view_indices: Sequence[int],
    n_num: int,
    scale: float,
    *,
    subpixel: bool = False,
) -> Tensor:
    """Estimate by how much an aberration moved every view against the central one.

    The views are up-sampled to object pixels (bicubic); the offset of the maximum of their
    circular cross-correlation with the central view is the shift (dy, dx). Then defocus goes: with
    signed view coordinates (i, j), ``k (i, j)`` is subtracted, where
    ``k = sum(i dy + j dx) / sum(i^2 + j^2)``.

    Parameters
    ----------
    views, view_indices, n_num, scale
        As in `predao`.
    subpixel
        Take the vertex of a parabola through the maximum and its neighbours, in both directions.

    Returns
    -------
    Tensor
        (A, 2), float64: row and column in object pixels; zeros for the central view.
    """
    _check(views, view_indices, n_num)
    size = [volume_size(n, scale) for n in views.shape[-2:]]

    def spectrum(view: Tensor) -> Tensor:
        enlarged = F.interpolate(
            view[None, None].float(), size=size, mode="bicubic", align_corners=False
        )
        transform: Tensor = torch.fft.rfft2(enlarged[0, 0])
        return transform

    central = list(view_indices).index((n_num**2 - 1) // 2)
    reference = spectrum(views[central]).conj()
    offsets = [
        _peak(torch.fft.irfft2(spectrum(view) * reference, s=size), subpixel=subpixel)
        for view in views
    ]
    shifts = torch.tensor(offsets, dtype=torch.float64)
    shifts -= shifts[central].clone()  # rounding, and never more
    coordinates = view_coordinates(view_indices, n_num)
    power = coordinates.square().sum()
    if power > 0:
        shifts -= (coordinates * shifts).sum() / power * coordinates
    return shifts.to(views.device)


def _check(views: Tensor, view_indices: Sequence[int], n_num: int) -> None:
    if views.dim() != 3 or views.shape[0] != len(view_indices):
        raise UserError(
            f"preDAO: views of shape {tuple(views.shape)} for {len(view_indices)} view indices; "
            "give (A, h, w) with an index for each"
        )
    if min(views.shape[-2:]) < _SMALLEST_SIDE:
        raise UserError(
            f"preDAO: views of {views.shape[-2]} x {views.shape[-1]} pixels are too small to "
            f"correlate; give at least {_SMALLEST_SIDE} x {_SMALLEST_SIDE}, or leave preDAO out"
        )
    outside = [a for a in view_indices if not 0 <= a < n_num**2]
    if outside:
        raise UserError(f"preDAO: view {outside[0]} lies outside 0 to {n_num**2 - 1}")
    central = (n_num**2 - 1) // 2
    if central not in view_indices:
        raise UserError(
            f"preDAO: the central view {central} is not among the views; it is what the others "
            "are aligned with: add it, or leave preDAO out"
        )
    if not torch.isfinite(views).all():
        raise UserError("preDAO: the views hold NaN or infinite values; mend the file")


def view_coordinates(view_indices: Sequence[int], n_num: int) -> Tensor:
    """Return (A, 2): row and column of every view, counted from the central one."""
    index = torch.tensor(view_indices, dtype=torch.float64)
    row = torch.div(index, n_num, rounding_mode="floor")
    return torch.stack([row, index - n_num * row], dim=1) - n_num // 2


def _peak(correlation: Tensor, *, subpixel: bool) -> tuple[float, float]:
    """Return the signed offset (row, column) of the maximum of a circular correlation."""
    height, width = correlation.shape
    y, x = divmod(int(correlation.argmax()), width)
    offset = [float(y), float(x)]
    if subpixel:
        offset[0] += _vertex([correlation[(y + n) % height, x].item() for n in (-1, 0, 1)])
        offset[1] += _vertex([correlation[y, (x + n) % width].item() for n in (-1, 0, 1)])
    return (
        offset[0] - height * (offset[0] > height / 2),
        offset[1] - width * (offset[1] > width / 2),
    )


def _vertex(values: Sequence[float]) -> float:
    """Return where the parabola through three values, at -1, 0 and 1, has its maximum."""
    before, at, after = values
    curvature = before - 2 * at + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def shift_views(views: Tensor, shifts: Tensor) -> Tensor:
    """Resample every view at ``p + shift``: bicubic, zero outside.

    Parameters
    ----------
    views
        (A, h, w).
    shifts
        (A, 2): row and column, in view pixels.
    """
    height, width = views.shape[-2:]
    y = torch.arange(height, device=views.device) + 0.5 + shifts[:, :1]
    x = torch.arange(width, device=views.device) + 0.5 + shifts[:, 1:]
    grid = torch.stack(
        [
            (2 * x / width - 1)[:, None].expand(-1, height, -1),
            (2 * y / height - 1)[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    moved = F.grid_sample(views[:, None], grid.to(views.dtype), mode="bicubic", align_corners=False)
    return moved[:, 0]
