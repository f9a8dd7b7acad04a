"""Replicate padding by one voxel, written in place, and its gradient."""

import torch
from torch import Tensor

_INNER = (slice(None), slice(None), slice(1, -1), slice(1, -1), slice(1, -1))


def empty_padded(x: Tensor) -> Tensor:
    """Return memory for (B, C, D, H, W) ``x`` with a margin of one voxel, channels last."""
    b, c, d, h, w = x.shape
    shape = (b, c, d + 2, h + 2, w + 2)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)


def inner(padded: Tensor) -> Tensor:
    """Return the part of ``padded`` inside its margin, a view."""
    return padded[_INNER]


def fill_margin(padded: Tensor) -> None:
    """Repeat the outermost voxels of the inner part in the margin."""
    planes = padded[:, :, 1:-1]
    planes[..., 1:-1, 0].copy_(planes[..., 1:-1, 1])
    planes[..., 1:-1, -1].copy_(planes[..., 1:-1, -2])
    planes[..., 0, :].copy_(planes[..., 1, :])
    planes[..., -1, :].copy_(planes[..., -2, :])
    padded[:, :, 0].copy_(padded[:, :, 1])
    padded[:, :, -1].copy_(padded[:, :, -2])


def fold_margin(gradient: Tensor) -> Tensor:
    """Return the gradient of what was padded: a new tensor, the margin's added to its origin."""
    folded = inner(gradient).contiguous(memory_format=torch.channels_last_3d)
    if folded.data_ptr() == gradient.data_ptr():
        folded = folded.clone(memory_format=torch.preserve_format)
    for far in (0, -1):
        plane = gradient[:, :, far]
        rows = plane[..., 1:-1, :].clone()
        rows[..., 0, :] += plane[..., 0, :]
        rows[..., -1, :] += plane[..., -1, :]
        folded[:, :, far] += _fold_last(rows)
        folded[..., far, :] += _fold_last(gradient[:, :, 1:-1, far, :])
        folded[..., far] += gradient[:, :, 1:-1, 1:-1, far]
    return folded


def _fold_last(line: Tensor) -> Tensor:
    folded = line[..., 1:-1].clone()
    folded[..., 0] += line[..., 0]
    folded[..., -1] += line[..., -1]
    return folded


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        padded = empty_padded(x)
        inner(padded).copy_(x)
        fill_margin(padded)
        return padded

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        return fold_margin(gradient)


def pad_by_one(x: Tensor) -> Tensor:
    """Return (B, C, D, H, W) ``x`` with its border repeated once on every side, channels last."""
    padded: Tensor = _Pad.apply(x)  # type: ignore[no-untyped-call]
    return padded
