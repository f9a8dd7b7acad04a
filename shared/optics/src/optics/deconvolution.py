"""Richardson-Lucy deconvolution on any linear operator, with ordered subsets and total variation.

Richardson 1972 and Lucy 1974; total variation after Dey et al. 2006; ordered subsets after Hudson
and Larkin 1994.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from optics.errors import OpticsError


class Operator(Protocol):
    """A linear imaging operator with non-negative weights.

    One that knows a cheap way to ``adjoint(ones)`` offers it as ``sensitivity()``, which may be
    raised where it is too small to divide by. One that can make its adjoint by parts offers
    ``adjoint_slabs(measurement)``, pairs of a slice of the first axis and that part of the adjoint.
    """

    def forward(self, volume: Tensor) -> Tensor:
        """Return the measurement that a volume gives."""
        ...

    def adjoint(self, measurement: Tensor) -> Tensor:
        """Apply the transpose of `forward`."""
        ...


@dataclass(frozen=True)
class Subset:
    """A part of the data and the operator that explains it.

    Attributes
    ----------
    operator
        From a volume to the data.
    measured
        The data, not negative.
    background
        Expected counts without sample, a number or of a shape that fits the data.
    floor
        Counts below which misfits weigh no more: the step divides by the prediction and this.
        Models of real microscopes are wrong by a share of the light, not by its square root.

    Examples
    --------
    >>> import torch, optics
    >>> subset = optics.Subset(optics.KernelOperator(torch.ones(1, 1, 1)), torch.ones(2, 5, 5))
    >>> subset.sensitivity.shape
    torch.Size([2, 5, 5])
    """

    operator: Operator
    measured: Tensor
    background: Tensor | float = 0.0
    floor: float = 0.0

    @cached_property
    def sensitivity(self) -> Tensor:
        """How much of a voxel's light is measured; never 0, so that it can divide."""
        known = getattr(self.operator, "sensitivity", None)
        ones = torch.ones_like(self.measured)
        sensitivity: Tensor = known() if known else self.operator.adjoint(ones)
        # Voxels out of sight stay about as they are.
        return sensitivity.clamp_(min=max(1e-3 * float(sensitivity.max()), 1e-30))


def poisson_deviance(measured: Tensor, predicted: Tensor) -> float:
    """Return the mean Poisson deviance ``2 (m log(m / p) - m + p)``, 0 for a perfect fit.

    Parameters
    ----------
    measured, predicted
        Counts m and p, from 0, of one shape.

    Examples
    --------
    >>> import torch, optics
    >>> optics.poisson_deviance(torch.tensor([4.0]), torch.tensor([4.0]))
    0.0
    """
    safe = predicted.clamp(min=1e-6)
    # A measured value whose quotient is no number any more adds nothing.
    quotient = (measured / safe).clamp(min=1e-30)
    return float(2 * (torch.xlogy(measured, quotient) - measured + predicted).mean())


def total_variation_factor(volume: Tensor, weight: float) -> Tensor:
    """Return ``1 / (1 - weight div(grad v / |grad v|))``, the penalty's factor on an update."""
    norm, divergence, slope = (torch.zeros_like(volume) for _ in range(3))
    for axis in range(volume.dim()):
        _write_slope(slope, volume, axis)
        norm.addcmul_(slope, slope)
    # A flat region has no direction: smooth there instead of dividing by zero.
    norm.sqrt_().add_(1e-3 * volume.max().clamp(min=1e-12))
    for axis, size in enumerate(volume.shape):
        _write_slope(slope, volume, axis)
        flux = slope.div_(norm)
        divergence += flux
        divergence.narrow(axis, 1, size - 1).sub_(flux.narrow(axis, 0, size - 1))
    return divergence.mul_(-weight).add_(1).clamp_(min=0.1).reciprocal_()


def _write_slope(slope: Tensor, volume: Tensor, axis: int) -> None:
    """Write the difference to the next value along an axis; 0 at its end."""
    last = volume.shape[axis] - 1
    later, earlier = volume.narrow(axis, 1, last), volume.narrow(axis, 0, last)
    torch.sub(later, earlier, out=slope.narrow(axis, 0, last))
    slope.narrow(axis, last, 1).zero_()


def richardson_lucy_step(
    estimate: Tensor,
    subset: Subset,
    *,
    background: float = 0.0,
    exponent: float = 1.0,
    tv_weight: float = 0.0,
) -> tuple[Tensor, float]:
    """Improve an estimate by one subset: one Richardson-Lucy step.

    ``v <- v * (1 + A^T ((m - p) / (p + c)) / A^T 1) ^ exponent`` with the prediction ``p = A v +
    b`` and the subset's floor c; exponent 1 without a floor is the classical step.

    Parameters
    ----------
    estimate
        (D, H, W), not negative; changed in place.
    subset
        Data and operator.
    background
        Expected counts without sample, besides the subset's own.
    exponent
        Above 1 takes longer steps (over-relaxation); 1.5 is safe for ordered subsets.
    tv_weight
        Of the total variation; 0 is none, 0.002 a little, 0.02 strong.

    Returns
    -------
    tuple
        The estimate, and the Poisson deviance of the data before the step.

    Examples
    --------
    >>> import torch, optics
    >>> data = optics.Subset(optics.KernelOperator(torch.ones(1, 1, 1)), torch.full((1, 3, 3), 4.0))
    >>> volume, _ = optics.richardson_lucy_step(torch.ones(1, 3, 3), data)
    >>> volume[0, 1, 1].round(decimals=4)
    tensor(4.)
    """
    measured = subset.measured
    predicted = subset.operator.forward(estimate) + (background + subset.background)
    fit = poisson_deviance(measured, predicted)
    # Ripple of the Fourier transforms around zero must not divide.
    least = 1e-6 * float(measured.max()) + 1e-12
    raised = predicted.clamp_(min=least) + subset.floor
    excess = (measured + subset.floor).div_(raised).sub_(1)
    smoothing = total_variation_factor(estimate, tv_weight) if tv_weight else None
    sensitivity = subset.sensitivity
    for part, correction in _adjoint_slabs(subset.operator, excess):
        factor = correction.div_(sensitivity[part]).add_(1).clamp_(min=0)
        if exponent == 1.5:  # the usual one, without logarithms
            factor.mul_(factor.sqrt())
        elif exponent != 1:
            factor.pow_(exponent)
        if smoothing is not None:
            factor *= smoothing[part]
        estimate[part] *= factor
    return estimate, fit


def _adjoint_slabs(operator: Operator, measurement: Tensor) -> Iterator[tuple[slice, Tensor]]:
    by_slabs = getattr(operator, "adjoint_slabs", None)
    if by_slabs is not None:
        yield from by_slabs(measurement)
    else:
        yield slice(None), operator.adjoint(measurement)


def richardson_lucy(
    subsets: Iterable[Subset],
    start: Tensor,
    *,
    iterations: int,
    background: float = 0.0,
    exponent: float = 1.0,
    tv_weight: float = 0.0,
    relative_change: float = 0.0,
    first_iteration: int = 0,
    on_sweep: Callable[[int, Tensor, float], bool | None] | None = None,
) -> Tensor:
    """Deconvolve by sweeps over ordered subsets of the data.

    Parameters
    ----------
    subsets
        The data, in the order used; may be a collection that makes each subset when reached, or
        an iterator, whose subsets are kept. One subset is plain Richardson-Lucy.
    start
        First estimate (D, H, W), not negative; not changed. Zeros stay zero.
    iterations
        Sweeps over all subsets.
    background, exponent, tv_weight
        See `richardson_lucy_step`.
    relative_change
        Stop when a sweep changes the estimate by less than this share (L1); 0 never stops.
    first_iteration
        Sweeps done before, when resuming from their estimate.
    on_sweep
        Called as ``on_sweep(sweep, estimate, deviance)`` after every sweep; true ends it.

    Returns
    -------
    Tensor
        (D, H, W), not negative.

    Raises
    ------
    OpticsError
        If there is no subset.

    Examples
    --------
    >>> import torch, optics
    >>> truth = torch.zeros(1, 9, 9)
    >>> truth[0, 4, 4] = 100
    >>> operator = optics.KernelOperator(torch.ones(1, 3, 3) / 9)
    >>> data = optics.Subset(operator, operator.forward(truth).clamp(min=0))
    >>> volume = optics.richardson_lucy([data], torch.ones(1, 9, 9), iterations=50)
    >>> bool(data.measured[0, 4, 4] < 12), bool(volume[0, 4, 4] > 50)
    (True, True)
    """
    if iter(subsets) is subsets:
        subsets = list(subsets)  # an iterator would serve for the first sweep alone
    estimate = start.clone()
    for sweep in range(first_iteration, iterations):
        before = estimate.clone() if relative_change else None
        fits = []
        for subset in subsets:
            estimate, fit = richardson_lucy_step(
                estimate, subset, background=background, exponent=exponent, tv_weight=tv_weight
            )
            fits.append(fit)
            del subset  # its operator and sensitivity, before the next are made
        if not fits:
            raise OpticsError("there is no subset of the data to deconvolve")
        if on_sweep is not None and on_sweep(sweep + 1, estimate, sum(fits) / len(fits)):
            break
        if before is not None:
            change = float((estimate - before).abs_().sum() / before.sum().clamp(min=1e-30))
            if change < relative_change:
                break
    return estimate
