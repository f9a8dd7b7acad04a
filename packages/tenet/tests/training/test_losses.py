"""Losses against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm
from torch import nn

from tenet.config.kinds import LOSSES
from tenet.training.losses import STRUCTURE_LOSSES, labelled_luminance_loss, luminance_loss


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


def test_every_loss_of_a_configuration_has_its_function():
    assert tuple(STRUCTURE_LOSSES) == LOSSES
    for function in STRUCTURE_LOSSES.values():
        assert float(function(torch.full((3,), 0.5), torch.ones(3))) > 0
