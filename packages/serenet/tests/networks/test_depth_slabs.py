"""The slabs of depths that a CPU computes one after the other give the volume of the layers."""

import math

import pytest
import torch

from serenet.networks.depth_slabs import _cut, thickest


@pytest.mark.parametrize("n_depths", [1, 2, 11, 12, 13, 25, 37, 101])
def test_every_depth_is_read_once_and_every_slab_gives_planes(n_depths):
    slabs = _cut(n_depths, 9)
    assert [d for slab in slabs for d in range(slab.start, slab.stop)] == list(range(n_depths))
    assert all(slab.stop > slab.start for slab in slabs)
    if len(slabs) > 1:
        assert slabs[0].stop > 9
    assert thickest(n_depths, 9) <= 16


@pytest.mark.parametrize("name", ["serenet", "serenetup5"])
@pytest.mark.parametrize("shape", [(40, 9, 6), (26, 1, 2), (13, 5, 7), (2, 4, 4)])
def test_slabs_give_the_layers_volume(random_model, name, shape):
    model = random_model(name, inChannels=2)
    inputs = 500 * torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(0))
    # With gradients the layers are computed one by one, on all depths.
    expected = model.enlarged(inputs).detach()
    with torch.autocast("cpu", torch.bfloat16):
        expected_half = model.enlarged(inputs).detach()
    with torch.no_grad():
        slabs = list(model.enlarged_slabs(lambda depths: inputs[:, :, depths], shape))
        with torch.autocast("cpu", torch.bfloat16):
            half = model.enlarged(inputs)
    assert len(slabs) == math.ceil(shape[0] / 12)
    whole, scale = torch.cat(slabs, dim=2), float(expected.abs().max())
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5 * scale)
    assert half.dtype == torch.bfloat16
    assert (half - expected).norm() <= 1.5 * (expected_half - expected).norm()
