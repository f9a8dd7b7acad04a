"""A start from which the SeReNet family learns fast: He weights, inputs and outputs of about one.

Views hold hundreds of counts, volumes a tenth of them; a network learns fastest on numbers of about
one. LeakyReLU is homogeneous, so both scales are factors of the first and of the last kernel: a
network in counts and one in units of its own are the same up to these. The factors are powers of
two: going from one to the other and back changes no bit.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

INPUT_COUNTS = 64.0
"""Counts of a view that the network in training sees as 1."""
OUTPUT_COUNTS = 8.0
"""Counts of a voxel that the network in training says as 1."""
_LAST_SHARE = 0.3


def convolutions(network: nn.Module) -> list[nn.Conv3d]:
    """Return the convolutions in the order in which they are computed."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv3d)]


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Fill a network with normal weights of variance ``2 / ((1 + slope^2) fan_in)``, biases 0.

    The last kernel is small, so that the volume starts nearly empty.

    Parameters
    ----------
    network
        Convolutions, each followed by LeakyReLU of one slope; filled in place.
    generator
        Source of the weights.

    References
    ----------
    He et al., ICCV 2015, eq. 15.
    """
    layers = convolutions(network)
    slope = next(m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU))
    with torch.no_grad():
        for layer in layers:
            std = math.sqrt(2 / ((1 + slope**2) * layer.weight[0].numel()))
            # Drawn in one order, whatever the memory's.
            layer.weight.copy_(std * torch.randn(layer.weight.shape, generator=generator))
            if layer.bias is not None:
                layer.bias.zero_()
        layers[-1].weight.mul_(_LAST_SHARE)


def to_own_units(network: nn.Module) -> None:
    """Turn a network from counts to counts into one from and to its own units, in place."""
    _scale(network, INPUT_COUNTS, 1 / OUTPUT_COUNTS)


def to_counts(network: nn.Module) -> None:
    """Turn a network in its own units into one from counts to counts, in place."""
    _scale(network, 1 / INPUT_COUNTS, OUTPUT_COUNTS)


@contextmanager
def in_counts(network: nn.Module) -> Iterator[None]:
    """Let a network in its own units take and give counts for a while."""
    to_counts(network)
    try:
        yield
    finally:
        to_own_units(network)


def _scale(network: nn.Module, of_input: float, of_output: float) -> None:
    first, *_, last = convolutions(network)
    # The biases between stay: all before the last layer keeps its brightness.
    with torch.no_grad():
        first.weight.mul_(of_input)
        last.weight.mul_(of_output)
        if last.bias is not None:
            last.bias.mul_(of_output)
