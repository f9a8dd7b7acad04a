"""A Markov random field over structure: voxels and their neighbours have energies."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Offset = tuple[int, ...]
Slices = tuple[Any, ...]


def mrf_loss(
    x: Tensor,
    *,
    order: int = 1,
    dilation: int = 1,
    l_00: float = 0.0,
    l_01: float = 0.0,
    l_10: float = 0.0,
    l_11: float = 0.0,
) -> Tensor:
    """Return the mean energy of a Markov random field of voxels and their neighbours.

    With the neighbours n_i of a voxel x in its window of (2 order + 1)^3 voxels, itself included,
    zeros beyond the border, and ``p = prod_i (1 - n_i)``::

        energy_i = l_00 (1 - x) (1 - n_i) + l_01 (1 - x) n_i + l_10 x p + l_11 x (1 - p)

    weighted by one over the distance in steps of the window (0 at the centre), and averaged over
    voxels and all of the window. As energies are linear in n_i, their sum needs one sum of
    neighbours, and p is a product along one axis after the other: no copy for each neighbour.

    Parameters
    ----------
    x
        (B, 1, Z, Y, X), structure from 0 to 1.
    order
        Of the window.
    dilation
        Voxels in a step of the window.
    l_00, l_01, l_10, l_11
        Energies.
    """
    weights = (l_00, l_01, l_10, l_11)
    loss: Tensor = _MRF.apply(x, order, dilation, weights)  # type: ignore[no-untyped-call]
    return loss


class _MRF(torch.autograd.Function):
    """Computes the field again on the way back, one batch item at a time."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, order: int, dilation: int, weights: tuple[float, float, float, float]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = (order, dilation, weights)
        means = [_mean_energy(item, order, dilation, weights) for item in x.chunk(len(x))]
        return torch.stack(means).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        scale = upstream / len(x)
        gradients = [_energy_gradient(item, *ctx.arguments).mul_(scale) for item in x.chunk(len(x))]
        return torch.cat(gradients), None, None, None


# The energy of a voxel, summed over its window of total weight W and weighted sum S of neighbours:
# (1 - x) (l_00 W + (l_01 - l_00) S) + x W (l_11 + (l_10 - l_11) p)


def _mean_energy(
    x: Tensor, order: int, dilation: int, weights: tuple[float, float, float, float]
) -> Tensor:
    l_00, l_01, l_10, l_11 = weights
    offsets = _offsets(order, dilation)
    total = sum(offsets.values())
    around = _weighted_sum(x, offsets).mul_(l_01 - l_00).add_(l_00 * total)
    energy = around.addcmul_(x, around, value=-1)
    if l_10 != l_11:
        empty = _window_product(1 - x, order, dilation)
        energy.addcmul_(x, empty, value=total * (l_10 - l_11))
    energy.add_(x, alpha=total * l_11)
    return energy.mean() / (2 * order + 1) ** 3


def _energy_gradient(
    x: Tensor, order: int, dilation: int, weights: tuple[float, float, float, float]
) -> Tensor:
    l_00, l_01, l_10, l_11 = weights
    offsets = _offsets(order, dilation)
    total = sum(offsets.values())
    # The window is symmetric, so the sum over it is its own adjoint.
    gradient = _weighted_sum(1 - 2 * x, offsets)
    gradient.mul_(l_01 - l_00).add_(total * (l_11 - l_00))
    if l_10 != l_11:
        by_product = _window_product_gradient(1 - x, order, dilation, x)
        gradient.add_(by_product, alpha=-total * (l_10 - l_11))
        empty = _window_product(1 - x, order, dilation)
        gradient.add_(empty, alpha=total * (l_10 - l_11))
    return gradient.div_(x.numel() * (2 * order + 1) ** 3)


def _offsets(order: int, dilation: int) -> dict[Offset, float]:
    """Return the neighbours' places in voxels, and their weights: one over the steps' length."""
    steps = itertools.product(range(-order, order + 1), repeat=3)
    return {tuple(dilation * n for n in s): 1 / math.hypot(*s) for s in steps if any(s)}


def _weighted_sum(x: Tensor, offsets: Mapping[Offset, float]) -> Tensor:
    total = torch.zeros_like(x)
    for offset, weight in offsets.items():
        here, there = _overlap(offset, x)
        total[here].add_(x[there], alpha=weight)
    return total


def _overlap(offset: Offset, x: Tensor) -> tuple[Slices, Slices]:
    """Return where a neighbour at ``offset`` lies inside, and where it is."""
    here: Slices = (...,)
    there: Slices = (...,)
    for n, size in zip(offset, x.shape[2:], strict=True):
        here = (*here, slice(max(-n, 0), max(size - max(n, 0), 0)))
        there = (*there, slice(max(n, 0), max(size + min(n, 0), 0)))
    return here, there


def _line(axis: int, order: int, dilation: int) -> list[Offset]:
    steps = range(-order * dilation, order * dilation + 1, dilation)
    return [tuple(step if a == axis else 0 for a in range(3)) for step in steps]


def _product_but(x: Tensor, start: Tensor, offsets: list[Offset], left_out: int | None) -> Tensor:
    """Return ``start`` times the neighbours at all offsets but one; ones beyond the border."""
    product = start.clone()
    for number, offset in enumerate(offsets):
        if number != left_out:
            here, there = _overlap(offset, x)
            product[here].mul_(x[there])
    return product


def _window_product(values: Tensor, order: int, dilation: int) -> Tensor:
    """Return the product over the window, axis by axis."""
    for axis in range(3):
        line = _line(axis, order, dilation)
        values = _product_but(values, torch.ones_like(values), line, None)
    return values


def _window_product_gradient(values: Tensor, order: int, dilation: int, upstream: Tensor) -> Tensor:
    """Return the gradient of ``sum(upstream * _window_product(values))``."""
    lines = [_line(axis, order, dilation) for axis in range(3)]
    inputs = [values]
    for line in lines[:2]:
        inputs.append(_product_but(inputs[-1], torch.ones_like(values), line, None))
    for line in reversed(lines):
        x = inputs.pop()
        gradient = torch.zeros_like(x)
        for number, offset in enumerate(line):
            here, there = _overlap(offset, x)
            gradient[there].add_(_product_but(x, upstream, line, number)[here])
        upstream = gradient
    return upstream
