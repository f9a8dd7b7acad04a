"""The start of the fast recipe: its scale, and units that change no bit."""

import pytest
import torch

from serenet import build_model
from serenet.training.start import draw_weights, in_counts, to_counts, to_own_units


def drawn(name="serenet", seed=0):
    model = build_model(name)
    draw_weights(model, torch.Generator().manual_seed(seed))
    return model


@pytest.mark.parametrize("name", ["serenet", "serenetup5", "fserenet"])
def test_numbers_of_about_one_stay_so(name):
    model = drawn(name).eval()
    channels = model.n_views
    inputs = torch.rand(1, channels, 9, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        inner = model.middle(model.coarse(inputs))
        result = model.enlarged(inputs)
    # He's weights keep the power of LeakyReLU's input; zeros around the field take some.
    assert 0.1 < float(inner.square().mean().sqrt()) < 2
    assert 0 < float(result.abs().max()) < 1


def test_weights_follow_from_the_seed_alone():
    first, again, other = drawn(), drawn(), drawn(seed=1)
    again.lay_out()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.coarse[0].weight, other.coarse[0].weight)
    assert not first.coarse[0].bias.any()


@pytest.mark.parametrize("name", ["serenet", "fserenet"])
def test_a_network_in_its_own_units_is_the_same_network(name):
    model = drawn(name).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter.data, std=0.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    counts = torch.rand(1, 49, 6, 8, 8) * 300
    with torch.no_grad():
        expected = model(counts, 13 / 3)
        to_own_units(model)
        found = 8 * model(counts / 64, 13 / 3)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        with in_counts(model):
            assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not torch.equal(model.state_dict()["coarse.0.weight"], before["coarse.0.weight"])
        to_counts(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
