"""How an axis is cut into parts that overlap: borders, and the surround that each part needs."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """An axis cut into parts.

    Attributes
    ----------
    total, side
        Sum and largest of the parts' lengths, surround included.
    borders
        First sample of every part, and the end.
    """

    total: int
    side: int
    borders: tuple[int, ...]

    @property
    def cores(self) -> list[Span]:
        """First and last (exclusive) sample of every part, without surround."""
        return list(itertools.pairwise(self.borders))


def possible_cuts(n: int, halo: int, step: int, smallest: int) -> list[Cut]:
    """Return the cuts of ``n`` samples into 1, 2, ... parts, equal together with their surround.

    Small parts at the border, which needs no surround, would make convolutions choose algorithms
    that take several times the memory.

    Parameters
    ----------
    n
        Samples.
    halo
        Surround of a part, samples.
    step
        Parts start at multiples of it.
    smallest
        Parts are not cut smaller than about this.
    """
    possible = []
    for count in range(1, max((n - 2 * halo) // smallest, 1) + 1):
        borders = _equal_borders(n, halo, step, count)
        cores = itertools.pairwise(borders)
        sides = [stop - start for start, stop in (with_surround(core, n, halo) for core in cores)]
        possible.append(Cut(sum(sides), max(sides), borders))
    return possible


def _equal_borders(n: int, halo: int, step: int, count: int) -> tuple[int, ...]:
    side = (n + 2 * halo * (count - 1)) / count
    inner = (step * round((halo + i * (side - 2 * halo)) / step) for i in range(1, count))
    return (0, *inner, n)


def with_surround(core: Span, n: int, halo: int) -> Span:
    """Return a part with its surround, as far as the axis of ``n`` samples goes."""
    return max(core[0] - halo, 0), min(core[1] + halo, n)


def least_work(possible: Sequence[Sequence[Cut]], largest: float) -> tuple[Cut, ...] | None:
    """Return the cut of every axis with the least to compute in all.

    Parameters
    ----------
    possible
        The cuts of every axis, from `possible_cuts`.
    largest
        Samples that the largest part may have, surround included.

    Returns
    -------
    tuple of Cut or None
        ``None`` if not even the smallest parts fit.
    """
    *others, last = possible
    best, least = None, math.inf
    for cuts in itertools.product(*others):
        sides = math.prod(cut.side for cut in cuts)
        # Fewer parts have less surround in all.
        fitting = next((cut for cut in last if sides * cut.side <= largest), None)
        if fitting is not None:
            work = math.prod(cut.total for cut in (*cuts, fitting))
            if work < least:
                best, least = (*cuts, fitting), work
    return best


def smallest_part(possible: Sequence[Sequence[Cut]]) -> int:
    """Return how many samples the largest part has where every axis is cut the most."""
    return math.prod(min(cut.side for cut in of_axis) for of_axis in possible)
