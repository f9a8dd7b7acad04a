"""Between the object grid of volumes and the coarser grid on which views are recorded."""

import torch.nn.functional as F
from torch import Tensor


def sampled_size(size: int, lateral_scale: float) -> int:
    """Return the side of a view for a volume of side ``size``: ``round(size / lateral_scale)``.

    Examples
    --------
    >>> import optics
    >>> optics.sampled_size(104, 13 / 3)
    24
    """
    return max(round(size / lateral_scale), 1)


def volume_size(size: int, lateral_scale: float) -> int:
    """Return the side of a volume for a view of side ``size``: ``round(size * lateral_scale)``.

    Examples
    --------
    >>> import optics
    >>> optics.volume_size(24, 13 / 3)
    104
    """
    return max(round(size * lateral_scale), 1)


def sample_views(views: Tensor, lateral_scale: float) -> Tensor:
    """Resize projected views from the object grid to the recorded grid (bicubic, antialiased).

    Parameters
    ----------
    views
        (A, H, W) on the object grid.
    lateral_scale
        Object pixels per recorded pixel, ``n_num / scanning``.

    Returns
    -------
    Tensor
        (A, h, w), sides ``round(H / lateral_scale)``.

    Examples
    --------
    >>> import torch, optics
    >>> optics.sample_views(torch.ones(2, 104, 91), 13 / 3).shape
    torch.Size([2, 24, 21])
    """
    size = [sampled_size(n, lateral_scale) for n in views.shape[-2:]]
    resized: Tensor = F.interpolate(
        views[None], size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0]
