import math

import pytest
import torch
from torch import Tensor

from optics import OpticsError, TwoPhotonNLL, add_two_photon_noise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("a", "sigma"), [(0.1, 0.02), (0.0, 0.3), (0.5, 0.0)])
def test_mean_and_deviation(a: float, sigma: float) -> None:
    count = 200_000
    image = torch.tensor([[0.8], [0.2]], dtype=torch.float64).expand(2, count)
    for row, expected in zip(
        add_two_photon_noise(image, a, sigma, generator()), (0.8, 0.2), strict=True
    ):
        deviation = expected * a + sigma
        assert abs(row.mean() - expected) <= 5 * deviation / math.sqrt(count)
        assert abs(row.std() - deviation) <= 5 * deviation / math.sqrt(2 * count)


def test_same_seed_same_noise() -> None:
    image = torch.rand(2, 3, generator=generator(1))
    first, again, other = (
        add_two_photon_noise(image, 0.1, 0.1, generator(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32


def test_noise_is_differentiable_in_its_strength() -> None:
    image = torch.rand(3, 4, generator=generator(), dtype=torch.float64).requires_grad_()
    a, sigma = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.2, 0.1))

    def noisy(image: Tensor, a: Tensor, sigma: Tensor) -> Tensor:
        return add_two_photon_noise(image, a, sigma, generator(2))

    assert torch.autograd.gradcheck(noisy, (image, a, sigma))


@pytest.mark.parametrize(("a", "sigma"), [(0.3, 0.2), (0.0, 0.1), (0.2, -1.0), (0.0, 0.0)])
def test_loss_is_the_density(a: float, sigma: float) -> None:
    prediction = torch.tensor([0.0, 0.4, 1.0, -0.1], dtype=torch.float64)
    target = torch.tensor([0.1, 0.3, 1.2, 0.0], dtype=torch.float64)
    variance = max(a, 1e-3) * prediction.clamp(min=0) + max(sigma, 1e-3)
    density = torch.distributions.Normal(prediction, variance.sqrt()).log_prob(target)
    expected = -density.mean() - math.log(2 * math.pi) / 2
    torch.testing.assert_close(TwoPhotonNLL()(prediction, target, a, sigma), expected)


def test_gradient_is_exact() -> None:
    prediction = torch.tensor([0.02, 0.4, 1.0, -0.1], dtype=torch.float64).requires_grad_()
    target = torch.tensor([0.1, 0.3, 1.2, 0.0], dtype=torch.float64)
    a, sigma = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.2, 0.1))

    def loss(prediction: Tensor, a: Tensor, sigma: Tensor) -> Tensor:
        value: Tensor = TwoPhotonNLL()(prediction, target, a, sigma)
        return value

    assert torch.autograd.gradcheck(loss, (prediction, a, sigma))


def test_strengths_below_the_least_have_no_gradient() -> None:
    a = torch.tensor(1e-4, requires_grad=True)
    TwoPhotonNLL()(torch.rand(5), torch.rand(5), a, 0.1).backward()
    assert a.grad == 0


def test_least_where_the_prediction_is_the_truth() -> None:
    truth = torch.full((40_000,), 0.4)
    recorded = truth + generator_noise(truth.shape) * math.sqrt(0.1 * 0.4 + 0.01)
    losses = {
        guess: TwoPhotonNLL()(torch.full_like(recorded, guess), recorded, 0.1, 0.01).item()
        for guess in (0.3, 0.37, 0.4, 0.43, 0.5)
    }
    assert min(losses, key=lambda guess: losses[guess]) == 0.4


def generator_noise(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=generator())


def test_shapes_must_agree() -> None:
    with pytest.raises(OpticsError, match="same shape"):
        TwoPhotonNLL()(torch.rand(3, 1), torch.rand(3), 0.1, 0.1)
