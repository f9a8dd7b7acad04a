"""The whole of JNet against a plain one in functions that reads the published names by itself."""

import json
import math

import pytest
import torch

from bench.plain.jnet import plain_jnet, plain_unet
from tenet import JNet, load_published_state
from tenet.config.sections import Params

EVERYTHING = {"apply_vq": True, "use_x_quantized": True, "reconstruct": True}
GIBSON_LANNI = {"blur_mode": "gibsonlanni", "pZ": 3.0, "ni": 1.34, "tg": 165.0}
# axial scale, size of the stack, further parameters
CASES = {
    "scale 1": (1, (7, 9, 10), EVERYTHING | {"size_z": 9}),
    "scale 4": (4, (2, 5, 7), EVERYTHING),
    "scale 10": (10, (1, 6, 5), EVERYTHING | {"size_z": 41}),
    "scale 12": (12, (3, 3, 2), EVERYTHING | {"size_z": 49}),
    "published sampling": (10, (3, 5, 4), EVERYTHING | {"res_lateral": 0.05, "res_axial": 0.5}),
    "blurred from continuous": (4, (3, 8, 5), EVERYTHING | {"use_x_quantized": False}),
    "binary, not blurred": (4, (3, 5, 4), EVERYTHING | {"reconstruct": False}),
    "blurred without quantiser": (4, (3, 5, 4), {"reconstruct": True}),
    "binary wanted without quantiser": (4, (3, 5, 4), EVERYTHING | {"apply_vq": False}),
    "all off": (4, (3, 5, 4), {}),
    "same sampling": (4, (5, 6, 7), EVERYTHING | {"superres": False}),
    "diffraction": (4, (2, 5, 4), EVERYTHING | GIBSON_LANNI),
    "kernel not square": (4, (3, 9, 6), EVERYTHING | {"size_x": 9, "size_y": 5}),
    "even kernel": (4, (3, 5, 5), EVERYTHING | {"size_x": 6, "size_y": 6}),
    "direct": (4, (3, 5, 4), EVERYTHING | {"use_fftconv": False}),
    "one level": (4, (3, 5, 4), EVERYTHING | {"hidden_channels_list": [5], "attn_list": [False]}),
    "three levels": (
        4,
        (3, 5, 9),
        EVERYTHING | {"hidden_channels_list": [3, 4, 5, 6], "attn_list": [False] * 4, "nblocks": 1},
    ),
}


@pytest.fixture
def make(write_config):
    """Return ``make(scale, changes)``: the parameters as written, and as the package reads them."""

    def both(scale, changes):
        written = {
            "hidden_channels_list": [4, 6, 8],
            "attn_list": [False] * 3,
            "nblocks": 2,
            "dropout": 0.0,
            "superres": True,
            "scale": scale,
            "res_axial": 0.2 * scale,
            "threshold": 0.55,
            "size_z": 21,
            "size_x": 5,
            "size_y": 5,
            "apply_vq": False,
            "use_x_quantized": False,
            "reconstruct": False,
        } | changes
        path = write_config(**{f"params__{key}": value for key, value in written.items()})
        section = json.loads(path.read_text())["params"]
        return section, Params.model_validate_json(json.dumps(section))

    return both


def shapes_of(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def lively_state(shapes, written, stack):
    """Return random values for every name, both tails spread over 0 to 1 for this stack."""
    generator = torch.Generator().manual_seed(4)
    gains = {"conv2.weight": 0.5, f".{written['nblocks']}.conv.weight": 0.1}
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = (0.4 * values).exp()
        elif len(shape) > 1:
            gain = next((g for end, g in gains.items() if name.endswith(end)), 1.0)
            state[name] = gain * values * math.sqrt(2 / math.prod(shape[1:]))
        else:
            state[name] = 0.3 * values + name.endswith("weight")
    outputs = plain_jnet(state, written | {"apply_vq": False, "reconstruct": False}, stack)
    for tail, name in (("postx", "enhanced_image"), ("postz", "estim_luminance")):
        logits = torch.logit(outputs[name])
        weight, bias = (state[f"{tail}.{written['nblocks']}.conv.{p}"] for p in ("weight", "bias"))
        bias.sub_(logits.mean()).div_(logits.std())
        weight.div_(logits.std())
    return state


def stack_of(batch, size):
    generator = torch.Generator().manual_seed(5)
    return torch.rand((batch, 1, *size), generator=generator, dtype=torch.float64)


def relative_error(found, expected, least=0.0):
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), least)


def assert_same(found, expected, tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if value is None:
            assert found[name] is None, name
        else:
            assert found[name].shape == value.shape, name
            assert relative_error(found[name], value) <= tolerance, name


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)], ids=["double", "single"]
)
@pytest.mark.parametrize("case", CASES)
def test_every_output_is_that_of_the_description(make, case, dtype, tolerance):
    scale, size, changes = CASES[case]
    written, params = make(scale, changes)
    model = JNet(params).to(dtype).eval()
    stack = stack_of(2, size)
    state = lively_state(shapes_of(model), written, stack)
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    load_published_state(model, state)
    stack = stack.to(dtype)
    with torch.no_grad():
        found, expected = model(stack), plain_jnet(state, written, stack)
    assert_same(found, expected, tolerance)
    assert expected["enhanced_image"].std() > 0.05
    if changes.get("reconstruct"):
        assert expected["reconstruction"].shape == stack.shape
        assert expected["reconstruction"].std() > 1e-3


def test_the_published_size_and_names(reference):
    published = reference / "data" / "published"
    manifest = json.loads((published / "model_manifests.json").read_text())["jnet"]
    written = json.loads((published / "JNet_beads.json").read_text())["params"] | EVERYTHING
    params = {key: value for key, value in written.items() if "$" not in key}
    model = JNet(Params.model_validate_json(json.dumps(params))).double().eval()
    stack = stack_of(1, (1, 3, 2))
    state = lively_state(manifest["state_dict"], written, stack)
    load_published_state(model, state)
    with torch.no_grad():
        assert_same(model(stack), plain_jnet(state, written, stack), 1e-8)


@pytest.mark.parametrize(
    "changes", [{}, {"use_x_quantized": False}, GIBSON_LANNI, {"checkpointing": True}]
)
def test_a_training_step_is_that_of_the_description(make, changes):
    written, params = make(4, EVERYTHING | changes)
    model = JNet(params).double().train()
    stack = stack_of(2, (3, 5, 6))
    state = lively_state(shapes_of(model), written, stack)
    load_published_state(model, state)
    names = dict(model.named_parameters())
    leaves = {name: state[name].requires_grad_() for name in names}

    def loss(outputs):
        error = (outputs["reconstruction"] - stack).square() / outputs["poisson_weight"]
        terms = [outputs[name] for name in ("quantized_loss", "psf_loss", "gaussian_sigma")]
        cubes = outputs["enhanced_image"].pow(3).mean() + outputs["estim_luminance"].pow(3).mean()
        return error.mean() + sum(terms) + cubes

    inputs = [stack.clone().requires_grad_() for _ in range(2)]
    loss(model(inputs[0])).backward()
    loss(plain_jnet(state, written, inputs[1], training=True)).backward()
    assert relative_error(inputs[0].grad, inputs[1].grad) <= 1e-8
    assert [name for name, leaf in leaves.items() if leaf.grad is None] == ["image.log_ez0"]
    used = [name for name, leaf in leaves.items() if leaf.grad is not None]
    assert [name for name, own in names.items() if own.grad is not None] == used
    # A bias before a normalisation has no gradient but rounding.
    least = 1e-3 * max(float(leaves[name].grad.abs().max()) for name in used)
    for name in used:
        assert relative_error(names[name].grad, leaves[name].grad, least) <= 1e-8, name
    for name, own in model.state_dict().items():
        assert relative_error(own, state[name].detach()) <= 1e-10, name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_in_evaluation_are_those_of_the_description(make, checkpointing):
    written, params = make(4, {"checkpointing": checkpointing})
    model = JNet(params).double().eval()
    stack = stack_of(2, (3, 5, 6))
    state = lively_state(shapes_of(model), written, stack)
    load_published_state(model, state)
    inputs = [stack.clone().requires_grad_() for _ in range(2)]
    for volumes in (model.enhance(inputs[0]), plain_unet(state, inputs[1], 4, False)):
        sum(volume.pow(3).mean() for volume in volumes).backward()
    assert relative_error(inputs[0].grad, inputs[1].grad) <= 1e-8


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_description(make):
    written, params = make(4, {})
    model = JNet(params).double().train()
    stack = stack_of(2, (3, 12, 8))
    state = lively_state(shapes_of(model), written, stack)
    load_published_state(model, state)
    model.cuda()
    leaves = {name: state[name].requires_grad_() for name in model.network_parameters()}
    for volumes in (model.enhance(stack.cuda()), plain_unet(state, stack, 4, True)):
        sum(volume.pow(3).mean() for volume in volumes).backward()
    least = 1e-3 * max(float(leaf.grad.abs().max()) for leaf in leaves.values())
    for name, own in model.network_parameters().items():
        assert relative_error(own.grad.cpu(), leaves[name].grad, least) <= 1e-8, name
