"""Joined kernels against enlarging first and convolving then."""

import pytest
import torch
import torch.nn.functional as F

from serenet import build_model, reconstruct
from serenet.networks.polyphase import (
    enlarge,
    enlarged_convolution,
    pack,
    packed_convolution,
    unpack,
)
from serenet.networks.serenet import ConvStack, in_packs


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("field", [(7, 5), (1, 2), (2, 3), (4, 4)])
@pytest.mark.parametrize("biased", [False, True])
def test_joined_kernels_give_the_same_up_to_the_border(field, biased):
    x, weight = random(2, 3, 4, *field), random(5, 3, 3, 3, 3, seed=1)
    bias = random(5, seed=2) if biased else None
    expected = F.conv3d(enlarge(x, 2), weight, bias, padding=1)
    packed = enlarged_convolution(x, weight, bias)
    assert packed.shape == (2, 20, 4, *field)
    torch.testing.assert_close(unpack(packed), expected)
    weight = random(2, 5, 3, 3, 3, seed=3)
    bias = random(2, seed=4) if biased else None
    expected = F.conv3d(expected, weight, bias, padding=1)
    torch.testing.assert_close(unpack(packed_convolution(packed, weight, bias)), expected)


def test_packing_is_undone():
    x = random(2, 3, 4, 6, 8)
    assert torch.equal(unpack(pack(x)), x)
    assert torch.equal(pack(x)[:, 4::3][:, 0], x[:, 1, :, ::2, 1::2])


def test_gradients_are_the_same():
    layers = ConvStack((3, 4, 2, 1), 0.1, True).double()
    x = random(1, 3, 2, 5, 4).requires_grad_()
    wanted = [x, *layers.parameters()]
    weights = random(1, 1, 2, 10, 8, seed=5)
    expected = torch.autograd.grad((weights * layers(enlarge(x, 2))).sum(), wanted)
    found = torch.autograd.grad((weights * unpack(in_packs(x, layers))).sum(), wanted)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["serenet", "serenetup5", "fserenet"])
def test_networks_on_the_gpu(name):
    torch.manual_seed(0)
    model = build_model(name, inChannels=3)
    views = torch.rand(1, 3, 5, 12, 9)
    expected, _ = model(views, 4.0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found, _ = model.cuda()(views.cuda(), 4.0)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cuda", torch.float16):
        half, _ = model(views.cuda(), 4.0)
    assert torch.corrcoef(torch.stack([half.cpu().flatten(), expected.flatten()]))[0, 1] > 0.999


@pytest.mark.gpu
def test_what_overflows_float16_is_computed_all_the_same():
    torch.manual_seed(0)
    model = build_model("serenet", inChannels=3).cuda().eval()
    views, shift = 1e6 * torch.rand(3, 12, 9), torch.zeros(3, 5, 2)
    full = reconstruct(views, model, shift, 4.0)
    half = reconstruct(views, model, shift, 4.0, half=True)
    assert torch.corrcoef(torch.stack([half.flatten(), full.flatten()]))[0, 1] > 0.999
