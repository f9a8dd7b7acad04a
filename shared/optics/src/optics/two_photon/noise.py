"""Noise of two-photon microscopes: sampling it, and its negative log-likelihood."""

import torch
from torch import Tensor, nn

from optics.noise import require_one_shape

_LEAST_NOISE = 1e-3


def add_two_photon_noise(
    image: Tensor, a: float | Tensor, sigma: float | Tensor, generator: torch.Generator
) -> Tensor:
    """Return ``image + N(0, 1) * (image * a + sigma)``, as published for two-photon images.

    Parameters
    ----------
    image
        Expected intensity, of any shape.
    a, sigma
        Share of the noise that grows with the intensity, and the rest; numbers, or learnable.
    generator
        Source of the random numbers, on the image's device.

    Returns
    -------
    Tensor
        Of the image's shape; it may leave the image's range.
    """
    normal = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)
    return image + normal * (image * a + sigma)


class TwoPhotonNLL(nn.Module):
    """Negative log-likelihood of a two-photon image under Gaussian noise.

    With ``variance = max(a, 1e-3) max(prediction, 0) + max(sigma, 1e-3)``, and without the
    constant ``log(2 pi) / 2``::

        loss = mean over pixels of (log(variance) + (prediction - target)^2 / variance) / 2
    """

    def forward(
        self, prediction: Tensor, target: Tensor, a: float | Tensor, sigma: float | Tensor
    ) -> Tensor:
        """Return the loss, a scalar; differentiable in prediction, ``a`` and ``sigma``.

        Parameters
        ----------
        prediction
            Expected image, from 0.
        target
            Recorded image, of the prediction's shape.
        a, sigma
            As in `add_two_photon_noise`, numbers or scalar tensors; below 1e-3 they count as that
            and have no gradient.

        Raises
        ------
        OpticsError
            If the shapes differ.
        """
        require_one_shape(prediction, target)
        shot, rest = (
            torch.as_tensor(value, dtype=prediction.dtype, device=prediction.device).clamp(
                min=_LEAST_NOISE
            )
            for value in (a, sigma)
        )
        variance = shot * prediction.clamp(min=0) + rest
        return 0.5 * (variance.log() + (prediction - target).square() / variance).mean()
