"""Mean, standard deviation and confidence interval of scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Statistics:
    """Mean of some numbers, and how sure it is.

    Attributes
    ----------
    number
        How many.
    mean, sd
        Mean and standard deviation (n - 1); NaN of too few.
    ci95
        Half the width of the mean's 95 % confidence interval, by Student's t; NaN of fewer than 2.
    """

    number: int
    mean: float
    sd: float
    ci95: float


def statistics_of(values: Sequence[float]) -> Statistics:
    """Return mean, standard deviation and confidence of some numbers."""
    number = len(values)
    mean = float(np.mean(values)) if number else math.nan
    if number < 2:
        return Statistics(number, mean, math.nan, math.nan)
    sd = float(np.std(values, ddof=1))
    half = float(student.ppf(0.975, number - 1)) * sd / math.sqrt(number)
    return Statistics(number, mean, sd, half)
