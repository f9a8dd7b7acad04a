"""Elastic weight consolidation against finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tenet.training.ewc import EWC, fisher_diagonal


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
