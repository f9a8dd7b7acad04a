"""Elastic weight consolidation: holds a network near what it learnt before."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

B = TypeVar("B")


def fisher_diagonal(
    named: Mapping[str, nn.Parameter], batches: Iterable[B], loss: Callable[[B], Tensor]
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information, as published: ``g^2 / n``.

    g is the sum of the gradients of log(loss) over the n batches, divided by n.

    Parameters
    ----------
    named
        Names and parameters.
    batches
        Of the earlier task, at least one.
    loss
        The earlier task's loss of a batch, positive.
    """
    sums = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    number = 0
    for batch in batches:
        number += 1
        found = torch.autograd.grad(loss(batch).log(), list(named.values()), allow_unused=True)
        for name, gradient in zip(named, found, strict=True):
            if gradient is not None:
                sums[name] += gradient
    assert number
    return {name: (total / number).square() / number for name, total in sums.items()}


class EWC:
    """``weight / 2 sum(Fisher (w - w0)^2) / number of parameters``.

    Parameters
    ----------
    start
        Names and values w0 of the parameters that are held.
    fisher
        Names to the diagonal of the Fisher information.
    weight
        How firmly.
    """

    def __init__(
        self, start: Mapping[str, Tensor], fisher: Mapping[str, Tensor], weight: float
    ) -> None:
        self._start = {name: value.detach().clone() for name, value in start.items()}
        self._fisher = dict(fisher)
        self._weight = weight
        self._number = sum(value.numel() for value in self._start.values())

    def __call__(self, named: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of parameters of these names."""
        terms = [
            (self._fisher[name] * (named[name] - start).square()).sum()
            for name, start in self._start.items()
        ]
        return self._weight / 2 * torch.stack(terms).sum() / self._number
