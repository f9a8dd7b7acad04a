import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from torch import Tensor

from optics import KernelOperator, OpticsError
from optics.convolution import fast_size, padded_size

shapes = st.tuples(*[st.integers(1, 9)] * 3)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def directly(volume: Tensor, kernel: Tensor) -> Tensor:
    full = fftconvolve(volume.numpy(), kernel.numpy(), mode="full")
    window = tuple(
        slice(k // 2, k // 2 + n) for n, k in zip(volume.shape, kernel.shape, strict=True)
    )
    return torch.from_numpy(full[window])


def test_fast_sizes_are_even_and_the_smallest() -> None:
    def smooth(n: int) -> bool:
        for factor in (2, 3, 5, 7, 11):
            while n % factor == 0:
                n //= factor
        return n == 1

    for minimum in range(1, 600):
        expected = next(n for n in range(minimum, 2000) if n % 2 == 0 and smooth(n))
        assert fast_size(minimum) == expected
    assert padded_size(429, 195) == 528


@settings(max_examples=40)
@given(shapes, shapes)
def test_equals_the_convolution_of_scipy(
    volume: tuple[int, int, int], kernel: tuple[int, int, int]
) -> None:
    image, blur = random(*volume), random(*kernel, seed=1)
    torch.testing.assert_close(KernelOperator(blur).forward(image), directly(image, blur))


@settings(max_examples=40)
@given(shapes, shapes, st.integers(0, 99))
def test_adjoint_is_the_transpose(
    volume: tuple[int, int, int], kernel: tuple[int, int, int], seed: int
) -> None:
    operator = KernelOperator(random(*kernel, dtype=torch.float32))
    one = random(*volume, seed=seed, dtype=torch.float32)
    other = random(*volume, seed=seed + 1, dtype=torch.float32)
    forward = (operator.forward(one) * other).double().sum()
    assert abs(forward - (one * operator.adjoint(other)).double().sum()) <= 1e-5 * forward


def test_leading_axes_are_a_batch() -> None:
    operator = KernelOperator(random(3, 4, 5))
    batch = random(2, 1, 6, 7, 8)
    looped = torch.stack([operator.forward(v) for v in batch[:, 0]])
    torch.testing.assert_close(operator.forward(batch)[:, 0], looped)
    looped = torch.stack([operator.adjoint(v) for v in batch[:, 0]])
    torch.testing.assert_close(operator.adjoint(batch)[:, 0], looped)


def test_one_operator_serves_any_size_and_precision() -> None:
    kernel = random(3, 4)
    operator = KernelOperator(kernel)
    for shape in ((6, 7), (20, 3), (6, 7)):
        image = random(*shape)
        expected = directly(image, kernel)
        torch.testing.assert_close(operator.forward(image), expected)
        single = operator.forward(image.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, expected.float())


def test_gradients_are_exact() -> None:
    volume = random(2, 3, 4, 5).requires_grad_()
    kernel = random(3, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, k: KernelOperator(k).forward(v), (volume, kernel))
    assert torch.autograd.gradcheck(lambda v, k: KernelOperator(k).adjoint(v), (volume, kernel))


def test_gradients_can_be_taken_again() -> None:
    kernel = random(3, 3).requires_grad_()
    operator = KernelOperator(kernel)
    for _ in range(2):
        operator.forward(random(5, 5)).sum().backward()
    assert kernel.grad is not None
    assert np.isfinite(kernel.grad.numpy()).all()


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(OpticsError, match="fewer axes"):
        KernelOperator(torch.zeros(3, 3, 3)).forward(torch.zeros(5, 5))
    with pytest.raises(OpticsError, match="kernel is empty"):
        KernelOperator(torch.zeros(3, 0, 3))


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu() -> None:
    kernel, volume = random(5, 4, 3), random(9, 10, 11)
    on_gpu = KernelOperator(kernel.cuda())
    torch.testing.assert_close(
        on_gpu.forward(volume.cuda()).cpu(), KernelOperator(kernel).forward(volume)
    )
