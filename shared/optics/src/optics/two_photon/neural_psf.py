"""Neural implicit PSF: a small network over (|z|, r) that learns a PSF's section."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from optics.errors import OpticsError

_STARTS = 5
_STEPS = 1000  # a start; 20 to 120 suffice for 1e-5
_MAX_DAMPING = 1e12


class NeuralPSF(nn.Module):
    """Section of a PSF as a network of its coordinates.

    BatchNorm, Linear, Sigmoid, BatchNorm, Linear, Sigmoid map ``(|z|, r)`` to the PSF, from 0 to
    1. The coordinates span -1 to 1 over the rows and over the columns, so the PSF is symmetric
    about the focus. Normalisation follows the mode of the module: statistics of the section's own
    points in training, the running ones in evaluation.

    Parameters
    ----------
    rows, columns
        Size of the (z, r) section.
    mid
        Hidden units.

    Raises
    ------
    OpticsError
        If a size is not positive, or the section has a single point.

    Examples
    --------
    >>> import optics
    >>> optics.NeuralPSF(rows=9, columns=5)().shape
    torch.Size([9, 5])
    """

    coordinates: Tensor

    def __init__(self, rows: int, columns: int, mid: int = 40) -> None:
        super().__init__()
        if min(rows, columns, mid) < 1 or rows * columns < 2:
            raise OpticsError(
                f"rows {rows}, columns {columns}, mid {mid}: give a section of at least two points "
                "and at least one hidden unit"
            )
        self.rows, self.columns = rows, columns
        self.layers = nn.Sequential(
            nn.BatchNorm1d(2),
            nn.Linear(2, mid),
            nn.Sigmoid(),
            nn.BatchNorm1d(mid),
            nn.Linear(mid, 1),
            nn.Sigmoid(),
        )
        points = torch.cartesian_prod(
            torch.linspace(-1, 1, rows).abs(), torch.linspace(-1, 1, columns)
        )
        self.register_buffer("coordinates", points, persistent=False)

    def forward(self) -> Tensor:
        """Return the section (rows, columns)."""
        section: Tensor = self.layers(self.coordinates)
        return section.view(self.rows, self.columns)


@dataclass(frozen=True)
class NeuralFit:
    """How a fit went.

    Attributes
    ----------
    mse
        Mean squared difference from the section, in evaluation mode.
    steps
        Steps of all starts together.
    starts
        Starts it took.
    """

    mse: float
    steps: int
    starts: int


def fit_neural_psf(
    neural: NeuralPSF, section: Tensor, *, target: float = 1e-5, seed: int
) -> NeuralFit:
    """Make a neural PSF equal a section to a mean squared error of ``target``.

    Its parameters and running statistics are replaced. Levenberg-Marquardt steps on all points in
    double precision, from random parameters; up to five starts of 1000 steps. The second
    normalisation is an affine map of the hidden units, so the fit leaves it out and folds it in at
    the end: the network is the same in training and in evaluation mode.

    Parameters
    ----------
    neural
        Of the section's size, on any device.
    section
        (rows, columns), 0 to 1, symmetric about the middle row.
    target
        Largest mean squared error.
    seed
        Of the random parameters.

    Raises
    ------
    OpticsError
        If the shapes differ, values lie outside 0 to 1, the section is too asymmetric to be
        learned, or no start reaches the target.

    Examples
    --------
    >>> import optics
    >>> section, _ = optics.gaussian_section(
    ...     size_x=9, size_y=9, size_z=9, res_lateral=0.05, scale=1, bet_xy=3, bet_z=4
    ... )
    >>> neural = optics.NeuralPSF(*section.shape)
    >>> optics.fit_neural_psf(neural, section, seed=0).mse <= 1e-5
    True
    """
    if section.shape != (neural.rows, neural.columns):
        raise OpticsError(
            f"the section is {tuple(section.shape)}, the neural PSF "
            f"({neural.rows}, {neural.columns}): make them the same size"
        )
    values = section.detach().double().cpu()
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise OpticsError("the section has values outside 0 to 1: divide it by its maximum")
    floor = float((values - values.flip(0)).square().mean()) / 4
    if floor > target:
        raise OpticsError(
            f"the section is not symmetric about the focus: a neural PSF, which is, reaches a mean "
            f"squared error of {floor:.1e} at best, not {target:.1e}; check pZ and the indices, or "
            "allow for a higher error"
        )
    generator = torch.Generator().manual_seed(seed)
    first, linear, *_ = _parts(neural)
    inputs = _normalised(neural.coordinates.double().cpu(), first.eps)
    steps, best = 0, float("inf")
    for start in range(1, _STARTS + 1):
        # The margin is for single precision.
        hidden = _random_hidden(inputs, linear.out_features, generator)
        fitted, taken = _levenberg_marquardt(inputs, values.flatten(), hidden, 0.9 * target)
        steps += taken
        _install(neural, inputs, fitted)
        mse = _evaluate(neural, section)
        best = min(best, mse)
        if mse <= target:
            return NeuralFit(mse, steps, start)
    raise OpticsError(
        f"the neural PSF reached a mean squared error of {best:.1e}, not {target:.1e}, in "
        f"{_STARTS} starts: give it more hidden units (mid), or allow for a higher error"
    )


def _parts(neural: NeuralPSF) -> tuple[nn.BatchNorm1d, nn.Linear, nn.BatchNorm1d, nn.Linear]:
    first, linear, _, second, last, _ = neural.layers
    parts = (first, linear, second, last)
    return cast(tuple[nn.BatchNorm1d, nn.Linear, nn.BatchNorm1d, nn.Linear], parts)


# The network without normalisations: sigmoid(sigmoid(inputs weight^T + bias) out + offset), its
# parameters in one vector (weight of z, weight of r, bias, out: one each a hidden unit; offset).


def _normalised(coordinates: Tensor, eps: float) -> Tensor:
    spread = coordinates.var(dim=0, correction=0)
    return (coordinates - coordinates.mean(dim=0)) / (spread + eps).sqrt()


def _random_hidden(inputs: Tensor, mid: int, generator: torch.Generator) -> Tensor:
    """Return parameters whose hidden units turn from 0 to 1 somewhere on the section."""
    weight = 2 * torch.randn(mid, 2, generator=generator, dtype=torch.float64)
    places = inputs[torch.randint(len(inputs), (mid,), generator=generator)]
    bias = -(weight * places).sum(dim=1)
    out = torch.randn(mid, generator=generator, dtype=torch.float64) / mid**0.5
    return torch.cat([weight[:, 0], weight[:, 1], bias, out, torch.zeros(1, dtype=torch.float64)])


def _split(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weight (mid, 2), bias (mid,), out (mid,) and offset (1,)."""
    z, r, bias, out = parameters[:-1].view(4, -1)
    return torch.stack([z, r], dim=1), bias, out, parameters[-1:]


def _predict(inputs: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hidden units (points, mid) and the section's points (points,)."""
    weight, bias, out, offset = _split(parameters)
    hidden = torch.sigmoid(torch.addmm(bias, inputs, weight.T))
    return hidden, torch.sigmoid(hidden @ out + offset)


def _jacobian(inputs: Tensor, parameters: Tensor, hidden: Tensor, psf: Tensor) -> Tensor:
    """Return the derivatives (points, parameters) of the section's points."""
    out = _split(parameters)[2]
    slope = (psf * (1 - psf))[:, None]
    by_bias = slope * out * hidden * (1 - hidden)
    return torch.cat(
        [by_bias * inputs[:, :1], by_bias * inputs[:, 1:], by_bias, slope * hidden, slope], dim=1
    )


def _levenberg_marquardt(
    inputs: Tensor, values: Tensor, parameters: Tensor, target: float
) -> tuple[Tensor, int]:
    """Return parameters of a mean squared error of ``target`` or what came near, and the steps."""
    hidden, psf = _predict(inputs, parameters)
    error = float((psf - values).square().mean())
    damping, step = 1e-2, 0
    while error > target and step < _STEPS and damping < _MAX_DAMPING:
        jacobian = _jacobian(inputs, parameters, hidden, psf)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ (psf - values)
        while step < _STEPS and damping < _MAX_DAMPING:
            step += 1
            system = normal + damping * torch.eye(len(normal), dtype=normal.dtype)
            factor, failed = torch.linalg.cholesky_ex(system)
            moved = parameters - torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            hidden, psf = _predict(inputs, moved)
            moved_error = float((psf - values).square().mean())
            if not failed and moved_error < error:
                parameters, error, damping = moved, moved_error, damping / 3
                break
            damping *= 4
    return parameters, step


def _install(neural: NeuralPSF, inputs: Tensor, parameters: Tensor) -> None:
    """Give the network these parameters, the normalisations folded in."""
    weight, bias, out, offset = _split(parameters)
    hidden = _predict(inputs, parameters)[0]
    first, linear, second, last = _parts(neural)
    with torch.no_grad():
        for layer, points in ((first, neural.coordinates.double().cpu()), (second, hidden)):
            layer.reset_parameters()
            layer.running_mean = points.mean(dim=0).to(layer.weight)
            layer.running_var = points.var(dim=0, correction=0).to(layer.weight)
        scale = (hidden.var(dim=0, correction=0) + second.eps).sqrt()
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
        last.weight.copy_((out * scale)[None])
        last.bias.copy_(offset + hidden.mean(dim=0) @ out)


def _evaluate(neural: NeuralPSF, section: Tensor) -> float:
    mode = neural.training
    with torch.no_grad():
        psf = neural.eval()()
    neural.train(mode)
    return float((psf.double().cpu() - section.double().cpu()).square().mean())
