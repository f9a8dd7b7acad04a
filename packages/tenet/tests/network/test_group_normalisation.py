"""Normalisation by groups of channels, and the statistics that BatchNorm3d learns from it."""

import pytest
import torch
from torch import nn

from tenet.network.group_normalisation import group_normalised
from tenet.network.unet import ResidualBlock


def norm_of(channels, momentum):
    norm = nn.BatchNorm3d(channels, momentum=momentum).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    return norm


@pytest.mark.parametrize(("channels", "of_a_group"), [(8, 4), (4, 4), (2, 2), (6, 2), (3, 1)])
def test_groups_of_a_crop_have_mean_0_and_deviation_1(channels, of_a_group):
    torch.manual_seed(0)
    x = 3 * torch.randn(2, channels, 4, 5, 6, dtype=torch.float64) + 7
    norm = norm_of(channels, 0.01)
    shape = (1, -1, 1, 1, 1)
    plain = (group_normalised(x, norm) - norm.bias.view(shape)) / norm.weight.view(shape)
    groups = plain.unflatten(1, (-1, of_a_group)).flatten(2)
    torch.testing.assert_close(groups.mean(2), torch.zeros_like(groups[..., 0]))
    deviation = groups.std(2, correction=0)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), rtol=1e-4, atol=0)


def test_evaluation_does_what_the_crop_saw():
    torch.manual_seed(0)
    x = 3 * torch.randn(1, 8, 4, 5, 6, dtype=torch.float64) + 7
    norm = norm_of(8, 1.0)
    seen = group_normalised(x, norm)
    torch.testing.assert_close(norm.eval()(x), seen, rtol=1e-5, atol=1e-5)


def test_evaluation_takes_the_mean_of_crops():
    """Factors by their logarithm, and shifts."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 6, 6, 6, dtype=torch.float64)
    x = (x - x.mean()) / x.std(correction=0)
    norm = norm_of(4, 1.0)
    group_normalised(torch.cat((x + 1, 4 * x + 12)), norm)
    assert norm.running_var[0].item() == pytest.approx(4, rel=1e-4)  # factors 1 and 1 / 4
    # shifts of -1 and -3 are -2 where the factor is 1 / 2
    assert norm.running_mean[0].item() == pytest.approx(4, rel=1e-4)


def test_statistics_of_steps_are_averaged():
    torch.manual_seed(0)
    norm = norm_of(4, 0.1)
    for _ in range(100):
        group_normalised(5 + torch.randn(2, 4, 4, 4, 4, dtype=torch.float64), norm)
    assert norm.running_mean[0].item() == pytest.approx(5, abs=0.1)
    assert norm.running_var[0].item() == pytest.approx(1, abs=0.1)


def test_a_block_by_groups_drops_nothing_and_evaluates_as_ever():
    torch.manual_seed(0)
    block = ResidualBlock(4, 0.5)
    x = torch.randn(2, 4, 4, 5, 6)
    evaluated = block.eval()(x)
    block.by_groups = True
    torch.testing.assert_close(block(x), evaluated, rtol=0, atol=0)
    block.train()
    first = block(x)
    torch.testing.assert_close(block(x), first, rtol=0, atol=0)
    assert not torch.allclose(first, evaluated)
    # each crop by itself
    torch.testing.assert_close(first[:1], block(x[:1]))
