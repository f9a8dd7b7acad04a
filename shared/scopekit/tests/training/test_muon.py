"""Muon and Adam as one optimizer, on memory of any order, and how it goes on."""

import pytest
import torch
from torch import nn

from scopekit.errors import UserError
from scopekit.training.muon import MuonAdam, as_matrix


def network(channels_last: bool) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.Conv3d(4, 6, 3), nn.Conv3d(6, 1, 3))
    return made.to(memory_format=torch.channels_last_3d) if channels_last else made


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(1, 2, 8, 8, 8, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_muon_step_is_orthogonal_and_sized_like_adams():
    model = network(channels_last=False)
    before = model[0].weight.detach().clone()
    learn(model, MuonAdam(model, 0.01), steps=1)
    change = (before - model[0].weight.detach()).reshape(4, -1)
    # The five iterations bring singular values near 1, not to 1.
    singular = torch.linalg.svdvals(change) / (0.01 * 0.2 * 54**0.5)
    assert 0.5 < singular.min() < singular.max() < 1.3


def test_the_last_kernel_and_the_biases_are_adams():
    model = network(channels_last=False)
    optimizer = MuonAdam(model, 0.01)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learn(model, optimizer, steps=1)
    for name in ("3.weight", "0.bias", "2.bias"):
        change = dict(model.named_parameters())[name].detach() - before[name]
        torch.testing.assert_close(change.abs(), torch.full_like(change, 0.005), rtol=0.02, atol=0)
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 4]


def test_the_order_of_the_memory_changes_nothing():
    plain, last = network(channels_last=False), network(channels_last=True)
    learn(plain, MuonAdam(plain, 0.01))
    learn(last, MuonAdam(last, 0.01))
    torch.testing.assert_close(flat(last), flat(plain), rtol=0, atol=2e-3)
    assert not torch.equal(flat(plain), flat(network(channels_last=False)))


def test_rates_are_those_of_the_groups():
    model = network(channels_last=True)
    optimizer = MuonAdam(model, 0.01)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    learn(model, optimizer)
    assert torch.equal(flat(model), flat(network(channels_last=True)))


def test_a_state_goes_on_exactly():
    whole, halves = network(channels_last=True), network(channels_last=True)
    optimizer = MuonAdam(whole, 0.01)
    learn(whole, optimizer, steps=2)
    learn(whole, optimizer, steps=2)
    first = MuonAdam(halves, 0.01)
    learn(halves, first, steps=2)
    second = MuonAdam(halves, 0.01)
    second.load_state_dict(first.state_dict())
    learn(halves, second, steps=2)
    assert torch.equal(flat(whole), flat(halves))


def test_frozen_kernels_stay():
    model = network(channels_last=True)
    model[0].requires_grad_(False)
    learn(model, MuonAdam(model, 0.01))
    assert torch.equal(model[0].weight, network(channels_last=True)[0].weight)
    assert not torch.equal(model[2].weight, network(channels_last=True)[2].weight)


def test_memory_that_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match="no matrix in its memory"):
        as_matrix(torch.zeros(3, 4, 5), torch.zeros(5, 4, 3).permute(2, 0, 1))


def test_an_old_pytorch_is_told(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"PyTorch 2\.9 or newer"):
        MuonAdam(network(channels_last=True), 0.01)
