"""The examples in the documentation of the public names, and the README's, run as printed."""

import doctest
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import tenet as package

README = Path(__file__).parents[1] / "README.md"
WITHOUT = {"Config", "Enhanced", "ObjectMeasurement", "Recording"}  # what functions return


@pytest.fixture
def place(work):
    """The working folder, with what examples name."""
    np.save(work / "cell.npy", np.random.default_rng(0).random((4, 20, 20)))
    return work


@pytest.mark.parametrize("name", package.__all__)
def test_examples_run_as_printed(name, place):
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(getattr(package, name), name, globs={})
    assert bool(found.examples) is (name not in WITHOUT)
    told = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(found, out=told.append)
    assert runner.failures == 0, "".join(told)


def test_the_shortest_way_in_the_readme_runs(place, tenet, capsys):
    """From a recording to its objects, in ten lines at most."""
    text = README.read_text(encoding="utf-8").split("## In Python")[1]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    demo = tenet("demo", "--out", "tenet_demo")
    assert demo.returncode == 0, demo.stderr
    names = {}
    exec(code, names)
    printed = capsys.readouterr()[0].splitlines()
    assert len(printed) == len(names["objects"]) > 0
    shutil.rmtree("tenet_demo")
