"""How many sweeps a deconvolution makes where nobody says: until one more hardly fits better.

Detail is found as long as the misfit falls; what lowers it by little is noise, and what the model
of the optics does not explain. In dim light fields the first sweep finds all there is, and the
misfit falls on: there views that are left out tell. Sieves let little noise through; with one, the
sweep of a dim light field that gained too little is given up.
"""

from collections.abc import Sequence
from dataclasses import replace

from optics import poisson_deviance, richardson_lucy
from serenet.deconvolution.subsets import EXPONENT, ViewSubsets, flat_start

FOUND = "found by the misfit"
"""What the settings say of such a number of sweeps."""

LEAST_GAIN = 0.03
"""Share of the misfit by which a sweep has to lower it to be followed by another."""

MOST_SWEEPS = 10
"""Sweeps at most."""

# Bright light fields gain more by the second sweep, beyond doubt; dim ones 3 to 17 % (49 views).
_BEYOND_DOUBT = 0.25
# Every so many views judges, and by this share they have to fit better.
_JUDGES = 5
_LEAST_JUDGED_GAIN = 0.004


def is_enough(deviances: Sequence[float]) -> bool:
    """Whether the last sweep lowered the misfit by so little that no more is worth its time.

    Parameters
    ----------
    deviances
        Of every sweep so far.

    Examples
    --------
    >>> is_enough([40.0, 10.0]), is_enough([40.0, 10.0, 9.9])
    (False, True)
    """
    if len(deviances) >= MOST_SWEEPS:
        return True
    if len(deviances) < 2:
        return False
    before, after = deviances[-2:]
    return after >= (1 - LEAST_GAIN) * before


def is_doubtful(deviances: Sequence[float]) -> bool:
    """Whether the second sweep, just made, lowered the misfit by no more than noise allows.

    Parameters
    ----------
    deviances
        Of every sweep so far.

    Examples
    --------
    >>> is_doubtful([40.0, 10.0]), is_doubtful([1.7, 1.6]), is_doubtful([1.7, 1.6, 1.5])
    (False, True, False)
    """
    return len(deviances) == 2 and deviances[1] > (1 - _BEYOND_DOUBT) * deviances[0]


def is_noise(deviances: Sequence[float]) -> bool:
    """Whether the last sweep fitted noise: too little was gained, in a dim light field or at all.

    In bright light fields a sweep that gains little still finds detail; it is kept. One that
    raises the misfit never does.

    Parameters
    ----------
    deviances
        Of every sweep so far.

    Examples
    --------
    >>> is_noise([40.0, 10.0, 9.9]), is_noise([40.0, 10.0, 10.1]), is_noise([1.7, 1.6, 1.58])
    (False, True, True)
    """
    if len(deviances) < 2 or not is_enough(deviances):
        return False
    return deviances[-1] > deviances[-2] or is_doubtful(deviances[:2])


def first_is_enough(subsets: ViewSubsets) -> bool:
    """Whether a second sweep finds nothing: it helps to explain no views that it has not seen.

    Tried on four fifths of the views, from a flat start; the others judge.

    Parameters
    ----------
    subsets
        The data, one subset a view.
    """
    judges = subsets.order[_JUDGES // 2 :: _JUDGES]
    if not judges:
        return False
    tried = replace(subsets, order=[c for c in subsets.order if c not in judges])
    misfits: list[float] = []

    estimate = flat_start(tried)
    for _ in range(2):
        estimate = richardson_lucy(tried, estimate, iterations=1, exponent=EXPONENT)
        misfit = 0.0
        for channel in judges:
            subset = subsets.subset(channel)
            misfit += poisson_deviance(subset.measured, subset.operator.forward(estimate))
        misfits.append(misfit)
    return misfits[1] > (1 - _LEAST_JUDGED_GAIN) * misfits[0]


def told(deviances: Sequence[float]) -> str:
    """Say how many sweeps were made, and why not more.

    Examples
    --------
    >>> told([40.0, 10.0, 9.9])
    '3 sweeps; the last lowered the misfit by 1.0 %'
    """
    count = len(deviances)
    if count == 1:
        return "1 sweep; a second explains views that it has not seen no better"
    if not is_enough(deviances):
        return f"{count} sweeps; one more fits noise"
    before, after = deviances[-2:]
    if after >= before:
        return f"{count} sweeps; the last did not lower the misfit"
    return f"{count} sweeps; the last lowered the misfit by {100 * (1 - after / before):.1f} %"
