"""Losses against closed forms, golden values and brute force."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm
from torch import nn

from tenet.config.sections import LOSSES
from tenet.training.ewc import EWC, fisher_diagonal
from tenet.training.losses import (
    STRUCTURE_LOSSES,
    labelled_luminance_loss,
    least_squares_gain,
    luminance_loss,
    mrf_loss,
)

WEIGHTS = {
    "a": {"l_00": 0.1, "l_01": 0.2, "l_10": 0.3, "l_11": 0.4},
    "b": {"l_10": 1.0},
    "c": {"l_01": 1.0},
}


@pytest.mark.parametrize(("name", "order", "dilation"), list(itertools.product("abc", [1], [1, 2])))
def test_mrf_golden_values(reference, name, order, dilation):
    golden = np.load(reference / "golden" / "mrf_loss.npz")
    x = torch.from_numpy(golden["x"])
    loss = mrf_loss(x, order=order, dilation=dilation, **WEIGHTS[name])
    assert float(loss) == pytest.approx(float(golden[f"{name}_{order}_{dilation}"]), rel=1e-5)


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
        "from tenet.training.losses import mrf_loss\n"
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


def test_luminance_is_a_truncated_normal():
    brightness = torch.linspace(math.exp(-1), 1, 50, dtype=torch.float64)
    expected = -truncnorm(-1, 1).logpdf(np.log(brightness.numpy()).clip(-1, 1)).mean() / 100
    assert float(luminance_loss(brightness)) == pytest.approx(expected, rel=1e-9)


def test_luminance_is_finite_everywhere():
    brightness = torch.tensor([0.0, 1e-30, 1.0], requires_grad=True)
    loss = luminance_loss(brightness)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(brightness.grad).all()


def test_luminance_with_labels():
    z, x, labelz = (torch.rand(2, 1, 3, 3, 3) for _ in range(3))
    found = labelled_luminance_loss(z, x, labelz) - luminance_loss(z)
    expected = nn.GaussianNLLLoss()(z * x, labelz, torch.ones_like(z))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("gain", "expected"), [(2.5, 2.5), (-1.0, 0.0), (50.0, 30.0)])
def test_the_gain_is_that_of_least_squares_within_bounds(gain, expected):
    reconstruction = torch.rand(3, 1, 4, 4, 4) + 0.1
    found = least_squares_gain(reconstruction, gain * reconstruction)
    assert found.shape == (3, 1, 1, 1, 1)
    torch.testing.assert_close(found, torch.full_like(found, expected))


def test_the_gain_minimises_the_error():
    generator = torch.Generator().manual_seed(0)
    image, reconstruction = (torch.rand(1, 1, 5, 5, 5, generator=generator) for _ in range(2))
    gain = least_squares_gain(reconstruction, image)
    errors = [float((f * gain * reconstruction - image).square().sum()) for f in (0.99, 1, 1.01)]
    assert errors[1] == min(errors)
    assert least_squares_gain(torch.zeros_like(image), image).item() == 1


def test_every_loss_of_a_configuration_has_its_function():
    assert tuple(STRUCTURE_LOSSES) == LOSSES
    for function in STRUCTURE_LOSSES.values():
        assert float(function(torch.full((3,), 0.5), torch.ones(3))) > 0


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    batches = [torch.randn(5, 3, dtype=torch.float64) for _ in range(6)]
    return model, batches


def positive_loss(model):
    return lambda batch: (model(batch) - 1).square().mean()


def test_the_fisher_diagonal_is_that_of_finite_differences(tiny):
    model, batches = tiny
    loss = positive_loss(model)
    named = dict(model.named_parameters())
    fisher = fisher_diagonal(named, batches, loss)
    for name, parameter in named.items():
        for place in np.ndindex(parameter.shape):
            step, values = 1e-6, []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[place] += sign * step
                    values.append(sum(math.log(float(loss(b))) for b in batches))
                    parameter[place] -= sign * step
            slope = (values[0] - values[1]) / (2 * step) / len(batches)
            expected = slope**2 / len(batches)
            assert fisher[name][place].item() == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_ewc_is_zero_at_the_start_and_grows_with_the_distance(tiny):
    model, batches = tiny
    named = dict(model.named_parameters())
    fisher = fisher_diagonal(named, batches, positive_loss(model))
    ewc = EWC(named, fisher, weight=3.0)
    assert ewc(named).item() == 0
    direction = {name: torch.randn_like(p) for name, p in named.items()}
    losses = [
        float(ewc({n: (p + far * direction[n]).detach() for n, p in named.items()}))
        for far in (0.1, 0.2, 0.4)
    ]
    assert losses[0] > 0
    assert losses[1] == pytest.approx(4 * losses[0])
    assert losses[2] == pytest.approx(16 * losses[0])
    number = sum(p.numel() for p in named.values())
    by_hand = sum(float((fisher[n] * d.square()).sum()) for n, d in direction.items())
    assert losses[0] == pytest.approx(1.5 * 0.01 * by_hand / number)


def test_parameters_that_a_loss_does_not_use_are_free(tiny):
    model, batches = tiny
    named = {**dict(model.named_parameters()), "other": nn.Parameter(torch.ones(2).double())}
    fisher = fisher_diagonal(named, batches, positive_loss(model))
    assert not fisher["other"].any()
