"""Overlap, volume and brightness."""

import pytest
import torch

from tenet.metrics import least_squares_gain, structure_iou


def test_the_overlap_of_structures():
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert structure_iou(torch.tensor([0.9, 0.5, 0.6, 0.1]), truth, 0.5) == pytest.approx(2 / 3)
    assert structure_iou(torch.zeros(4), torch.zeros(4), 0.5) == 1.0
    assert structure_iou(torch.zeros(4), truth, 0.5) == 0.0


@pytest.mark.parametrize(("gain", "expected"), [(2.5, 2.5), (-1.0, 0.0), (50.0, 30.0)])
def test_the_gain_is_that_of_least_squares_within_bounds(gain, expected):
    reconstruction = torch.rand(3, 1, 4, 4, 4) + 0.1
    found = least_squares_gain(reconstruction, gain * reconstruction)
    assert found.shape == (3, 1, 1, 1, 1)
    torch.testing.assert_close(found, torch.full_like(found, expected))


def test_the_gain_minimises_the_error():
    generator = torch.Generator().manual_seed(0)
    image, reconstruction = (torch.rand(1, 1, 5, 5, 5, generator=generator) for _ in range(2))
    gain = least_squares_gain(reconstruction, image)
    errors = [float((f * gain * reconstruction - image).square().sum()) for f in (0.99, 1, 1.01)]
    assert errors[1] == min(errors)
    assert least_squares_gain(torch.zeros_like(image), image).item() == 1
