"""Noise of cameras: sampling it, and its negative log-likelihood."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from optics.errors import OpticsError

_TINY = 1e-8
_MAX_OFFSETS = 97
# torch.poisson counts in 64-bit integers.
_MAX_PHOTONS = 1e15


def add_camera_noise(
    image: Tensor,
    *,
    photons: float,
    read_noise: float = 0.0,
    offset: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """Return ``Poisson(image * photons / image.max()) + offset + read_noise * N(0, 1)``.

    Parameters
    ----------
    image
        Expected intensity in any unit, 0 or more, of any shape. All of it shares one scale, so a
        stack keeps the ratio of its frames.
    photons
        Expected count at the brightest pixel, 0 to 1e15.
    read_noise
        Standard deviation of the read noise, in photons.
    offset
        Added to every pixel, in photons.
    generator
        Source of the random numbers, on the image's device.

    Returns
    -------
    Tensor
        Photon counts, of the image's shape; negative where the read noise is.

    Raises
    ------
    OpticsError
        For an image with negative or non-finite pixels, or ``photons`` or ``read_noise`` out of
        range.
    """
    if not 0 <= photons <= _MAX_PHOTONS:
        raise OpticsError(f"photons is {photons}: give a count from 0 to {_MAX_PHOTONS:g}")
    if not 0 <= read_noise < math.inf:
        raise OpticsError(f"read_noise is {read_noise}: give a standard deviation, 0 or more")
    lowest, highest = (float(value) for value in torch.aminmax(image))
    if not 0 <= lowest <= highest < math.inf:
        raise OpticsError(
            f"the image spans {lowest} to {highest}: an expected intensity is finite and not "
            "negative; clamp it, or subtract its background"
        )
    # Divided first: photons / highest could overflow.
    expected = image / (highest or 1.0) * photons
    counts = torch.poisson(expected, generator=generator)
    normal = torch.randn(image.shape, generator=generator, dtype=counts.dtype, device=counts.device)
    return counts + offset + read_noise * normal


def require_one_shape(prediction: Tensor, target: Tensor) -> None:
    """Raise `OpticsError` unless a likelihood's two images have one shape."""
    if prediction.shape != target.shape:
        raise OpticsError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must "
            "have the same shape"
        )


class NLLMPG(nn.Module):
    """Negative log-likelihood of an image under mixed Poisson-Gaussian noise.

    The Gaussian part is integrated over offsets k, evenly spaced within three standard
    deviations ``sigma = int(sqrt(var))``, ``min(6 sigma + 1, 97)`` of them, of weight
    ``w_k = exp(-k^2 / (2 sigma^2))``, normalised; a single offset 0 if ``sigma`` is 0. With
    ``y = max(prediction, 0)`` and ``x_k = max(target - mean + k, 0)``::

        l_k = -log(2 pi x_k + 1e-8) / 2 + x_k log((y + 1e-8) / (x_k + 1e-8)) - y + x_k
        loss = mean over pixels of -log(sum_k w_k exp(l_k - max l) + 1e-8) - max l

    Parameters
    ----------
    mean
        Of the Gaussian noise (the camera's offset), in photons.
    var
        Its variance, photons squared, 0 or more.

    Raises
    ------
    OpticsError
        If ``mean`` or ``var`` is not finite or ``var`` is negative.
    """

    def __init__(self, mean: float, var: float) -> None:
        super().__init__()
        if not math.isfinite(mean):
            raise OpticsError(f"mean is {mean}: give a finite number of photons")
        if not 0 <= var < math.inf:
            raise OpticsError(f"var is {var}: give a variance, 0 or more")
        self.mean = mean
        sigma = int(math.sqrt(var))
        offsets = torch.linspace(
            -3 * sigma, 3 * sigma, min(6 * sigma + 1, _MAX_OFFSETS), dtype=torch.float64
        )
        weights = torch.exp(-(offsets**2) / (2 * max(sigma, 1) ** 2))
        weights /= weights.sum()
        self._terms = list(zip(offsets.tolist(), weights.tolist(), strict=True))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        prediction
            Expected photons, float; negative values count as 0. The only argument with a
            gradient, and that once.
        target
            Recorded photons, of the prediction's shape.

        Raises
        ------
        OpticsError
            If the shapes differ.
        """
        require_one_shape(prediction, target)
        loss: Tensor = _MixtureLoss.apply(  # type: ignore[no-untyped-call]
            prediction, target - self.mean, self._terms
        )
        return loss


class _MixtureLoss(torch.autograd.Function):
    """Sums over the offsets one by one, and keeps only the gradient for the way back."""

    @staticmethod
    def forward(
        ctx: Any, prediction: Tensor, centred: Tensor, terms: list[tuple[float, float]]
    ) -> Tensor:
        y = prediction.clamp(min=0)
        peak = torch.full_like(y, -math.inf)
        total, weighted, best = torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y)
        for offset, weight in terms:
            x = (centred + offset).clamp(min=0)
            level = (
                -0.5 * torch.log(2 * math.pi * x + _TINY)
                + torch.xlogy(x, (y + _TINY) / (x + _TINY))
                - y
                + x
            )
            best = torch.where(level > peak, x, best)
            old_peak, peak = peak, torch.maximum(peak, level)
            rescale = torch.exp(old_peak - peak)
            share = weight * torch.exp(level - peak)
            total = total * rescale + share
            weighted = weighted * rescale + share * x
        loss = (-torch.log(total + _TINY) - peak).mean()
        # dl_k/dy = x_k / y - 1, averaged over the offsets as they share in the sum.
        mean_x = (weighted + _TINY * best) / (total + _TINY)
        gradient = (1 - mean_x / (y + _TINY)) / y.numel()
        ctx.save_for_backward(torch.where(prediction < 0, 0, gradient))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None
