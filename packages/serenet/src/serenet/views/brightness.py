"""The brightness of views: background, percentiles, counts."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from scopekit.errors import UserError

# The networks were trained on camera counts; below this peak their biases would dominate.
DIMMEST_PEAK = 20.0
_TRAINED_PEAK = 500.0
BACKGROUND_QUANTILE = 0.01
# Small constants, such as those that keep quotients finite, mean nothing to peaks within.
_USUAL_PEAKS = (1e-2, 1e7)


def subtract_background(views: Tensor, background: float | None = None) -> Tensor:
    """Subtract one value from all views and set what falls below zero to zero.

    Parameters
    ----------
    views
        (A, h, w), in counts; float64 keeps small differences beside a large offset.
    background
        The value; default: the 1 % quantile over all views and pixels.
    """
    if background is None:
        background = quantile(views, BACKGROUND_QUANTILE)
    if not math.isfinite(background):
        raise UserError(f"`background={background}`: give a number of counts")
    return (views - background).clamp_(min=0).float()


def quantile(views: Tensor, share: float) -> float:
    """Return the value that a share (0 to 1) of all values do not exceed."""
    # torch.quantile refuses more than 2^24 numbers; torch.kthvalue takes five times the memory.
    rank = max(round(share * views.numel()) - 1, 0)
    return float(np.partition(views.detach().cpu().numpy(), rank, axis=None)[rank])


def exact_gain(views: Tensor) -> float:
    """Return the factor that brings views in unusual units, such as 1e-15 of a count, to counts.

    1 for those whose peak is like that of cameras, or of views scaled to [0, 1], and for empty
    ones. It is a power of two, which changes no digit.
    """
    peak = float(views.max())
    if peak <= 0 or _USUAL_PEAKS[0] <= peak <= _USUAL_PEAKS[1]:
        return 1.0
    power = round(math.log2(_TRAINED_PEAK / peak))
    # Both the factor and its inverse are float32 numbers.
    return math.ldexp(1.0, min(max(power, -126), 126))


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
    return stretch(views, bottom, top)


def stretch(values: Tensor, bottom: float, top: float) -> Tensor:
    """Return ``(values - bottom) / (top - bottom + 1e-3)`` clamped to [0, 1]."""
    return ((values - bottom) / (top - bottom + 1e-3)).clamp_(0, 1)


def percentiles(values: Tensor, shares: Sequence[float]) -> list[float]:
    """Return percentiles (0 to 100) over all values."""
    # torch.quantile refuses more than 2^24 numbers.
    return [float(p) for p in np.percentile(values.detach().cpu().numpy(), shares)]


def brightness_gain(views: Tensor) -> float:
    """Return the factor that lifts dim views (such as those scaled to [0, 1]) to counts.

    1 for views in counts and for empty ones.
    """
    peak = float(views.max())
    return _TRAINED_PEAK / peak if 0 < peak < DIMMEST_PEAK else 1.0
