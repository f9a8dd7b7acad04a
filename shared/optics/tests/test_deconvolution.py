from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from optics import (
    KernelOperator,
    LightFieldOperator,
    Operator,
    OpticsError,
    RecordedLightField,
    Subset,
    poisson_deviance,
    richardson_lucy,
    richardson_lucy_step,
)
from optics.deconvolution import total_variation_factor

SHAPE = (4, 9, 8)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Matrix:
    """Any linear operator: a dense matrix on the flattened volume."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def forward(self, volume: Tensor) -> Tensor:
        return self.weights @ volume.flatten()

    def adjoint(self, measurement: Tensor) -> Tensor:
        return (self.weights.T @ measurement).reshape(SHAPE)


OPERATORS = {
    "matrix": Matrix(random(150, 4 * 9 * 8, seed=1)),
    "kernel": KernelOperator(random(3, 3, 4, seed=1)),
    "light field": LightFieldOperator(random(3, 4, 5, 4, seed=1)),
    "scanned views": RecordedLightField(random(3, 4, 5, 4, seed=1), (9, 8), (4, 3)),
    "unscanned views": RecordedLightField(
        random(3, 4, 5, 4, seed=1), (9, 8), (3, 2), point_samples=True
    ),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())


@pytest.fixture
def truth() -> Tensor:
    return random(*SHAPE) ** 4


@every_operator
def test_exponent_one_is_the_classical_algorithm(operator: Operator, truth: Tensor) -> None:
    measured = operator.forward(truth) * (0.5 + random(*operator.forward(truth).shape, seed=3))
    # The operator as a plain matrix, column by column.
    unit = torch.eye(truth.numel(), dtype=torch.float64)
    columns = [operator.forward(column.reshape(SHAPE)).flatten() for column in unit]
    weights = torch.stack(columns, dim=1)
    expected = torch.ones(truth.numel(), dtype=torch.float64)
    for _ in range(5):
        ratio = measured.flatten() / (weights @ expected + 0.3)
        expected *= weights.T @ ratio / (weights.T @ torch.ones_like(ratio))
    start = torch.ones(SHAPE, dtype=torch.float64)
    estimate = richardson_lucy([Subset(operator, measured)], start, iterations=5, background=0.3)
    torch.testing.assert_close(estimate, expected.reshape(SHAPE), rtol=1e-6, atol=1e-9)


@every_operator
def test_the_truth_stays_when_the_data_are_exact(operator: Operator, truth: Tensor) -> None:
    subset = Subset(operator, operator.forward(truth) + 0.5)
    kept = richardson_lucy([subset], truth, iterations=3, background=0.5, exponent=1.5)
    torch.testing.assert_close(kept, truth)
    moved = richardson_lucy([subset], truth, iterations=3)
    assert not torch.allclose(moved, truth, rtol=1e-3)


@every_operator
def test_the_fit_improves_with_every_iteration(operator: Operator, truth: Tensor) -> None:
    measured = torch.poisson(50 * operator.forward(truth))
    fits: list[float] = []
    richardson_lucy(
        [Subset(operator, measured)],
        torch.ones(SHAPE, dtype=torch.float64),
        iterations=30,
        on_sweep=lambda _, __, fit: fits.append(fit),
    )
    assert len(fits) == 30
    assert all(later < earlier for earlier, later in pairwise(fits))
    assert fits[-1] < 0.2 * fits[0]


@every_operator
def test_keeps_the_total_that_was_measured(operator: Operator, truth: Tensor) -> None:
    subset = Subset(operator, operator.forward(truth))
    estimate = richardson_lucy([subset], 7 * random(*SHAPE, seed=5), iterations=1)
    assert float(operator.forward(estimate).sum()) == pytest.approx(float(subset.measured.sum()))


@pytest.mark.parametrize("exponent", [1.0, 1.5])
@pytest.mark.parametrize("tv_weight", [0.0, 0.02])
def test_never_negative_whatever_the_noise(exponent: float, tv_weight: float) -> None:
    operator = OPERATORS["unscanned views"]
    measured = torch.poisson(0.3 * torch.ones(3, 3, 2, dtype=torch.float64))
    measured[0] = 0
    measured[1, 0, 0] = 1e6
    estimate = richardson_lucy(
        [Subset(operator, measured)],
        torch.ones(SHAPE, dtype=torch.float64),
        iterations=20,
        exponent=exponent,
        tv_weight=tv_weight,
    )
    assert torch.isfinite(estimate).all()
    assert (estimate >= 0).all()
    assert (estimate > 0).any()


@every_operator
def test_no_light_gives_an_empty_volume(operator: Operator, truth: Tensor) -> None:
    dark = torch.zeros_like(operator.forward(truth))
    estimate = richardson_lucy([Subset(operator, dark)], truth, iterations=2)
    assert torch.isfinite(estimate).all()
    assert (estimate <= 1e-6 * truth.max()).all()


def test_voxels_out_of_sight_stay() -> None:
    weights = OPERATORS["matrix"].weights.clone()  # type: ignore[attr-defined]
    weights[:, : 9 * 8] = 0
    operator = Matrix(weights)
    start = random(*SHAPE, seed=2)
    subset = Subset(operator, torch.full((150,), 9.0, dtype=torch.float64))
    estimate = richardson_lucy([subset], start, iterations=3)
    assert torch.equal(estimate[0], start[0])
    assert not torch.allclose(estimate[1:], start[1:], rtol=0.01)


def test_the_start_is_left_alone_and_zeros_stay() -> None:
    operator = OPERATORS["kernel"]
    start = torch.ones(SHAPE, dtype=torch.float64)
    start[1] = 0
    kept = start.clone()
    estimate = richardson_lucy([Subset(operator, random(*SHAPE))], start, iterations=2)
    assert torch.equal(start, kept)
    assert (estimate[1] == 0).all()
    assert (estimate[0] != start[0]).all()


def test_background_is_explained_away() -> None:
    operator, truth = OPERATORS["kernel"], random(*SHAPE) ** 8
    subset = Subset(operator, operator.forward(truth) + 2)
    start = torch.ones(SHAPE, dtype=torch.float64)
    known = richardson_lucy([subset], start, iterations=200, background=2)
    unknown = richardson_lucy([subset], start, iterations=200)
    error, worse = ((one - truth).abs().mean() for one in (known, unknown))
    assert error < 0.3 * worse


def test_a_longer_step_fits_better_in_as_many_iterations(truth: Tensor) -> None:
    operator = OPERATORS["kernel"]
    subset = Subset(operator, operator.forward(truth))
    start = torch.ones(SHAPE, dtype=torch.float64)
    fits = {}
    for exponent in (1.0, 1.5):
        estimate = richardson_lucy([subset], start, iterations=10, exponent=exponent)
        fits[exponent] = poisson_deviance(subset.measured, operator.forward(estimate))
    assert fits[1.5] < 0.8 * fits[1.0]


def views_of(truth: Tensor) -> list[Subset]:
    operators = [RecordedLightField(random(1, 4, 5, 4, seed=s), (9, 8), (4, 3)) for s in range(5)]
    return [Subset(operator, operator.forward(truth)) for operator in operators]


def test_ordered_subsets_are_updates_in_turn(truth: Tensor) -> None:
    subsets = views_of(truth)
    start = torch.ones(SHAPE, dtype=torch.float64)
    expected = start.clone()
    fits = []
    for subset in subsets * 2:
        expected, fit = richardson_lucy_step(expected, subset, exponent=1.5)
        fits.append(fit)
    seen: list[tuple[int, float]] = []
    estimate = richardson_lucy(
        subsets,
        start,
        iterations=2,
        exponent=1.5,
        on_sweep=lambda sweep, _, fit: seen.append((sweep, fit)),
    )
    torch.testing.assert_close(estimate, expected, rtol=0, atol=0)
    assert seen == [(1, pytest.approx(sum(fits[:5]) / 5)), (2, pytest.approx(sum(fits[5:]) / 5))]


def test_ordered_subsets_fit_better_than_all_at_once(truth: Tensor) -> None:
    subsets = views_of(truth)
    psf = torch.cat([random(1, 4, 5, 4, seed=s) for s in range(5)])
    whole = RecordedLightField(psf, (9, 8), (4, 3))
    together = Subset(whole, torch.cat([s.measured for s in subsets]))
    start = torch.ones(SHAPE, dtype=torch.float64)
    fits = []
    for parts in ([together], subsets):
        estimate = richardson_lucy(parts, start, iterations=5)
        fits.append(poisson_deviance(together.measured, whole.forward(estimate)))
    assert fits[1] < 0.7 * fits[0]


def test_subsets_may_be_made_when_reached(truth: Tensor) -> None:
    subsets = views_of(truth)

    class Lazy:
        made = 0

        def __iter__(self) -> Iterator[Subset]:
            for subset in subsets:
                Lazy.made += 1
                yield Subset(subset.operator, subset.measured)

    start = torch.ones(SHAPE, dtype=torch.float64)
    estimate = richardson_lucy(Lazy(), start, iterations=2)
    assert Lazy.made == 10
    assert torch.equal(estimate, richardson_lucy(subsets, start, iterations=2))


def test_stops_when_little_changes(truth: Tensor) -> None:
    subset = Subset(OPERATORS["kernel"], OPERATORS["kernel"].forward(truth))
    volumes = [torch.ones(SHAPE, dtype=torch.float64)]
    richardson_lucy(
        [subset],
        volumes[0],
        iterations=500,
        relative_change=0.01,
        on_sweep=lambda _, volume, __: volumes.append(volume.clone()),
    )
    changes = [float((b - a).abs().sum() / a.sum()) for a, b in pairwise(volumes)]
    assert 2 < len(changes) < 500
    assert changes[-1] < 0.01
    assert min(changes[:-1]) >= 0.01


def test_resumed_equals_uninterrupted(truth: Tensor) -> None:
    subsets = views_of(truth)
    start = torch.ones(SHAPE, dtype=torch.float64)
    whole = richardson_lucy(subsets, start, iterations=5, exponent=1.5, tv_weight=0.01)
    sweeps: list[int] = []
    estimate = richardson_lucy(subsets, start, iterations=2, exponent=1.5, tv_weight=0.01)
    estimate = richardson_lucy(
        subsets,
        estimate,
        iterations=5,
        exponent=1.5,
        tv_weight=0.01,
        first_iteration=2,
        on_sweep=lambda sweep, _, __: sweeps.append(sweep),
    )
    assert torch.equal(estimate, whole)
    assert sweeps == [3, 4, 5]


def test_sensitivity_is_that_of_the_operator_or_the_adjoint_of_ones(truth: Tensor) -> None:
    for name, operator in OPERATORS.items():
        subset = Subset(operator, operator.forward(truth))
        expected = operator.adjoint(torch.ones_like(subset.measured))
        # Lowest is a thousandth, so that it can divide.
        expected = torch.maximum(expected, 1e-3 * expected.max())
        torch.testing.assert_close(subset.sensitivity, expected, msg=name)


def test_deviance_is_zero_for_a_perfect_fit_only() -> None:
    counts = torch.tensor([0.0, 1.0, 5.0])
    assert poisson_deviance(counts, counts) == pytest.approx(0, abs=1e-5)
    # 2 (5 log(5 / 4) - 5 + 4) for one pixel of three
    predicted = torch.tensor([0.0, 1.0, 4.0])
    assert poisson_deviance(counts, predicted) == pytest.approx(2 * 0.1157178 / 3, rel=1e-4)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5)])
def test_total_variation_leaves_flat_volumes(shape: tuple[int, ...]) -> None:
    factor = total_variation_factor(torch.full(shape, 3.0), 0.02)
    torch.testing.assert_close(factor, torch.ones(shape))


def test_total_variation_lowers_a_lone_voxel() -> None:
    volume = torch.zeros(7, 7, 7, dtype=torch.float64)
    volume[3, 3, 3] = 5
    factor = total_variation_factor(volume, 0.02)
    # The voxel's gradient has length sqrt(3), each lower neighbour's has length 1.
    divergence = -(3**0.5) - 3
    assert float(factor[3, 3, 3]) == pytest.approx(1 / (1 - 0.02 * divergence), rel=1e-3)
    assert (factor[3, 3, [2, 4]] > 1).all()
    # What one voxel loses its neighbours gain.
    assert float((1 / factor - 1).sum()) == pytest.approx(0, abs=1e-9)


def test_total_variation_smooths_noise_and_keeps_the_edge() -> None:
    operator = KernelOperator(torch.tensor([1.0, 2, 1])[:, None] * torch.tensor([1.0, 2, 1]) / 16)
    truth = torch.full((8, 24, 24), 20.0)
    truth[:, :, 12:] = 60.0
    noisy = torch.poisson(operator.forward(truth), generator=torch.Generator().manual_seed(0))
    results = [
        richardson_lucy(
            [Subset(operator, noisy)], torch.full_like(noisy, 40.0), iterations=30, tv_weight=weight
        )
        for weight in (0.0, 0.02, 0.05)
    ]
    errors = [float((r - truth).square().mean().sqrt()) for r in results]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[0]
    bright, dim = results[2][:, 4:-4, 15:20].mean(), results[2][:, 4:-4, 4:9].mean()
    assert float(bright - dim) == pytest.approx(40, rel=0.1)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(truth: Tensor) -> None:
    results = []
    for device in ("cpu", "cuda"):
        operator = RecordedLightField(random(2, 4, 5, 4, seed=1).to(device), (9, 8), (4, 3))
        subset = Subset(operator, operator.forward(truth.to(device)) + 1)
        start = torch.ones(SHAPE, dtype=torch.float64, device=device)
        results.append(richardson_lucy([subset], start, iterations=3, tv_weight=0.01).cpu())
    torch.testing.assert_close(results[1], results[0])


def test_subsets_that_come_only_once_serve_for_every_sweep(truth: Tensor) -> None:
    subsets = views_of(truth)
    start = torch.ones_like(truth)
    expected = richardson_lucy(subsets, start, iterations=3)
    torch.testing.assert_close(richardson_lucy(iter(subsets), start, iterations=3), expected)


def test_no_subsets_are_refused(truth: Tensor) -> None:
    for none in ([], iter(())):
        with pytest.raises(OpticsError, match="no subset"):
            richardson_lucy(none, truth, iterations=1)
