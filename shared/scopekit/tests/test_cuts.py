"""Cuts of axes into parts with surround."""

import math

import pytest

from scopekit.cuts import least_work, possible_cuts, smallest_part, with_surround


@pytest.mark.parametrize(("n", "halo", "step"), [(97, 8, 4), (301, 0, 1), (240, 80, 80), (5, 6, 2)])
def test_parts_cover_an_axis_and_start_at_steps(n, halo, step):
    cuts = possible_cuts(n, halo, step, step)
    assert cuts[0].borders == (0, n)
    for number, cut in enumerate(cuts, start=1):
        assert len(cut.cores) == number
        assert (cut.borders[0], cut.borders[-1]) == (0, n)
        assert all(start % step == 0 and start < stop for start, stop in cut.cores)
        sides = [stop - start for start, stop in (with_surround(c, n, halo) for c in cut.cores)]
        assert (cut.total, cut.side) == (sum(sides), max(sides))


def test_the_cut_of_least_work_is_that_of_all_that_fit():
    possible = [possible_cuts(n, 6, 2, 2) for n in (30, 44, 41)]
    for largest in (8000, 15000, 60000):
        found = least_work(possible, largest)
        assert math.prod(cut.side for cut in found) <= largest
        work = min(
            a.total * b.total * c.total
            for a in possible[0]
            for b in possible[1]
            for c in possible[2]
            if a.side * b.side * c.side <= largest
        )
        assert math.prod(cut.total for cut in found) == work
    assert least_work(possible, smallest_part(possible) - 1) is None
    assert least_work(possible, smallest_part(possible)) is not None
