"""Overlap, volume and brightness."""

import numpy as np
import pytest
import torch

from tenet import metrics
from tenet.metrics import fit_of, fitted_to, mean_of, scores_of, slabs, structure_iou


def test_the_overlap_of_structures():
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert structure_iou(torch.tensor([0.9, 0.5, 0.6, 0.1]), truth, 0.5) == pytest.approx(2 / 3)
    assert structure_iou(torch.zeros(4), torch.zeros(4), 0.5) == 1.0
    assert structure_iou(torch.zeros(4), truth, 0.5) == 0.0


@pytest.mark.parametrize(("gain", "found"), [(2.5, 2.5), (-1.0, 0.0), (50.0, 30.0)])
def test_the_gain_is_bounded_and_the_offset_is_not(gain, found):
    reconstruction = torch.rand(3, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    image = gain * reconstruction + torch.tensor([5.0, 0.0, -5.0]).view(3, 1, 1, 1, 1)
    fitted = fitted_to(reconstruction, image)
    means = image.mean(dim=(1, 2, 3, 4), keepdim=True)
    centred = reconstruction - reconstruction.mean(dim=(1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(fitted, found * centred + means, rtol=1e-4, atol=1e-4)


def test_the_fit_is_that_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    image, reconstruction = (torch.rand(1, 1, 5, 5, 5, generator=generator) for _ in range(2))
    columns = torch.stack([reconstruction.flatten(), torch.ones(125)], dim=1)
    solution = torch.linalg.lstsq(columns, image.flatten()).solution
    expected = (columns @ solution).view_as(image)
    torch.testing.assert_close(fitted_to(reconstruction, image), expected)


def test_a_constant_is_only_shifted_and_has_a_gradient():
    image = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    constant = torch.full_like(image, 0.25, requires_grad=True)
    fitted = fitted_to(constant, image)
    torch.testing.assert_close(fitted, image.mean().expand_as(image))
    (gradient,) = torch.autograd.grad(fitted.sum(), constant)
    assert torch.equal(gradient, torch.ones_like(image))


@pytest.mark.parametrize("slab_voxels", [1, 60, 10**6])
def test_slabs_give_what_the_whole_gives(monkeypatch, slab_voxels):
    monkeypatch.setattr(metrics, "_SLAB_VOXELS", slab_voxels)
    rng = np.random.default_rng(0)
    one, other = (rng.random((7, 5, 4), dtype=np.float32) for _ in range(2))
    truth = (other > 0.7).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in slabs(one, other)]), one)
    pair = (torch.from_numpy(volume)[None, None] for volume in (one, other))
    gain, offset = fit_of(one, other)
    fitted = fitted_to(*pair)[0, 0].numpy()
    np.testing.assert_allclose(gain * one + offset, fitted, atol=1e-5)
    assert mean_of(np.multiply, one, other) == pytest.approx((one * other).mean(), rel=1e-5)
    found = scores_of(one, truth, 0.4)
    iou = structure_iou(torch.from_numpy(one), torch.from_numpy(truth), 0.4)
    assert found["iou"] == pytest.approx(iou)
    assert found["volume_error"] == pytest.approx((one >= 0.4).sum() / truth.sum() - 1)


def test_a_constant_volume_is_not_scaled():
    image = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    constant = np.full_like(image, 0.25)
    gain, offset = fit_of(constant, image)
    assert gain == 1.0
    assert offset == pytest.approx(image.mean() - 0.25)
    assert fit_of(np.zeros_like(image), image)[0] == 1.0
