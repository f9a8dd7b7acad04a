"""TW-Net against a plain transcription of its definition."""

import json

import pytest
import torch
import torch.nn.functional as F

from scopekit.errors import UserError
from serenet.networks.twnet import TWNet, build_twnet


@pytest.fixture(scope="module")
def manifest(reference):
    return json.loads((reference / "data/published/model_manifests.json").read_text())["twnet"]


def random_state(model, seed=0):
    """Random parameters that keep the values' size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(p.shape, generator=generator)
        * (0.1 if p.dim() == 1 else (2 / p[0].numel()) ** 0.5)
        for name, p in model.state_dict().items()
    }


def conv(x, state, name):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def plain_mask(x, state):
    """The definition, by published names, for one view (9, h, w)."""
    height, width = x.shape[-2:]
    rows, columns = -(-height // 16) * 16, -(-width // 16) * 16
    top, left = (rows - height) // 2, (columns - width) // 2
    padded = torch.zeros(1, 9, rows, columns)
    padded[0, :, top : top + height, left : left + width] = x
    x, kept = conv(padded, state, "conv_init"), []
    for n in range(4):
        x = conv(x, state, f"down_layers.{n}.conv.0").relu()
        kept.append(x)
        x = F.max_pool2d(x, 2)
    x = conv(x, state, "up_layers.0.conv.0").relu()
    for n in range(1, 5):
        size = [2 * s for s in x.shape[-2:]]
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = conv(torch.cat([x, kept[4 - n]], 1), state, f"up_layers.{n}.conv.0").relu()
    x = x[:, :, top : top + height, left : left + width]
    x = conv(x, state, "conv_final.0").reshape(1, 16, 3, 3, height, width)
    x = x.permute(0, 1, 4, 2, 5, 3).reshape(1, 16, 3 * height, 3 * width).relu()
    return torch.sigmoid(conv(x, state, "conv_final.3"))


def test_every_published_parameter_has_its_place(manifest):
    model = build_twnet(**manifest["args"])
    assert sum(p.numel() for p in model.parameters()) == 144_753 == manifest["params"]
    shapes = {name: list(p.shape) for name, p in model.state_dict().items()}
    assert shapes == manifest["state_dict"]


@pytest.mark.parametrize(("height", "width"), [(16, 32), (11, 18), (1, 5), (33, 16)])
def test_forward_is_the_definition(height, width):
    model = TWNet().eval()
    state = random_state(model)
    model.load_state_dict(state)
    generator = torch.Generator().manual_seed(1)
    inputs = 2 * torch.rand(2, 9, height, width, generator=generator)
    with torch.no_grad():
        mask = model(inputs)
        expected = torch.cat([plain_mask(x, state) for x in inputs])
    assert mask.shape == (2, 1, 3 * height, 3 * width)
    assert expected.std() > 0.01
    assert (mask - expected).abs().max() <= 1e-5


def test_training_reaches_every_parameter():
    model = TWNet()
    model.load_state_dict(random_state(model))
    model(torch.rand(2, 9, 17, 16, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("channels", [[4, 4], (8, 8, 16), [2, 3, 4, 5, 6, 7]])
def test_other_channels(channels):
    with torch.no_grad():
        assert build_twnet(channels)(torch.zeros(1, 9, 7, 6)).shape == (1, 1, 21, 18)


@pytest.mark.parametrize(
    "channels", [None, 16, "16", [], [16], [16, 0], [16, 16.0], [16, True], [2] * 9, [16, 10**6]]
)
def test_channels_that_make_no_network_are_refused(channels):
    with pytest.raises(UserError, match="channels is"):
        build_twnet(channels)
