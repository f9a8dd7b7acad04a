"""How many sweeps a deconvolution makes where nobody says: until one more hardly fits better.

Detail is found as long as the misfit falls; what lowers it by little is noise, and what the model
of the optics does not explain.
"""

from collections.abc import Sequence

FOUND = "found by the misfit"
"""What the settings say of such a number of sweeps."""

LEAST_GAIN = 0.03
"""Share of the misfit by which a sweep has to lower it to be followed by another."""

MOST_SWEEPS = 10
"""Sweeps at most."""


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


def told(deviances: Sequence[float]) -> str:
    """Say how many sweeps were made, and why not more.

    Examples
    --------
    >>> told([40.0, 10.0, 9.9])
    '3 sweeps; the last lowered the misfit by 1.0 %'
    """
    count = len(deviances)
    before, after = deviances[-2:] if count > 1 else (0.0, 0.0)
    sweeps = f"{count} sweep{'s' * (count > 1)}"
    if after >= before:
        return f"{sweeps}; the last did not lower the misfit"
    return f"{sweeps}; the last lowered the misfit by {100 * (1 - after / before):.1f} %"
