import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optics import LightFieldOperator, RecordedLightField
from optics.lightfield.recording import resize_matrix

sides = st.integers(1, 14)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def recorded(
    kernel: tuple[int, int],
    volume_yx: tuple[int, int],
    *,
    point_samples: bool,
    n_views: int = 2,
    dtype: torch.dtype = torch.float64,
) -> tuple[RecordedLightField, tuple[int, int]]:
    """Return an operator of three depths that records every third pixel, and the views' size."""
    rows, columns = (max(n // 3, 1) for n in volume_yx)
    psf = random(n_views, 3, *kernel, seed=1, dtype=dtype)
    operator = RecordedLightField(psf, volume_yx, (rows, columns), point_samples=point_samples)
    return operator, (rows, columns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=25)
@given(sides, sides, sides, sides, st.booleans(), st.integers(0, 99))
def test_adjoint_is_the_transpose(
    dtype: torch.dtype,
    height: int,
    width: int,
    rows: int,
    columns: int,
    point_samples: bool,
    seed: int,
) -> None:
    operator, views_yx = recorded(
        (rows, columns), (height, width), point_samples=point_samples, dtype=dtype
    )
    volume = random(3, height, width, seed=seed, dtype=dtype)
    views = random(2, *views_yx, seed=seed + 1, dtype=dtype)
    projected, volumed = operator.forward(volume), operator.adjoint(views)
    assert projected.dtype == volumed.dtype == dtype
    in_views = (projected * views).double().sum()
    in_volume = (volume * volumed).double().sum()
    assert abs(in_views - in_volume) <= (1e-5 if dtype == torch.float32 else 1e-12) * in_views


@settings(max_examples=60)
@given(sides, sides, sides, sides, st.booleans())
def test_sensitivity_is_the_adjoint_of_ones_up_to_the_border(
    height: int, width: int, rows: int, columns: int, point_samples: bool
) -> None:
    operator, views_yx = recorded((rows, columns), (height, width), point_samples=point_samples)
    ones = torch.ones(2, *views_yx, dtype=torch.float64)
    torch.testing.assert_close(operator.sensitivity(), operator.adjoint(ones))


def test_projection_is_sampled_at_the_middle_of_every_lens() -> None:
    operator, _ = recorded((5, 4), (15, 12), point_samples=True)
    volume = random(3, 15, 12, seed=2)
    projected = LightFieldOperator(random(2, 3, 5, 4, seed=1)).forward(volume)
    torch.testing.assert_close(operator.forward(volume), projected[:, 1::3, 1::3])


@pytest.mark.parametrize("views_yx", [(5, 4), (7, 5)])
def test_projection_is_averaged_like_a_resized_image(views_yx: tuple[int, int]) -> None:
    psf, volume = random(2, 3, 5, 4, seed=1), random(3, 15, 12, seed=2)
    projected = LightFieldOperator(psf).forward(volume)
    expected = F.interpolate(projected[None], size=views_yx, mode="bilinear", antialias=True)[0]
    views = RecordedLightField(psf, (15, 12), views_yx).forward(volume)
    # The weights are computed in float32.
    torch.testing.assert_close(views, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("source", "target"), [(429, 99), (13, 3), (45, 3), (4, 4), (7, 1)])
def test_weights_are_positive_and_sum_to_one(source: int, target: int, antialias: bool) -> None:
    matrix = resize_matrix(source, target, antialias=antialias)
    assert matrix.shape == (target, source)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(target))


def test_kept_transfer_functions_change_nothing() -> None:
    psf, volume, views = random(2, 3, 5, 4), random(3, 9, 8), random(2, 9, 8)
    keeping, plain = LightFieldOperator(psf, keep_transfer=True), LightFieldOperator(psf)
    for _ in range(2):
        torch.testing.assert_close(keeping.forward(volume), plain.forward(volume))
        torch.testing.assert_close(keeping.adjoint(views), plain.adjoint(views))
        chosen = keeping.forward(volume, views=[1])
        torch.testing.assert_close(chosen, plain.forward(volume, views=[1]))
        torch.testing.assert_close(keeping.forward(volume[:, :5]), plain.forward(volume[:, :5]))
        single = keeping.forward(volume.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, plain.forward(volume).float())


def test_kept_transfer_functions_let_gradients_through() -> None:
    volume = random(2, 4, 5).requires_grad_()
    psf = random(3, 2, 3, 4, seed=1).requires_grad_()
    operator = LightFieldOperator(psf, keep_transfer=True)
    assert torch.autograd.gradcheck(
        lambda v: operator.adjoint(operator.forward(v)).sum(), (volume,)
    )
    plain = LightFieldOperator(psf)
    gradients = [
        torch.autograd.grad(one.forward(volume).square().sum(), psf)[0] for one in (operator, plain)
    ]
    torch.testing.assert_close(*gradients)
