"""Overlap, volume and brightness."""

import pytest
import torch

from tenet.metrics import fitted_to, structure_iou


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
