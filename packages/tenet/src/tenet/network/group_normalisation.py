"""Normalisation by groups of channels, for training: what BatchNorm3d is to go by is learnt beside.

Statistics of a batch of a few crops are noise; those of none let a network learn slowly. Groups of
channels of one crop are many voxels (Wu and He, ECCV 2018). But a large recording comes in parts,
whose own statistics would differ: it is normalised by the mean statistics of the crops.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = 4  # of a group, where that many divide the layer's


def group_normalised(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    """Normalise (B, C, D, H, W) by groups of channels, with the factors and shifts of ``norm``.

    Its running statistics come nearer to those of ``x``, so that in evaluation it does what the
    mean crop saw.
    """
    groups = x.shape[1] // math.gcd(x.shape[1], _CHANNELS)
    with torch.no_grad():
        _learn_statistics(x, groups, norm)
    return F.group_norm(x, groups, norm.weight, norm.bias, norm.eps)


def _learn_statistics(x: Tensor, groups: int, norm: nn.BatchNorm3d) -> None:
    """Move the running statistics to those whose factor and shift are the mean over crops.

    Factors are averaged as logarithms.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    grouped = x.unflatten(1, (groups, -1)).flatten(2).to(norm.running_mean.dtype)
    variance, mean = torch.var_mean(grouped, dim=2, correction=0)
    inverse = torch.rsqrt(variance + norm.eps)
    factor = inverse.log().mean(dim=0).exp()
    members = x.shape[1] // groups
    centre = ((mean * inverse).mean(dim=0) / factor).repeat_interleave(members)
    spread = (factor**-2 - norm.eps).clamp(min=0).repeat_interleave(members)
    norm.running_mean.lerp_(centre, norm.momentum or 0.0)
    norm.running_var.lerp_(spread, norm.momentum or 0.0)
