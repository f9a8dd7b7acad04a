"""What JNet learns by, beside the noise model's likelihood (`optics.TwoPhotonNLL`)."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

_LUMINANCE_SCALE = 100


def _cross_entropy(structure: Tensor, label: Tensor) -> Tensor:
    """Return the binary cross-entropy; NaN, not an error, where the network gives NaN."""
    if not bool(structure.isfinite().all()):
        return structure.sum() * math.nan
    return F.binary_cross_entropy(structure, label)


# What configurations call a loss, and what it is; see `tenet.config.sections.LOSSES`.
STRUCTURE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nn.BCELoss()": _cross_entropy,
    "nn.MSELoss()": F.mse_loss,
    "nn.L1Loss()": F.l1_loss,
    "nn.SmoothL1Loss()": F.smooth_l1_loss,
}


def luminance_loss(brightness: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of log(brightness), over 100.

    Under a standard normal distribution truncated to [-1, 1]; values outside count as the bound,
    so it is always finite.
    """
    log = brightness.clamp(min=math.exp(-1), max=math.e).log()
    inside = math.erf(1 / math.sqrt(2))
    constant = math.log(math.sqrt(2 * math.pi) * inside)
    return (0.5 * log.square() + constant).mean() / _LUMINANCE_SCALE


def labelled_luminance_loss(brightness: Tensor, labelx: Tensor, labelz: Tensor) -> Tensor:
    """Return `luminance_loss` plus half the mean squared error of ``brightness labelx``."""
    return luminance_loss(brightness) + 0.5 * F.mse_loss(brightness * labelx, labelz)
