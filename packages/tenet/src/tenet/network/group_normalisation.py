"""Normalisation by groups of channels, for training: what BatchNorm3d is to go by is learnt beside.

Statistics of a batch of a few crops are noise; those of none let a network learn slowly. Groups of
channels of one crop are many voxels (Wu and He, ECCV 2018). But a large recording comes in parts,
whose own statistics would differ: it is normalised by the mean statistics of the crops.
"""

import math

import torch
from torch import Tensor, nn

_CHANNELS = 4  # of a group, where that many divide the layer's


def group_normalised(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    """Normalise (B, C, D, H, W) by groups of channels, with the factors and shifts of ``norm``.

    Its running statistics come nearer to those of ``x``, so that in evaluation it does what the
    mean crop saw.
    """
    batch, channels = x.shape[:2]
    groups = channels // math.gcd(channels, _CHANNELS)
    sizes = (batch, channels, x[0, 0].numel(), groups)
    # As F.group_norm, which keeps mean and factor of each group to itself.
    out, mean, factor = torch.native_group_norm(
        x.contiguous(), norm.weight, norm.bias, *sizes, norm.eps
    )
    with torch.no_grad():
        _learn_statistics(mean.detach(), factor.detach(), norm)
    return out


def _learn_statistics(mean: Tensor, factor: Tensor, norm: nn.BatchNorm3d) -> None:
    """Move the running statistics to those whose factor and shift are the mean over crops.

    Of mean and factor of each group (B, G). Factors are averaged as logarithms.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    members = norm.num_features // mean.shape[1]
    common = factor.log().mean(dim=0).exp()
    centre = ((mean * factor).mean(dim=0) / common).repeat_interleave(members)
    spread = (common**-2 - norm.eps).clamp(min=0).repeat_interleave(members)
    norm.running_mean.lerp_(centre.to(norm.running_mean.dtype), norm.momentum or 0.0)
    norm.running_var.lerp_(spread.to(norm.running_var.dtype), norm.momentum or 0.0)
