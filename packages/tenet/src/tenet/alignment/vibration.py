"""Vibration: z-stacks whose slices are displaced sideways, as by breathing and heartbeat."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tenet.config.sections import Range, Vibration


@dataclass(frozen=True)
class Strength:
    """How strongly a stack vibrates: parameters of what `draw_shifts` draws.

    Attributes
    ----------
    b_sigma
        Standard deviation of the drift, pixels a slice.
    amp_alpha
        Shape of the amplitude's Gamma distribution, pixels; 0: none.
    omega_alpha
        Shape of the angular frequency's Gamma distribution, radians a slice.
    noise_inv_var_alpha
        Shape of the Gamma distribution that divides the jitter of single slices, above 0.
    """

    b_sigma: float
    amp_alpha: float
    omega_alpha: float
    noise_inv_var_alpha: float


def strength_at(vibration: Vibration, epoch: int) -> Strength:
    """Return how strong vibration is in an epoch (from 0): it grows over ``max_step`` epochs.

    Each parameter goes from its ``min`` to its ``max``; ``noise_inv_var_alpha``, which divides,
    from ``max`` to ``min``.
    """
    share: float = min(epoch / vibration.max_step, 1.0)

    def between(limits: Range, share: float) -> float:
        return float(limits.min + share * (limits.max - limits.min))

    return Strength(
        b_sigma=between(vibration.b_sigma, share),
        amp_alpha=between(vibration.amp_alpha, share),
        omega_alpha=between(vibration.omega_alpha, share),
        noise_inv_var_alpha=between(vibration.noise_inv_var_alpha, 1 - share),
    )


def draw_shifts(
    strength: Strength, slices: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the displacements of a stack's slices: ``b t + A cos(omega t + phi) + e``, mean removed.

    t is the slice's number. For y and for x apart, ``b ~ N(0, b_sigma)``,
    ``A ~ Gamma(amp_alpha)``, ``omega ~ Gamma(omega_alpha)`` and ``phi ~ U(0, 2 pi)`` are drawn
    once a stack, ``e ~ N(0, 1) / g`` for every slice, with ``g ~ Gamma(noise_inv_var_alpha)``
    once a stack. Where that shape is small, a few stacks shake wildly.

    Parameters
    ----------
    strength
        See `strength_at`.
    slices
        Number of slices.
    generator
        Source of the random numbers.

    Returns
    -------
    ndarray
        (slices, 2), pixels, along y and x.
    """
    t = np.arange(slices)[:, None]
    drift = generator.normal(0, strength.b_sigma, 2)
    amplitude = generator.gamma(strength.amp_alpha, size=2)
    omega = generator.gamma(strength.omega_alpha, size=2)
    phase = generator.uniform(0, 2 * np.pi, 2)
    # Never 0, as it divides.
    steadiness = np.maximum(generator.gamma(strength.noise_inv_var_alpha, size=2), 1e-3)
    jitter = generator.normal(size=(slices, 2)) / steadiness
    shifts = drift * t + amplitude * np.cos(omega * t + phase) + jitter
    centred: NDArray[np.float32] = (shifts - shifts.mean(axis=0)).astype(np.float32)
    return centred


def shift_slices(stack: Tensor, shifts: Tensor) -> Tensor:
    """Move what every slice shows, by bilinear interpolation; differentiable in both.

    With ``(s, t) = shifts[z]``, ``moved[z, y, x] = stack[z, y - s, x - t]``. Beyond the border the
    outermost pixels go on.

    Parameters
    ----------
    stack
        (B, C, Z, Y, X).
    shifts
        (B, Z, 2), pixels, along y and x.

    Returns
    -------
    Tensor
        (B, C, Z, Y, X).
    """
    batch, channels, slices, height, width = stack.shape
    shifts = shifts.to(stack).reshape(batch * slices, 1, 1, 2)
    y = torch.arange(height, dtype=stack.dtype, device=stack.device)[:, None]
    x = torch.arange(width, dtype=stack.dtype, device=stack.device)
    # grid_sample counts from -1 to 1 between the outer edges of the border pixels.
    across = (2 * (x - shifts[..., 1]) + 1) / width - 1
    along = (2 * (y - shifts[..., 0]) + 1) / height - 1
    size = (batch * slices, height, width)
    places = torch.stack([across.expand(size), along.expand(size)], dim=-1)
    slices_first = stack.transpose(1, 2).reshape(batch * slices, channels, height, width)
    moved = F.grid_sample(slices_first, places, padding_mode="border", align_corners=False)
    return moved.view(batch, slices, channels, height, width).transpose(1, 2)
