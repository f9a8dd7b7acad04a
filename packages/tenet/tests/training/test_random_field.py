"""The Markov random field against golden values and brute force."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenet.training.random_field import mrf_loss

WEIGHTS = {
    "a": {"l_00": 0.1, "l_01": 0.2, "l_10": 0.3, "l_11": 0.4},
    "b": {"l_10": 1.0},
    "c": {"l_01": 1.0},
}


@pytest.mark.parametrize(("name", "order", "dilation"), list(itertools.product("abc", [1], [1, 2])))
def test_mrf_golden_values(golden, name, order, dilation):
    known = golden("mrf_loss")
    x = torch.from_numpy(known["x"])
    loss = mrf_loss(x, order=order, dilation=dilation, **WEIGHTS[name])
    assert float(loss) == pytest.approx(float(known[f"{name}_{order}_{dilation}"]), rel=1e-5)


def brute_force_mrf(x, order, dilation, l_00, l_01, l_10, l_11):
    """The definition, voxel by voxel and neighbour by neighbour."""
    steps = list(itertools.product(range(-order, order + 1), repeat=3))
    total = 0
    for place in np.ndindex(x.shape):
        neighbours = []
        for step in steps:
            at = [p + dilation * s for p, s in zip(place, step, strict=True)]
            inside = all(0 <= a < n for a, n in zip(at, x.shape, strict=True))
            neighbours.append(x[tuple(at)] if inside else 0.0)
        p = np.prod([1 - n for n in neighbours])
        v = x[place]
        for step, n in zip(steps, neighbours, strict=True):
            energy = l_00 * (1 - v) * (1 - n) + l_01 * (1 - v) * n + l_10 * v * p
            energy += l_11 * v * (1 - p)
            total += energy / math.hypot(*step) if any(step) else 0
    return total / x.size / len(steps)


@given(
    st.sampled_from([(1, 1), (1, 2), (2, 1)]),
    st.tuples(*3 * [st.integers(1, 4)]),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
)
def test_mrf_is_its_definition(window, shape, weights):
    x = np.random.default_rng(0).random(shape)
    names = dict(zip(("l_00", "l_01", "l_10", "l_11"), weights, strict=True))
    found = mrf_loss(torch.from_numpy(x)[None, None], order=window[0], dilation=window[1], **names)
    assert float(found) == pytest.approx(brute_force_mrf(x, *window, **names), abs=1e-12)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_gradient_of_mrf(name):
    x = torch.rand(2, 1, 3, 4, 3, dtype=torch.float64)
    x[0, 0, 1, 1, 1] = 1.0  # where logarithms would fail
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mrf_loss(x, **WEIGHTS[name]), x)


def test_mrf_holds_no_copy_for_each_neighbour():
    """Forward and backward take less than 12 volumes beyond what was there."""
    script = (
        "import resource, torch\n"
        "from tenet.training.random_field import mrf_loss\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "mrf_loss(torch.rand(1, 1, 4, 8, 8).requires_grad_(), l_00=1., l_10=1.).backward()\n"
        "x = torch.rand(1, 1, 96, 160, 160).requires_grad_()\n"
        "before = peak()\n"
        "mrf_loss(x, l_00=.1, l_01=.2, l_10=.3, l_11=.4).backward()\n"
        "print((peak() - before) / (4 * x.numel()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 12
