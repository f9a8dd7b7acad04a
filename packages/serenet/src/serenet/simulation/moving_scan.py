"""Views of a 3 x 3 scan during which the sample moves."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from optics import sample_views
from serenet.views.scan import MIDDLE_TIME, SCAN_ORDER, SIDE, check_scanned


def scan_moving(
    projected: Tensor,
    drift: tuple[float, float],
    lateral_scale: float,
    order: Sequence[int] = SCAN_ORDER,
) -> Tensor:
    """Record a sample that drifts sideways from exposure to exposure, each of them short.

    Parameters
    ----------
    projected
        Views of the sample at the middle exposure on the grid of volumes, (A, H, W). A drift of
        the sample moves all of them alike; beyond their borders there is nothing.
    drift
        (y, x) in pixels of that grid per exposure.
    lateral_scale
        Such pixels per view pixel, ``n_num / scanning``.
    order
        Position ``3 row + column`` of every exposure in turn.

    Returns
    -------
    Tensor
        Interlaced views (A, h, w), on the CPU.

    Raises
    ------
    UserError
        If h or w is not a multiple of 3.
    """
    interlaced = sample_views(projected, lateral_scale).cpu()
    check_scanned(interlaced.shape)
    spline = projected.cpu().numpy()
    for axis in (1, 2):
        spline = ndimage.spline_filter1d(spline, axis=axis)
    for t, position in enumerate(order):
        offset = [(t - MIDDLE_TIME) * step for step in drift]
        moved = np.stack([ndimage.shift(view, offset, prefilter=False) for view in spline])
        exposure = sample_views(torch.from_numpy(moved).to(projected), lateral_scale)
        r, c = divmod(position, SIDE)
        interlaced[:, r::SIDE, c::SIDE] = exposure[:, r::SIDE, c::SIDE]
    return interlaced
