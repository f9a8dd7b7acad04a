import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optics.errors import OpticsError
from optics.noise import NLLMPG, add_camera_noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("photons", "read_noise", "offset"),
    [(0.5, 0.0, 0.0), (20.0, 3.0, 100.0), (1e4, 0.0, -5.0), (0.0, 2.0, 10.0), (1e12, 0.0, 0.0)],
)
def test_mean_and_variance(photons: float, read_noise: float, offset: float) -> None:
    count = 200_000
    image = torch.tensor([[3.0], [1.5]], dtype=torch.float64).expand(2, count)
    noisy = add_camera_noise(
        image, photons=photons, read_noise=read_noise, offset=offset, generator=generator()
    )
    for row, expected in zip(noisy, (photons, photons / 2), strict=True):
        variance = expected + read_noise**2
        # Five standard errors; a Poisson variance's own is sqrt((2 + 1 / rate) / count).
        assert abs(row.mean() - expected - offset) <= 5 * math.sqrt(variance / count)
        spread = math.sqrt((2 * variance**2 + expected) / count)
        assert abs(row.var() - variance) <= 5 * spread


def test_same_seed_same_noise() -> None:
    image = torch.rand(2, 5, 7, generator=generator(1))
    first, again = (
        add_camera_noise(image, photons=50, read_noise=2, generator=generator(3)) for _ in "ab"
    )
    other = add_camera_noise(image, photons=50, read_noise=2, generator=generator(4))
    assert first.shape == image.shape
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_light_only_the_offset_is_left() -> None:
    dark = torch.full((4, 4), 7.0)
    assert torch.equal(
        add_camera_noise(torch.rand(4, 4), photons=0, offset=7, generator=generator()), dark
    )
    assert torch.equal(
        add_camera_noise(torch.zeros(4, 4), photons=9, offset=7, generator=generator()), dark
    )


def test_relative_shot_noise_vanishes_with_many_photons() -> None:
    image = torch.rand(50, 50, generator=generator(1))
    noisy = add_camera_noise(image, photons=1e12, generator=generator())
    torch.testing.assert_close(noisy / 1e12, image / image.max(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("pixel", "photons", "read_noise", "message"),
    [
        (1.0, -1.0, 0.0, "photons is -1.0"),
        (1.0, 1e19, 0.0, "photons is 1e"),
        (1.0, math.nan, 0.0, "photons is nan"),
        (1.0, 1.0, -2.0, "read_noise is -2.0"),
        (-1.0, 1.0, 0.0, "the image spans -1.0 to 1.0"),
        (math.nan, 1.0, 0.0, "the image spans nan"),
        (math.inf, 1.0, 0.0, "to inf"),
    ],
)
def test_bad_noise_is_named(pixel: float, photons: float, read_noise: float, message: str) -> None:
    image = torch.tensor([1.0, pixel])
    with pytest.raises(OpticsError, match=message):
        add_camera_noise(image, photons=photons, read_noise=read_noise, generator=generator())


def test_published_loss_and_gradient(reference: Path) -> None:
    golden = np.load(reference / "golden/nll_mpg.npz")
    prediction = torch.tensor(golden["prediction"], requires_grad=True)
    target = torch.tensor(golden["target"])
    loss = NLLMPG(0, 9)(prediction, target)
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss_mu0_var9"].item(), rel=1e-4)
    assert prediction.grad is not None
    expected = torch.tensor(golden["grad_mu0_var9"])
    torch.testing.assert_close(
        prediction.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
    )
    clamped = NLLMPG(0, 0)(prediction, target)
    assert clamped.item() == pytest.approx(golden["loss_mu0_var0_clamped"].item(), rel=1e-4)
    shifted = NLLMPG(20, 5)(prediction, target + 20)
    assert shifted.item() == pytest.approx(golden["loss_mu20_var5_plus20"].item(), rel=1e-4)


def plain_loss(prediction: list[float], target: list[float], mean: float, var: float) -> float:
    sigma = int(math.sqrt(var))
    offsets = np.linspace(-3 * sigma, 3 * sigma, min(6 * sigma + 1, 97)) if sigma else [0.0]
    weights = [math.exp(-(k**2) / (2 * sigma**2)) if sigma else 1.0 for k in offsets]
    losses = []
    for p, t in zip(prediction, target, strict=True):
        y = max(p, 0.0)
        levels = []
        for k in offsets:
            x = max(t - mean + k, 0.0)
            levels.append(
                -0.5 * math.log(2 * math.pi * x + 1e-8)
                + x * math.log(y + 1e-8)
                - x * math.log(x + 1e-8)
                - y
                + x
            )
        top = max(levels)
        terms = zip(weights, levels, strict=True)
        total = sum(w * math.exp(level - top) for w, level in terms) / sum(weights)
        losses.append(-math.log(total + 1e-8) - top)
    return sum(losses) / len(losses)


PREDICTION = [12.0, 0.0, -3.0, 250.0, 0.4, 1.0]
TARGET = [9.0, 0.0, 4.0, 230.0, -6.0, 150.0]


@pytest.mark.parametrize(
    ("mean", "var"), [(0, 0), (0, 0.9), (0, 1), (2.5, 9), (-4, 30.5), (100, 400), (0, 1e4)]
)
def test_equals_the_plain_sum(mean: float, var: float) -> None:
    loss = NLLMPG(mean, var)(
        torch.tensor(PREDICTION, dtype=torch.float64), torch.tensor(TARGET, dtype=torch.float64)
    )
    assert loss.item() == pytest.approx(plain_loss(PREDICTION, TARGET, mean, var), rel=1e-9)


@pytest.mark.parametrize("var", [0.0, 0.5, 9.0, 400.0])
def test_gradient_is_exact(var: float) -> None:
    prediction = torch.tensor([12.0, 0.7, -3.0, 250.0, 5.0], dtype=torch.float64)
    target = torch.tensor([9.0, 0.0, 4.0, 230.0, 40.0], dtype=torch.float64)
    loss = NLLMPG(1.0, var)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction.requires_grad_())


def test_one_image_is_kept_for_the_gradient() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        NLLMPG(0, 400)(torch.rand(8, 8, requires_grad=True), torch.rand(8, 8))
    assert [tensor.shape for tensor in kept] == [(8, 8)]


def test_least_where_the_prediction_is_the_truth() -> None:
    truth = 40.0
    recorded = add_camera_noise(
        torch.full((40_000,), truth), photons=truth, read_noise=3, offset=20, generator=generator()
    )
    losses = {
        guess: NLLMPG(20, 9)(torch.full_like(recorded, guess), recorded).item()
        for guess in (30.0, 38.0, 40.0, 42.0, 50.0)
    }
    assert min(losses, key=lambda guess: losses[guess]) == truth


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pixels=st.lists(
        st.tuples(
            st.floats(-1e6, 2.0**100, width=32),
            st.floats(-1e6, 2.0**100, width=32),
        ),
        min_size=1,
        max_size=6,
    ),
    mean=st.floats(-1e4, 1e4),
    var=st.floats(0, 1e6),
)
def test_finite_for_any_input(pixels: list[tuple[float, float]], mean: float, var: float) -> None:
    prediction = torch.tensor([p for p, _ in pixels], requires_grad=True)
    target = torch.tensor([t for _, t in pixels])
    loss = NLLMPG(mean, var)(prediction, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize(
    ("mean", "var", "message"), [(0, -1, "var is -1"), (0, math.nan, "var"), (math.inf, 1, "mean")]
)
def test_bad_loss_parameters_are_named(mean: float, var: float, message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        NLLMPG(mean, var)


def test_shapes_must_agree() -> None:
    with pytest.raises(OpticsError, match="same shape"):
        NLLMPG(0, 1)(torch.rand(3, 1), torch.rand(3))
