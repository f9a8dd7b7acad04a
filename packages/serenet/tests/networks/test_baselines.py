"""The networks that SeReNet was compared with, against plain forms of their definitions."""

import json
from copy import deepcopy

import pytest
import torch

from bench.plain.baselines import plain_hylfmnet, plain_rlnet, plain_vcdnet, plain_vsnet
from scopekit.errors import UserError
from serenet import build_model, load_checkpoint, load_published_state, save_checkpoint
from serenet.networks.published_names import MODELS

PARAMETERS = {
    "vcdnet": 19_190_815,
    "hylfmnet": 23_536_634,
    "rlnet": 16_060,
    "vsnet": 27_897_600,
}
# Arguments of small networks.
SMALL = {
    "vcdnet": {"inChannels": 3, "outChannels": 5, "channels_interp": 32},
    "hylfmnet": {"inChannels": 3, "outChannels": 2},
    "rlnet": {"kernel_size": 3},
    "vsnet": {"angRes": 3, "K": 2, "n_block": 2, "channels": 4, "upscale_factor": 3},
}
# Allowed in double precision, relative to the largest value.
ROUNDING = 1e-10


@pytest.fixture(scope="module")
def manifests(reference):
    return json.loads((reference / "data/published/model_manifests.json").read_text())


@pytest.fixture(scope="module")
def filled(manifests):
    """Make a network and the random weights in it, under their published names."""

    def make(name, **arguments):
        model = build_model(name, **arguments).eval()
        own = model.state_dict()
        generator = torch.Generator().manual_seed(0)
        state = {}
        for published in manifests[name]["state_dict"]:
            # A network of fewer blocks has the first of the published ones.
            if (own_name := MODELS[name].own_name(published, name)) in own:
                shape = own[own_name].shape
                state[published] = lively(published, shape, generator)
        load_published_state(model, state)
        return model, state

    return make


@pytest.fixture(scope="module")
def small(filled):
    """The networks with SMALL arguments, made once; not to be changed."""
    return {name: filled(name, **arguments) for name, arguments in SMALL.items()}


def lively(name, shape, generator):
    """Random values that keep the size of what passes, and bend it."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("running_var"):
        return 0.02 + torch.rand(shape, generator=generator)
    values = torch.randn(shape, generator=generator)
    return 0.5 * values if len(shape) == 1 else values * (2 / values[0].numel()) ** 0.5


def in_double(model, state):
    """Copies in double precision, in which rounding hides nothing."""
    state = {n: t.double() if t.is_floating_point() else t for n, t in state.items()}
    return deepcopy(model).double(), state


def uniform(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def relative_error(result, expected):
    assert result.shape == expected.shape
    # Constant maps would be equal too easily.
    assert expected.std() > 0.02 * expected.abs().max()
    return ((result - expected).abs().max() / expected.abs().max()).item()


def small_pass(name, model):
    """The output of a network with the SMALL arguments."""
    channels = {"vcdnet": 3, "hylfmnet": 3, "rlnet": 5, "vsnet": 9}[name]
    inputs = uniform(1, channels, 3, 4)
    return model(inputs, 4.3) if name in ("vcdnet", "hylfmnet") else model(inputs)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_published_parameter_has_its_place(manifests, name):
    manifest = manifests[name]
    model = build_model(name, **manifest["args"])
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name] == manifest["params"]
    state = {}
    for place, (published, shape) in enumerate(manifest["state_dict"].items()):
        kind = torch.int64 if published.endswith("num_batches_tracked") else torch.float32
        state[f"module.{published}"] = torch.full(shape, place, dtype=kind)
    load_published_state(model, state)
    places = sorted(int(t.flatten()[0]) for t in model.state_dict().values())
    assert places == list(range(len(state)))


@pytest.mark.parametrize(("height", "width", "scale"), [(3, 4, 13 / 3), (2, 5, 5), (1, 1, 13 / 3)])
def test_vcdnet_is_the_definition(small, height, width, scale):
    model, state = in_double(*small["vcdnet"])
    views = uniform(2, 3, height, width).double()
    with torch.no_grad():
        result, expected = model(views, scale), plain_vcdnet(state, views, scale)
    assert expected.shape == (2, 5, round(height * scale), round(width * scale))
    assert relative_error(result[:, 0], expected) <= ROUNDING


@pytest.mark.parametrize("n_views", [3, 16])
@pytest.mark.parametrize(("height", "width"), [(5, 6), (4, 7), (1, 2)])
def test_hylfmnet_is_the_definition(filled, height, width, n_views):
    # As many views as channels: no projection.
    model, state = in_double(*filled("hylfmnet", inChannels=n_views, outChannels=2))
    assert any("projection" in published for published in state) == (n_views != 16)
    views = uniform(2, n_views, height, width).double()
    with torch.no_grad():
        result, expected = model(views, 13 / 3), plain_hylfmnet(state, views, 13 / 3)
    assert expected.shape == (2, 2, round(height * 13 / 3), round(width * 13 / 3))
    assert relative_error(result[:, 0], expected) <= ROUNDING


@pytest.mark.parametrize("shape", [(6, 8, 10), (5, 8, 9), (4, 7, 6), (1, 5, 3)])
def test_rlnet_is_the_definition(small, shape):
    model, state = in_double(*small["rlnet"])
    volume = uniform(2, *shape).double()
    with torch.no_grad():
        result, expected = model(volume), plain_rlnet(state, volume)
        assert torch.equal(model(volume[:, None]), result)
    for output in (0, 1):
        assert relative_error(result[:, output], expected[:, output]) <= ROUNDING


@pytest.mark.parametrize(
    ("side", "n_groups", "n_blocks", "channels", "factor"),
    [(3, 2, 2, 4, 3), (2, 1, 3, 5, 2), (5, 3, 1, 3, 3), (1, 1, 1, 2, 4)],
)
@pytest.mark.parametrize(("height", "width"), [(4, 5), (3, 6)])
def test_vsnet_is_the_definition(filled, side, n_groups, n_blocks, channels, factor, height, width):
    arguments = {"angRes": side, "K": n_groups, "n_block": n_blocks}
    model, state = in_double(
        *filled("vsnet", **arguments, channels=channels, upscale_factor=factor)
    )
    views = uniform(2, side**2, height, width).double()
    with torch.no_grad():
        result = model(views)
        expected = plain_vsnet(state, views, side, n_groups, n_blocks, factor)
    assert expected.shape == (2, side**2, factor * height, factor * width)
    assert relative_error(result[:, 0], expected) <= ROUNDING


def test_rlnet_learns_by_surrogate_gradients(small):
    model, state = in_double(*small["rlnet"])
    model.train()
    # Without running statistics, those of the batch count, as in training.
    leaves = {
        name: values.requires_grad_()
        for name, values in state.items()
        if "running" not in name and "tracked" not in name
    }
    volumes = [uniform(2, 5, 6, 7).double().requires_grad_() for _ in range(2)]
    result, expected = model(volumes[0]), plain_rlnet(leaves, volumes[1])
    assert relative_error(result.detach(), expected.detach()) <= ROUNDING

    weights = uniform(*expected.shape, seed=2) - 0.5
    (weights * result).sum().backward()
    (weights * expected).sum().backward()
    own = {name: p.grad for name, p in model.named_parameters()}
    pairs = {
        name: (own[MODELS["rlnet"].own_name(name, "rlnet")], leaf.grad)
        for name, leaf in leaves.items()
    }
    assert len(pairs) == len(own)
    pairs["volume"] = (volumes[0].grad, volumes[1].grad)
    largest = max(expected.abs().max() for _, expected in pairs.values())
    for name, (found, expected) in pairs.items():
        assert (found - expected).abs().max() <= ROUNDING * largest, name


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_matters(small, name):
    model, _ = small[name]
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        small_pass(name, model).square().sum(), list(parameters.values())
    )
    for label, gradient in zip(parameters, gradients, strict=True):
        assert torch.isfinite(gradient).all(), label
        assert gradient.abs().max() > 0, label


@pytest.mark.parametrize("name", PARAMETERS)
def test_saved_weights_come_back(tmp_path, small, name):
    model, _ = small[name]
    path = tmp_path / "own.pth"
    save_checkpoint(path, model)
    again = load_checkpoint(path)
    assert not again.training
    assert (again.published_name, again.published_args, again.method) == (name, SMALL[name], name)
    states = model.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    with torch.no_grad():
        assert relative_error(small_pass(name, again), small_pass(name, model)) <= 1e-4


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("vcdnet", {"inChannels": 0}, "inChannels is 0"),
        ("vcdnet", {"outChannels": "101"}, "outChannels is '101'"),
        ("vcdnet", {"channels_interp": 48}, "multiple of 32"),
        ("vcdnet", {"channels_interp": True}, "channels_interp is True"),
        ("vcdnet", {"kernel_size": 3}, "'kernel_size'"),
        ("hylfmnet", {"inChannels": 169.0}, r"inChannels is 169\.0"),
        ("hylfmnet", {"outChannels": -1}, "outChannels is -1"),
        ("hylfmnet", {"channels_interp": 128}, "'channels_interp'"),
        ("rlnet", {"kernel_size": 5}, "kernel_size is 5; expected 3"),
        ("rlnet", {"kernel_size": None}, "kernel_size is None"),
        ("rlnet", {"inChannels": 1}, "'inChannels'"),
        ("vsnet", {"angRes": 0}, "angRes is 0"),
        ("vsnet", {"K": "4"}, "K is '4'"),
        ("vsnet", {"n_block": 1.5}, r"n_block is 1\.5"),
        ("vsnet", {"channels": [64]}, r"channels is \[64\]"),
        ("vsnet", {"upscale_factor": 10**9}, "upscale_factor is 1000000000"),
        ("vsnet", {"inChannels": 169}, "'inChannels'"),
    ],
)
def test_arguments_that_make_no_network_are_refused(name, arguments, reason):
    with pytest.raises(UserError, match=reason):
        build_model(name, **arguments)
