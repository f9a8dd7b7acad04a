"""BatchNorm, ReLU, dropout, replicate padding and a 3 x 3 x 3 convolution as one function.

Done one by one, these layers write and keep four volumes between the input and the result. Here
the convolution's input is made in one pass, and kept for the way back only if memory is no matter.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tenet.replicate_padding import empty_padded, fill_margin, fold_margin, inner


class _Mode(NamedTuple):
    training: bool
    momentum: float
    eps: float
    dropout: float
    keep: bool


def normalised_convolution(
    x: Tensor, norm: nn.BatchNorm3d, conv: nn.Conv3d, *, dropout: float = 0.0, keep: bool = True
) -> Tensor:
    """Return ``conv(pad(dropout(relu(norm(x)))))``, of the size of ``x``; differentiable once.

    Parameters
    ----------
    x
        (B, C, D, H, W).
    norm
        Follows its own mode, as does dropout.
    conv
        3 x 3 x 3; its own padding is not used.
    dropout
        Probability of a zero, 0 to below 1.
    keep
        Whether the convolution's input is kept for the way back, or made again from ``x``.
    """
    assert norm.running_mean is not None
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mode = _Mode(
        norm.training,
        norm.momentum or 0.0,
        norm.eps,
        dropout if norm.training else 0.0,
        keep,
    )
    out: Tensor = _NormalisedConvolution.apply(  # type: ignore[no-untyped-call]
        x,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        conv.weight,
        conv.bias,
        mode,
    )
    return out


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _activated(x: Tensor, scale: Tensor, shift: Tensor, kept: Tensor | None) -> Tensor:
    """Return ``pad(relu(x scale + shift) kept)``."""
    padded = empty_padded(x)
    middle = inner(padded)
    torch.addcmul(_per_channel(shift), x, _per_channel(scale), out=middle).clamp_min_(0)
    if kept is not None:
        middle.mul_(kept)
    fill_margin(padded)
    return padded


class _NormalisedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        kernel: Tensor,
        offset: Tensor,
        mode: _Mode,
    ) -> Tensor:
        if mode.training:
            mean, variance = torch.batch_norm_update_stats(
                x, running_mean, running_var, mode.momentum
            )
        else:
            mean, variance = running_mean, running_var
        # Kept values grow by 1 / (1 - dropout); ReLU lets the factor pass.
        gain = 1 / (1 - mode.dropout)
        inverse = torch.rsqrt(variance + mode.eps)
        scale = gain * weight * inverse
        shift = gain * bias - mean * scale
        kept = None
        if mode.dropout:
            kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - mode.dropout)
        padded = _activated(x, scale, shift, kept)
        ctx.save_for_backward(
            x, weight, kernel, mean, variance, inverse, scale, shift,
            *((padded, None) if mode.keep else (None, kept)),
        )  # fmt: skip
        ctx.mode, ctx.gain = mode, gain
        return F.conv3d(padded, kernel, offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (
            x, weight, kernel, mean, variance, inverse, scale, shift, padded, kept
        ) = ctx.saved_tensors  # fmt: skip
        if padded is None:
            padded = _activated(x, scale, shift, kept)
        need = ctx.needs_input_grad
        upstream = upstream.contiguous(memory_format=torch.channels_last_3d)
        by_padded, by_kernel, by_offset = torch.ops.aten.convolution_backward(
            upstream, padded, kernel, [len(kernel)], [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1,
            [True, need[5], need[6]],
        )  # fmt: skip
        running = (None, None) if ctx.mode.training else (mean, variance)
        by_active = torch.ops.aten.threshold_backward(fold_margin(by_padded), inner(padded), 0)
        by_x, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            by_active, x, ctx.gain * weight, *running, mean, inverse,
            ctx.mode.training, ctx.mode.eps, [need[0], need[1], need[2]],
        )  # fmt: skip
        if by_weight is not None:
            by_weight *= ctx.gain
        if by_bias is not None:
            by_bias *= ctx.gain
        return by_x, by_weight, by_bias, None, None, by_kernel, by_offset, None
