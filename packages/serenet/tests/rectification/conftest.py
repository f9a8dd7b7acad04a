import numpy as np
import pytest

from serenet.rectification.lattice import find_lattice

from .small_camera import SHAPE, expose, sample, uniform


@pytest.fixture(scope="module")
def frames():
    return {"raw": expose(sample), "radiometry": expose(uniform), "dark": np.full(SHAPE, 100.0)}


@pytest.fixture(scope="module")
def lattice(frames):
    return find_lattice(frames["radiometry"])
