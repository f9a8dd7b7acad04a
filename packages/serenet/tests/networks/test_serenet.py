"""The networks against the published results and a plain transcription of their definition."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from serenet import build_model, load_checkpoint, load_published_state

PUBLISHED = "data/published"
PARAMETERS = {"serenet": 194_689, "serenetup5": 249_985, "fserenet": 214_713}
SECOND_UP = {"serenet": 2, "serenetup5": 2.5, "fserenet": 2}


@pytest.fixture(scope="module")
def manifests(reference):
    return json.loads((reference / PUBLISHED / "model_manifests.json").read_text())


@pytest.fixture
def golden(reference):
    return np.load(reference / "golden" / "serenet_forward.npz")


def published_state(manifest, seed=0):
    """Random tensors under the published names and of their shapes."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in manifest["state_dict"].items():
        spread = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
        state[name] = spread * torch.randn(shape, generator=generator)
    return state


def relative_error(result, expected):
    return float((result - expected).abs().max() / expected.abs().max())


# The definition, by published names --------------------------------------------------------


def conv(x, state, name):
    return F.leaky_relu(F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1), 0.1)


def lateral_up(x, factor):
    size = (x.shape[2], math.floor(x.shape[3] * factor), math.floor(x.shape[4] * factor))
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False)


def plain_coarse_and_middle(x, state, second_up):
    for layer in (0, 2, 4, 6):
        x = conv(x, state, f"fusion.{layer}")
    x = lateral_up(x, 2)
    for layer in (9, 11):
        x = conv(x, state, f"fusion.{layer}")
    return lateral_up(x, second_up)


def plain_unet(x, state):
    depth, height, width = x.shape[2:]
    front, top, left = (((-n) % 4) // 2 for n in (depth, height, width))
    padded = x.new_zeros(*x.shape[:2], *(n + (-n) % 4 for n in (depth, height, width)))
    inner = (slice(front, front + depth), slice(top, top + height), slice(left, left + width))
    padded[(..., *inner)] = x
    first = conv(padded, state, "decoder.down_layers.0.conv.0")
    second = conv(F.max_pool3d(first, 2), state, "decoder.down_layers.1.conv.0")
    x = conv(F.max_pool3d(second, 2), state, "decoder.up_layers.0.conv.0")
    for layer, kept in ((1, second), (2, first)):
        x = F.interpolate(x, size=kept.shape[2:], mode="trilinear", align_corners=False)
        x = conv(torch.cat([x, kept], 1), state, f"decoder.up_layers.{layer}.conv.0")
    return x[(..., *inner)]


def plain_forward(name, x, state, scale):
    """Return (resized, before the resize) of the published network."""
    height, width = x.shape[-2:]
    x = plain_coarse_and_middle(x, state, SECOND_UP[name])
    if name == "fserenet":
        x = conv(plain_unet(x, state), state, "final_conv.0")
    else:
        for layer in (14, 16, 18):
            x = conv(x, state, f"fusion.{layer}")
    size = (round(height * scale), round(width * scale))
    planes = [
        F.interpolate(x[:, :, z], size=size, mode="bilinear", align_corners=False)
        for z in range(x.shape[2])
    ]
    return torch.stack(planes, 2), x


# -------------------------------------------------------------------------------------------


def test_published_weights_give_the_published_volume(reference, golden):
    model = load_checkpoint(reference / PUBLISHED / "serenet_epoch-800.pth")
    with torch.no_grad():
        volume = model(torch.from_numpy(golden["inp"]), float(golden["scale"]))
    expected = torch.from_numpy(golden["out"])
    assert volume.shape == expected.shape
    assert relative_error(volume, expected) <= 1e-4


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_published_parameter_has_its_place(manifests, name):
    manifest = manifests[name]
    model = build_model(name, **manifest["args"])
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name] == manifest["params"]
    state = published_state(manifest)
    load_published_state(model, state)
    own = list(model.state_dict().values())
    assert len(own) == len(state)
    for tensor in state.values():
        assert sum(p.shape == tensor.shape and bool((p == tensor).all()) for p in own) == 1


@pytest.mark.parametrize("name", PARAMETERS)
def test_names_saved_from_data_parallel_training(manifests, name):
    state = published_state(manifests[name])
    plain, parallel = (build_model(name, **manifests[name]["args"]) for _ in range(2))
    load_published_state(plain, state)
    load_published_state(parallel, {f"module.{key}": t for key, t in state.items()})
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), parallel.parameters(), strict=True)
    )


@pytest.mark.parametrize("shape", [(9, 8, 8), (7, 9, 12), (10, 11, 5), (1, 6, 7)])
@pytest.mark.parametrize("name", PARAMETERS)
def test_forward_is_the_definition(manifests, name, shape):
    manifest = manifests[name]
    state = published_state(manifest, seed=1)
    model = build_model(name, **manifest["args"])
    load_published_state(model, state)
    scale = 5 if name == "serenetup5" else 13 / 3
    inputs = torch.rand(
        (2, manifest["args"]["inChannels"], *shape), generator=torch.Generator().manual_seed(2)
    )
    with torch.no_grad():
        expected, expected_enlarged = plain_forward(name, inputs, state, scale)
        resized, enlarged = model.train()(inputs, scale)
        in_eval_mode = model.eval()(inputs, scale)
    assert enlarged.shape == expected_enlarged.shape
    assert resized.shape == expected.shape
    assert relative_error(enlarged, expected_enlarged) <= 1e-5
    assert relative_error(resized, expected) <= 1e-5
    assert relative_error(in_eval_mode, expected) <= 1e-5


@pytest.mark.parametrize("name", PARAMETERS)
def test_training_reaches_every_parameter(name):
    torch.manual_seed(0)
    model = build_model(name, inChannels=7).train()
    resized, enlarged = model(torch.rand(1, 7, 4, 5, 6), 4.2)
    (resized.square().mean() + enlarged.square().mean()).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().max() > 0, label


@pytest.mark.parametrize("name", PARAMETERS)
def test_slope_and_bias_arguments(name):
    inputs = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    without = build_model(name, inChannels=3, usingbias=False).eval()
    assert all(p.dim() == 5 for p in without.parameters())
    linear = build_model(name, inChannels=3, usingbias=False, negative_slope=1.0).eval()
    with torch.no_grad():
        for model, odd in ((without, False), (linear, name != "fserenet")):
            mirrored = torch.allclose(model(inputs, 4.0), -model(-inputs, 4.0), atol=1e-7)
            # Without bends and biases the network is linear; max pooling never is.
            assert mirrored is odd
