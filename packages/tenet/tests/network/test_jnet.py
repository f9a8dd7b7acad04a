"""JNet: names, sizes, switches, golden values; see test_plain_jnet for what it computes."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scopekit.errors import UserError
from tenet import JNet, load_config, load_published_state
from tenet.network.jnet import hill, quantise
from tenet.network.normalised_convolution import (
    batch_statistics,
    cache_slabs,
    normalised_convolution,
)
from tenet.network.replicate_padding import pad_by_one
from tenet.network.unet import ResidualBlock


def randomise(model, seed=0):
    """Give all parameters and statistics values that matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point():
            scale = 1 / math.sqrt(max(tensor[0].numel(), 1)) if tensor.dim() > 1 else 0.3
            tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
            if "bn" in name and name.endswith("weight"):
                tensor.add_(1)
    return model


@pytest.fixture
def small(write_config):
    def make(**changes):
        changes = {f"params__{key}": value for key, value in changes.items()}
        return randomise(JNet(load_config(write_config(**changes)).params))

    return make


def test_the_published_one_has_these_names_shapes_and_numbers(reference):
    manifest = json.loads((reference / "data" / "published" / "model_manifests.json").read_text())
    config = load_config(reference / "data" / "published" / "JNet_beads.json")
    model = JNet(config.params)
    published = manifest["jnet"]["state_dict"]
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == published
    assert sum(p.numel() for p in model.parameters()) == 19_077_578 == manifest["jnet"]["params"]
    assert float(model.image.log_ez0) == pytest.approx(1.2 + 0.3**2 / 2)
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.rand(shape, generator=generator) for name, shape in published.items()}
    load_published_state(model, state)
    assert all(torch.equal(t, state[n].to(t.dtype)) for n, t in model.state_dict().items())


@pytest.mark.gpu
def test_dropout_on_the_gpu_keeps_the_mean():
    torch.manual_seed(0)
    block = ResidualBlock(2, 0.5).cuda().train()
    x = torch.randn(1, 2, 30, 30, 30, device="cuda")
    means = []
    for block.dropout in (0.0, 0.5):
        means.append(float((block(x) - x).mean()))
    assert means[1] == pytest.approx(means[0], abs=0.02)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_any_size_works_and_equals_one_padded_before(size, channels):
    torch.manual_seed(0)
    params = load_params().model_copy(
        update={"hidden_channels_list": tuple(channels), "attn_list": (), "scale": 2}
    )
    model = JNet(params).eval()
    image = torch.rand(1, 1, *size)
    with torch.no_grad():
        structure, brightness = model.enhance(image)
    assert structure.shape == brightness.shape == (1, 1, 2 * size[0], *size[1:])
    multiple = 2 ** (len(channels) - 1)
    enlarged = F.interpolate(image, scale_factor=(2, 1, 1), mode="trilinear")
    margin = [part for n in reversed(enlarged.shape[2:]) for part in (0, -n % multiple)]
    padded = F.pad(enlarged, margin, mode="replicate")
    model.image.scale = 1
    with torch.no_grad():
        whole, _ = model.enhance(padded)
    torch.testing.assert_close(structure, whole[:, :, : 2 * size[0], : size[1], : size[2]])


def load_params():
    from tenet.config.sections import Params

    values = {"NA": 0.7, "wavelength": 0.9, "ns": 1.4, "ng0": 1.5, "ng": 1.5, "ni0": 1.33}
    values |= {"ni": 1.33, "ti0": 150.0, "tg0": 170.0, "tg": 170.0, "pZ": 0.0, "scale": 2}
    values |= {"res_lateral": 0.2, "res_axial": 0.4, "size_x": 5, "size_y": 5, "size_z": 6}
    return Params(hidden_channels_list=(2,), nblocks=1, mid=4, blur_mode="gaussian", **values)


def test_the_quantised_structure_is_binary_where_it_is_used(small):
    model = small(reconstruct=True, apply_vq=True, use_x_quantized=True, threshold=0.6).eval()
    with torch.no_grad():
        quantised = model(torch.rand(1, 1, 5, 12, 12))["enhanced_image"]
    assert set(quantised.unique().tolist()) <= {0.0, 1.0}


def test_without_axial_refinement_the_blur_has_planes_as_thick_as_the_recorded_ones(small):
    model = small(superres=False, size_z=20, reconstruct=True).eval()
    point = torch.zeros(1, 1, 11, 7, 7)
    point[0, 0, 5, 3, 3] = 1
    with torch.no_grad():
        section = model.image.section()
        image = model.image(point)[0, 0]
    assert model.image.section().shape[0] == 5  # 20 planes of 0.2 um are 5 of 0.8 um
    assert image.shape == (11, 7, 7)
    torch.testing.assert_close(image[3:8, 3, 3] / image[5, 3, 3], section[:, 0] / section[2, 0])
    assert float(image[:3].abs().max()) < 1e-6


def test_what_is_switched_off_is_none(small):
    with torch.no_grad():
        out = small().eval()(torch.rand(1, 1, 4, 8, 8))
    assert out["quantized_loss"] is None
    assert out["psf_loss"] is None
    assert out["reconstruction"] is out["enhanced_image"]


def test_the_noise_starts_as_configured(write_config):
    model = JNet(load_config(write_config(params__poisson_weight=0.02, params__sig_eps=0.5)).params)
    assert torch.sigmoid(model.a).item() == pytest.approx(0.02)
    assert torch.sigmoid(model.sigma).item() == pytest.approx(0.5)


def test_pointwise_golden_values(golden):
    known = golden("tenet_pointwise")
    x = torch.from_numpy(known["x"])
    torch.testing.assert_close(hill(x), torch.from_numpy(known["hill"]), rtol=1e-5, atol=1e-5)
    assert float(quantise(x, 0.5)[1]) == pytest.approx(float(known["vq_loss"]), rel=1e-5)


def test_the_quantiser_passes_the_gradient_through():
    x = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    binary, loss = quantise(x, 0.5)
    assert binary.tolist() == [0, 1, 1]
    (binary * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [1, 2, 3]
    assert loss.item() == pytest.approx((0.04 + 0.25 + 0.01) / 3)


@pytest.fixture
def cut(monkeypatch):
    """Return ``cut(planes, x)``: from now on volumes of the size of ``x`` are cut into slabs."""

    def set_limits(planes, x):
        batch, channels, depth, height, width = x.shape
        plane = x.element_size() * batch * channels * (height + 2) * (width + 2)
        monkeypatch.setattr("tenet.network.normalised_convolution._SMALL", 0)
        monkeypatch.setattr("tenet.network.normalised_convolution._SLAB_BYTES", planes * plane)
        assert len(cache_slabs(x)) == depth // planes

    return set_limits


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("planes", [1, 2, 5])
def test_the_gradients_of_the_fused_layers(cut, training, planes):
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm3d(2).double().train(training), nn.Conv3d(2, 2, 3).double()
    randomise(norm)
    x = torch.randn(2, 2, 5, 2, 4, dtype=torch.float64, requires_grad=True)

    cut(planes, x)

    def run(x, weight, bias, kernel, offset):
        return torch.func.functional_call(
            Fused(norm, conv),
            {"norm.weight": weight, "norm.bias": bias, "conv.weight": kernel, "conv.bias": offset},
            (x,),
        )

    parameters = [
        p.detach().clone().requires_grad_() for p in (*norm.parameters(), *conv.parameters())
    ]
    assert torch.autograd.gradcheck(run, (x, *parameters))


class Fused(nn.Module):
    def __init__(self, norm, conv):
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, x):
        return normalised_convolution(
            x, self.norm, batch_statistics(x, self.norm), self.conv, added=x
        )


def test_the_gradient_of_padding():
    x = torch.randn(2, 3, 1, 2, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(pad_by_one(x), F.pad(x, (1,) * 6, mode="replicate"))
    assert torch.autograd.gradcheck(pad_by_one, x)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    block = ResidualBlock(2, 0.5).train()
    block.conv2.weight.data.zero_()
    block.conv2.weight.data[0, 0, 1, 1, 1] = 1
    block.conv2.bias.data.zero_()
    x = torch.randn(1, 2, 20, 20, 20)
    dropped = (block(x) - x)[0, 0]
    block.dropout = 0.0
    whole = (block(x) - x)[0, 0]
    active = whole > 0
    assert float((dropped[active] == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    kept = active & (dropped > 0)
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


def test_dropout_is_the_same_when_activations_are_made_again():
    gradients = []
    for keep in (True, False):
        torch.manual_seed(0)
        block = ResidualBlock(3, 0.5, keep=keep).train()
        x = torch.randn(1, 3, 4, 5, 6, requires_grad=True)
        block(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("planes", [1, 3])
def test_slabs_change_nothing(cut, planes):
    found = []
    x = torch.randn(2, 3, 7, 5, 6, dtype=torch.float64)
    for each in (7, planes):
        cut(each, x)
        torch.manual_seed(0)
        block = ResidualBlock(3, 0.3).double().train()
        leaf = x.clone().requires_grad_()
        out = block(leaf)
        out.square().sum().backward()
        found.append((out.detach(), leaf.grad, *(p.grad for p in block.parameters())))
    for whole, in_slabs in zip(*found, strict=True):
        torch.testing.assert_close(whole, in_slabs)


def test_a_volume_that_fits_the_cache_is_not_cut():
    assert cache_slabs(torch.empty(1, 16, 40, 20, 20)) == [(0, 40)]
    parts = cache_slabs(torch.empty(1, 16, 240, 112, 112))
    assert len(parts) > 5
    assert parts[-1][1] == 240


def test_attention_over_voxels(small):
    model = small(hidden_channels_list=[4, 8, 16], attn_list=[False, True, False]).train()
    out = model(torch.rand(1, 1, 4, 8, 8))["enhanced_image"]
    out.mean().backward()
    assert out.shape == (1, 1, 16, 8, 8)
    names = [n for n, _ in model.named_parameters() if ".attn." in n]
    assert names
    assert all(n.startswith("mid.attn.") for n in names)
    assert all(float(dict(model.named_parameters())[n].grad.abs().max()) > 0 for n in names[:2])


def test_a_checkpoint_of_another_network_is_refused(small):
    model = small()
    with pytest.raises(UserError, match=r"\d+ names are missing \(mid.mid.pool.conv.weight\)"):
        load_published_state(small(hidden_channels_list=[4, 8, 8]), model.state_dict())
    with pytest.raises(UserError, match=r"prev0.conv.weight is \(4, 1, 7, 7, 7\), here \(5,"):
        load_published_state(small(hidden_channels_list=[5, 8]), model.state_dict())
