from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optics import LightFieldOperator, OpticsError
from optics.lightfield import projection as module

sides = st.integers(1, 12)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def directly(volume: Tensor, psf: Tensor) -> Tensor:
    """Return the views (A, H, W) by the sum over every kernel element."""
    height, width = psf.shape[-2:]
    top, left = height // 2, width // 2
    # conv2d correlates: the kernel is turned, and its centre moves with it.
    padded = F.pad(volume, (width - 1 - left, left, height - 1 - top, top))
    return F.conv2d(padded[None], psf.flip(-1, -2))[0]


def test_published_projection_is_reproduced(reference: Path) -> None:
    golden = np.load(reference / "golden/forward_projection.npz")
    volume, psf, expected = (torch.from_numpy(golden[k]) for k in ("volume", "psf", "out"))
    views = LightFieldOperator(psf[0]).forward(volume[0, 0])
    assert views.dtype == torch.float32
    assert (views - expected[0]).abs().max() <= 1e-5 * expected.abs().max()


@settings(max_examples=60)
@given(sides, sides, sides, sides, st.integers(1, 3), st.integers(1, 3))
def test_equals_the_direct_sum_at_any_size(
    height: int, width: int, kernel_height: int, kernel_width: int, n_views: int, n_depths: int
) -> None:
    volume = random(n_depths, height, width)
    psf = random(n_views, n_depths, kernel_height, kernel_width, seed=1)
    # The direct convolution needs an image at least as large as the kernel.
    border = max(kernel_height, kernel_width)
    around = F.pad(volume, (border,) * 4)
    expected = directly(around, psf)[:, border:-border, border:-border]
    torch.testing.assert_close(LightFieldOperator(psf).forward(volume), expected)


def test_a_point_at_the_kernel_centre_gives_the_kernel() -> None:
    psf = random(1, 1, 4, 5)
    volume = torch.zeros(1, 4, 5, dtype=torch.float64)
    volume[0, 2, 2] = 1
    torch.testing.assert_close(LightFieldOperator(psf).forward(volume), psf[0])


@settings(max_examples=60)
@given(sides, sides, sides, sides, st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_adjoint_is_the_transpose(
    height: int, width: int, rows: int, columns: int, n_views: int, n_depths: int, seed: int
) -> None:
    operator = LightFieldOperator(random(n_views, n_depths, rows, columns, dtype=torch.float32))
    volume = random(n_depths, height, width, seed=seed, dtype=torch.float32)
    views = random(n_views, height, width, seed=seed + 1, dtype=torch.float32)
    in_views = (operator.forward(volume) * views).double().sum()
    in_volume = (volume * operator.adjoint(views)).double().sum()
    assert abs(in_views - in_volume) <= 1e-5 * in_views


def test_more_depths_than_one_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, views, psf = random(7, 9, 8), random(2, 9, 8), random(2, 7, 5, 4)
    operator = LightFieldOperator(psf)
    expected, transposed = operator.forward(volume), operator.adjoint(views)
    plane = 12 * 6 * 16
    for planes in (0, 1, 3):
        monkeypatch.setitem(module._SLAB_BYTES, "cpu", planes * plane)
        torch.testing.assert_close(operator.forward(volume), expected)
        torch.testing.assert_close(operator.adjoint(views), transposed)
    torch.testing.assert_close(expected, directly(volume, psf))


def test_kept_transfer_functions_change_nothing() -> None:
    psf = random(2, 3, 5, 4)
    once, again = LightFieldOperator(psf), LightFieldOperator(psf, keep_transfer=True)
    for shape in ((9, 8), (6, 11), (9, 8)):
        volume, views = random(3, *shape), random(2, *shape)
        torch.testing.assert_close(again.forward(volume), once.forward(volume))
        torch.testing.assert_close(again.adjoint(views), once.adjoint(views))
        torch.testing.assert_close(
            again.forward(volume, views=[1]), once.forward(volume, views=[1])
        )


def test_is_linear() -> None:
    operator = LightFieldOperator(random(2, 3, 5, 5))
    one, other = random(3, 8, 9), random(3, 8, 9, seed=1)
    together = operator.forward(2 * one - 3 * other)
    torch.testing.assert_close(together, 2 * operator.forward(one) - 3 * operator.forward(other))


@pytest.mark.parametrize("chosen", [[2], [3, 0], [1, 1, 2]])
def test_any_subset_of_views_in_any_order(chosen: list[int]) -> None:
    operator = LightFieldOperator(random(4, 3, 5, 5))
    volume = random(3, 8, 9)
    views = operator.forward(volume)
    torch.testing.assert_close(operator.forward(volume, views=chosen), views[chosen])
    alone = LightFieldOperator(operator.psf[chosen])
    torch.testing.assert_close(
        operator.adjoint(views[chosen], views=chosen), alone.adjoint(views[chosen])
    )


def test_a_batch_equals_a_loop() -> None:
    operator = LightFieldOperator(random(4, 3, 5, 5))
    volumes, views = random(2, 3, 8, 9), random(2, 4, 8, 9)
    looped = torch.stack([operator.forward(v) for v in volumes])
    torch.testing.assert_close(operator.forward(volumes), looped)
    looped = torch.stack([operator.adjoint(v) for v in views])
    torch.testing.assert_close(operator.adjoint(views), looped)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradients_are_exact(batch: tuple[int, ...]) -> None:
    volume = random(*batch, 2, 4, 5).requires_grad_()
    views = random(*batch, 3, 4, 5).requires_grad_()
    psf = random(3, 2, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p: LightFieldOperator(p).forward(v), (volume, psf))
    assert torch.autograd.gradcheck(lambda v, p: LightFieldOperator(p).adjoint(v), (views, psf))
    assert torch.autograd.gradcheck(
        lambda v, p: LightFieldOperator(p).forward(v, views=[2, 0]), (volume, psf)
    )


def test_gradients_reach_the_volume_and_the_psf() -> None:
    volume = random(3, 8, 9, dtype=torch.float32).requires_grad_()
    psf = random(4, 3, 5, 5, dtype=torch.float32).requires_grad_()
    operator = LightFieldOperator(psf)
    operator.adjoint(operator.forward(volume)).square().mean().backward()
    for tensor in (volume, psf):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert (tensor.grad != 0).all()


@pytest.mark.parametrize(
    ("psf", "volume", "message"),
    [
        ((3, 5, 5), (3, 8, 8), r"psf has shape \(3, 5, 5\)"),
        ((2, 3, 0, 5), (3, 8, 8), r"psf has shape \(2, 3, 0, 5\)"),
        ((2, 3, 5, 5), (4, 8, 8), "expected .* with 3 depths"),
        ((2, 3, 5, 5), (8, 8), "expected .* with 3 depths"),
        ((2, 3, 5, 5), (3, 0, 8), "expected .* with 3 depths"),
    ],
)
def test_wrong_shapes_are_named(
    psf: tuple[int, ...], volume: tuple[int, ...], message: str
) -> None:
    with pytest.raises(OpticsError, match=message):
        LightFieldOperator(torch.zeros(psf)).forward(torch.zeros(volume))


def test_wrong_views_and_number_types_are_named() -> None:
    operator = LightFieldOperator(torch.zeros(2, 3, 5, 5))
    with pytest.raises(OpticsError, match="with 2 views"):
        operator.adjoint(torch.zeros(3, 8, 8))
    with pytest.raises(OpticsError, match="with 1 views"):
        operator.adjoint(torch.zeros(2, 8, 8), views=[1])
    with pytest.raises(OpticsError, match=r"views \[2\]: the PSF has views 0 to 1"):
        operator.forward(torch.zeros(3, 8, 8), views=[2])
    with pytest.raises(OpticsError, match=r"torch.int16: give float32"):
        operator.forward(torch.zeros(3, 8, 8, dtype=torch.int16))


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu() -> None:
    psf = random(4, 11, 9, 8, dtype=torch.float32)
    volume = random(11, 31, 30, dtype=torch.float32)
    on_cpu, on_gpu = LightFieldOperator(psf), LightFieldOperator(psf.cuda())
    views = on_cpu.forward(volume)
    torch.testing.assert_close(on_gpu.forward(volume.cuda()).cpu(), views, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        on_gpu.adjoint(views.cuda()).cpu(), on_cpu.adjoint(views), rtol=1e-5, atol=1e-2
    )


@pytest.mark.gpu
def test_gradients_are_exact_on_the_gpu() -> None:
    volume = random(2, 4, 5).cuda().requires_grad_()
    psf = random(3, 2, 3, 4, seed=1).cuda().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, p: LightFieldOperator(p).forward(v), (volume, psf), nondet_tol=1e-9
    )
