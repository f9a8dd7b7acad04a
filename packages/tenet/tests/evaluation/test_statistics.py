"""Statistics of scores against tables, and against drawn numbers."""

import math

import numpy as np
import pytest

from tenet.evaluation.statistics import statistics_of


def test_statistics():
    of_four = statistics_of([1.0, 2.0, 3.0, 4.0])
    assert (of_four.number, of_four.mean) == (4, 2.5)
    assert of_four.sd == pytest.approx(math.sqrt(5 / 3))
    # Student's t of 3 degrees of freedom, from tables.
    assert of_four.ci95 == pytest.approx(3.182 * of_four.sd / 2, rel=1e-3)
    of_one = statistics_of([7.0])
    assert of_one.mean == 7
    assert math.isnan(of_one.sd)
    assert math.isnan(of_one.ci95)
    assert statistics_of([]).number == 0


def test_the_confidence_interval_holds_the_mean_in_95_of_100_cases():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(1000):
        found = statistics_of([*rng.normal(5, 2, 6)])
        hits += abs(found.mean - 5) < found.ci95
    assert 925 < hits < 975
