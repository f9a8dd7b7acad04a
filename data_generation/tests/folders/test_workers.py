"""Items made by several processes: counted, and stopped together."""

import functools
import multiprocessing
import os

import pytest

from datagen.folders.workers import make_in_parts, make_items
from scopekit.errors import UserError


@pytest.mark.parametrize("jobs", [1, 2])
def test_items_are_made_and_counted(jobs, capsys, terminal):
    done = make_items(functools.partial(pow, 2), [3, 5, 4], jobs=jobs, description="powers")
    assert done == [8, 32, 16]
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_stops_the_work(jobs):
    with pytest.raises(ZeroDivisionError):
        make_items(functools.partial(divmod, 1), [1, 0, 2], jobs=jobs, description="quotients")
    assert multiprocessing.active_children() == []


def test_a_worker_that_ends_is_told_in_a_line():
    with pytest.raises(UserError, match="smaller --jobs"):
        make_items(os._exit, [3, 4], jobs=2, description="exit codes")


def in_three_parts(number, advance):
    for _ in range(3):
        advance()
    return -number


def test_parts_are_counted(capsys, terminal):
    done = make_in_parts(in_three_parts, [1, 2, 3, 4], parts=3, jobs=1, description="parts")
    assert done == [-1, -2, -3, -4]
    assert "12/12" in capsys.readouterr().err
