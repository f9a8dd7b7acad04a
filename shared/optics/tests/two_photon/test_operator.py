"""The two-photon microscope as an operator: what it records, and its adjoint."""

import pytest
import torch

from optics import OpticsError, TwoPhotonOperator, blur_and_downsample


def operator(scale, kernel_shape, padding, seed=0):
    kernel = torch.rand(kernel_shape, generator=torch.Generator().manual_seed(seed)).double()
    return TwoPhotonOperator(kernel, scale, padding), kernel


CASES = [
    (1, (5, 3, 3), (2, 1, 1), (6, 8, 7)),
    (4, (9, 5, 4), (3, 2, 1), (12, 7, 9)),
    (10, (21, 3, 5), (6, 1, 2), (30, 11, 6)),
    (3, (2, 1, 1), (0, 0, 0), (9, 5, 5)),
    (5, (31, 9, 9), (13, 4, 4), (5, 4, 3)),  # the kernel is larger than the volume
]


@pytest.mark.parametrize(("scale", "kernel_shape", "padding", "shape"), CASES)
def test_it_records_what_the_blur_does(scale, kernel_shape, padding, shape):
    microscope, kernel = operator(scale, kernel_shape, padding)
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = blur_and_downsample(volume[None, None], kernel, scale, padding)[0, 0]
    assert torch.allclose(microscope.forward(volume), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("scale", "kernel_shape", "padding", "shape"), CASES)
def test_the_adjoint_is_exact(scale, kernel_shape, padding, shape):
    microscope, _ = operator(scale, kernel_shape, padding)
    generator = torch.Generator().manual_seed(2)
    volume = torch.randn(shape, generator=generator, dtype=torch.float64)
    image = torch.randn((shape[0] // scale, *shape[1:]), generator=generator, dtype=torch.float64)
    there = (microscope.forward(volume) * image).sum()
    back = (volume * microscope.adjoint(image)).sum()
    assert float(there) == pytest.approx(float(back), rel=1e-10)


def test_it_serves_volumes_of_several_sizes():
    microscope, kernel = operator(2, (5, 3, 3), (2, 1, 1))
    for shape in ((4, 6, 6), (10, 20, 9), (4, 6, 6)):
        volume = torch.ones(shape, dtype=torch.float64)
        expected = blur_and_downsample(volume[None, None], kernel, 2, (2, 1, 1))[0, 0]
        assert torch.allclose(microscope.forward(volume), expected)


def test_mistakes():
    with pytest.raises(OpticsError, match="Z a multiple of 4"):
        operator(4, (5, 3, 3), (2, 1, 1))[0].forward(torch.ones(6, 4, 4))
    with pytest.raises(OpticsError, match="below the kernel's size"):
        operator(4, (5, 3, 3), (5, 1, 1))
