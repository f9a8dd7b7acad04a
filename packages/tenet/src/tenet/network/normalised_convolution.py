"""BatchNorm, ReLU, dropout, replicate padding and a 3 x 3 x 3 convolution as one function.

Done one by one, these layers write and keep four volumes between the input and the result. Here
the convolution's input is made slab by slab, and made again for the way back.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tenet.network.replicate_padding import empty_padded, fill_margin, fold_margin, inner

_LAST = torch.channels_last_3d
# A slab and what is made of it stay in the cache: layers that pass over a whole volume, one after
# the other, wait for memory most of the time.
_SLAB_BYTES = 24 * 2**20
# PyTorch leaves a single volume of so few channels x planes x rows to a method that is ten times
# slower than oneDNN.
_SMALL = 20480


class Statistics(NamedTuple):
    """Mean and variance of each channel, and whether they are those of the input itself."""

    mean: Tensor
    variance: Tensor
    own: bool


@torch.no_grad()
def batch_statistics(x: Tensor, norm: nn.BatchNorm3d) -> Statistics:
    """Return what a normalisation goes by; in training, let it learn from ``x``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not norm.training:
        return Statistics(norm.running_mean, norm.running_var, own=False)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, variance = torch.batch_norm_update_stats(
        x, norm.running_mean, norm.running_var, norm.momentum or 0.0
    )
    return Statistics(mean, variance, own=True)


def normalised_convolution(
    x: Tensor,
    norm: nn.BatchNorm3d,
    found: Statistics,
    conv: nn.Conv3d,
    *,
    dropout: float = 0.0,
    added: Tensor | None = None,
) -> Tensor:
    """Return ``conv(pad(dropout(relu(norm(x))))) + added``; differentiable once.

    Parameters
    ----------
    x
        (B, C, D, H, W).
    norm, found
        The normalisation, and its `batch_statistics` of ``x``.
    conv
        3 x 3 x 3, to as many channels; its own padding is not used.
    dropout
        Probability of a zero, 0 to below 1; none in evaluation.
    added
        Of the shape of ``x``.
    """
    dropped = dropout if norm.training else 0.0
    out: Tensor = _NormalisedConvolution.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, conv.weight, conv.bias, added, found, norm.eps, dropped
    )
    return out


def cache_slabs(x: Tensor) -> list[tuple[int, int]]:
    """Return the first plane, and the one after the last, of each slab of (B, C, D, H, W) ``x``.

    A GPU takes all planes at once.
    """
    batch, channels, depth, height, width = x.shape
    plane = x.element_size() * batch * channels * (height + 2) * (width + 2)
    planes = max(_SLAB_BYTES // plane, _SMALL // (channels * (height + 2)), 1)
    number = max(depth // planes, 1) if x.device.type == "cpu" else 1
    ends = [depth * n // number for n in range(number + 1)]
    return list(pairwise(ends))


def _repeated(padded: Tensor) -> Tensor:
    """Return a volume, twice in the batch where only then oneDNN convolves it."""
    small = padded.shape[0] == 1 and padded[0, ..., 0].numel() <= _SMALL
    return padded.repeat(2, 1, 1, 1, 1) if small and padded.device.type == "cpu" else padded


def _keep_some(x: Tensor, dropout: float) -> tuple[Tensor | None, float]:
    """Return which values stay, and by what they grow to keep the mean.

    Drawn as 16 bits a value: one random number for each takes longer than the convolution.
    """
    if not dropout:
        return None, 1.0
    share = max(round((1 - dropout) * 2**16), 1)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    draws = words.random_(-(2**63), None).view(torch.int16)[: x.numel()]
    b, c, d, h, w = x.shape
    kept = (draws < share - 2**15).view(b, d, h, w, c).permute(0, 4, 1, 2, 3)
    return kept, 2**16 / share


def _rows(x: Tensor) -> Tensor:
    """Return (B, C, D, H, W) as (B, D, H, W C): long rows go faster than many short ones."""
    return x.permute(0, 2, 3, 4, 1).flatten(3)


class _Activation(NamedTuple):
    """``relu(x scale + shift)`` where kept, in padded planes."""

    x: Tensor
    scale: Tensor
    shift: Tensor
    kept: Tensor | None

    def padded(self, start: int, end: int, into: Tensor) -> Tensor:
        """Return planes ``start`` to ``end`` and one on either side, in the memory of ``into``."""
        _, _, depth, _, width = self.x.shape
        slab = into[:, :, : end - start + 2]
        first, last = max(start - 1, 0), min(end + 1, depth)
        planes = slab[:, :, first - start + 1 : last - start + 1]
        scale, shift = self.scale.repeat(width), self.shift.repeat(width)
        middle = _rows(inner(planes))
        torch.addcmul(shift, _rows(self.x[:, :, first:last]), scale, out=middle).clamp_min_(0)
        if self.kept is not None:
            middle.mul_(_rows(self.kept[:, :, first:last]))
        fill_margin(planes)
        if start == 0:
            slab[:, :, 0].copy_(slab[:, :, 1])
        if end == depth:
            slab[:, :, -1].copy_(slab[:, :, -2])
        return slab


def _convolve(padded: Tensor, kernel: Tensor, offset: Tensor) -> Tensor:
    batch = len(padded)
    return F.conv3d(_repeated(padded), kernel, offset)[:batch]


def _convolve_back(
    upstream: Tensor, padded: Tensor, kernel: Tensor, need: list[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of the convolution's input, kernel and offset."""
    batch, padded = len(padded), _repeated(padded)
    if len(padded) > batch:
        upstream = torch.cat((upstream, torch.zeros_like(upstream)))
    by_padded, by_kernel, by_offset = torch.ops.aten.convolution_backward(
        upstream.contiguous(memory_format=_LAST), padded, kernel,
        [len(kernel)], [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1, [True, *need],
    )  # fmt: skip
    return by_padded[:batch], by_kernel, by_offset


def _sum(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    return part if total is None or part is None else total.add_(part)


class _NormalisedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        kernel: Tensor,
        offset: Tensor,
        added: Tensor | None,
        found: Statistics,
        eps: float,
        dropout: float,
    ) -> Tensor:
        x = x.contiguous(memory_format=_LAST)
        inverse = torch.rsqrt(found.variance + eps)
        kept, gain = _keep_some(x, dropout)
        # ReLU lets a factor pass.
        scale = gain * weight * inverse
        shift = gain * bias - found.mean * scale
        activation = _Activation(x, scale, shift, kept)
        parts = cache_slabs(x)
        into = empty_padded(x, max(end - start for start, end in parts))
        out = torch.empty_like(x, memory_format=_LAST)
        for start, end in parts:
            part = _convolve(activation.padded(start, end, into), kernel, offset)
            if added is not None:
                part.add_(added[:, :, start:end])
            if len(parts) == 1:
                out = part
            else:
                out[:, :, start:end].copy_(part)
        ctx.save_for_backward(
            x, weight, kernel, found.mean, found.variance, inverse, scale, shift, kept
        )
        ctx.own, ctx.eps, ctx.gain = found.own, eps, gain
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, kernel, mean, variance, inverse, scale, shift, kept = ctx.saved_tensors
        activation = _Activation(x, scale, shift, kept)
        need = ctx.needs_input_grad
        parts = cache_slabs(x)
        into = empty_padded(x, max(end - start for start, end in parts))
        by_active = torch.empty_like(x, memory_format=_LAST)
        by_kernel = by_offset = carried = None
        for start, end in parts:
            padded = activation.padded(start, end, into)
            by_padded, kernel_part, offset_part = _convolve_back(
                upstream[:, :, start:end], padded, kernel, list(need[3:5])
            )
            by_kernel = _sum(by_kernel, kernel_part)
            by_offset = _sum(by_offset, offset_part)
            # Of planes start - 1 to end; the next slab adds to the last two.
            folded = fold_margin(by_padded)
            if carried is None:
                folded[:, :, 1] += folded[:, :, 0]
            else:
                folded[:, :, :2] += carried
            carried = folded[:, :, -2:]
            first, last = max(start - 1, 0), end - 1
            if end == x.shape[2]:
                folded[:, :, -2] += folded[:, :, -1]
                last = end
            done = slice(first - start + 1, last - start + 1)
            torch.ops.aten.threshold_backward.grad_input(
                folded[:, :, done], inner(padded)[:, :, done], 0,
                grad_input=by_active[:, :, first:last],
            )  # fmt: skip
        running = (None, None) if ctx.own else (mean, variance)
        by_x, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            by_active, x, ctx.gain * weight, *running, mean, inverse, ctx.own, ctx.eps,
            list(need[:3]),
        )  # fmt: skip
        if by_weight is not None:
            by_weight *= ctx.gain
        if by_bias is not None:
            by_bias *= ctx.gain
        by_added = upstream if need[5] else None
        return by_x, by_weight, by_bias, by_kernel, by_offset, by_added, None, None, None
