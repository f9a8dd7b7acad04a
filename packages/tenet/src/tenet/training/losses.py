"""What JNet learns by, beside the noise model's likelihood (`optics.TwoPhotonNLL`)."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from tenet.config.loops import SceneLosses

LIGHT_UNIT = 0.03
"""What counts as an error of 1 in the square root of an image."""
LIGHT_FLOOR = 0.005
"""What is added to images before the root: below it nothing but noise is seen."""

_LUMINANCE_SCALE = 100


def _cross_entropy(structure: Tensor, label: Tensor) -> Tensor:
    """Return the binary cross-entropy; NaN, not an error, where the network gives NaN."""
    if not bool(structure.isfinite().all()):
        return structure.sum() * math.nan
    return F.binary_cross_entropy(structure, label)


# What configurations call a loss, and what it is; see `tenet.config.kinds.LOSSES`.
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


def scene_losses(
    structure: Tensor,
    brightness: Tensor,
    labelx: Tensor,
    labelz: Tensor,
    light: tuple[Tensor, Tensor] | None,
    weights: SceneLosses,
) -> dict[str, Tensor]:
    """Return the weighted terms that a network learns from known scenes by.

    With structure x, brightness z, and the truth X and Z: the cross-entropy of x; 1 less the
    Dice coefficient ``(2 sum x X + 1) / (sum x + sum X + 1)``; ``sum X (z - Z)^2 / sum X``, which
    unlike the mean over all voxels does not fade where objects are few; and the smooth L1 norm of
    the difference of the square roots of images and `LIGHT_FLOOR`, in `LIGHT_UNIT`. The root lets
    dim objects count beside bright bodies; the linear part keeps the first steps from learning
    nothing else.

    Parameters
    ----------
    structure, brightness, labelx, labelz
        (B, 1, Z, Y, X).
    light
        The image that structure and brightness explain, and that of the truth; ``None`` if its
        weight is 0.
    weights
        Of the terms.
    """
    inside = labelx.sum()
    dice = (2 * (structure * labelx).sum() + 1) / (structure.sum() + inside + 1)
    error = ((brightness - labelz).square() * labelx).sum() / inside.clamp(min=1)
    terms = {
        "bce": weights.bce * _cross_entropy(structure, labelx),
        "dice": weights.dice * (1 - dice),
        "brightness": weights.brightness * error,
    }
    if light is not None:
        found, true = ((image.clamp(min=0) + LIGHT_FLOOR).sqrt() for image in light)
        terms["light"] = weights.light * F.smooth_l1_loss(found / LIGHT_UNIT, true / LIGHT_UNIT)
    return terms
