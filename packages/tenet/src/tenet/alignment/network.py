"""The network that finds how far the slices of a z-stack are displaced sideways.

A small convolutional network turns every slice into a few features. Along z, the features of one
place are taken for a Gaussian process, whose covariance is learned as well; the shifts are those
that make the aligned features most probable, found by a few Gauss-Newton steps from coarse to
fine. Intensities are never touched: what the network returns are shifts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scopekit.errors import UserError
from tenet.alignment.vibration import shift_slices

# Pixels that are averaged, step by step.
_POOLS = (8, 4, 4, 2, 2, 2)
_LEAST_SIDE = 8  # of the averaged slices
_LEAST_COMMON = 0.3  # share of the field that all slices must show, along y and along x
_LONGEST_STEP = 3.0  # averaged pixels; features say little about places further away


class DeepAlignNet(nn.Module):
    """Estimates the lateral shift of every slice from the stack alone.

    Parameters
    ----------
    channels
        Hidden channels of the features.
    features
        Features a place; the first is the brightness itself.
    """

    def __init__(self, channels: int = 8, features: int = 4) -> None:
        super().__init__()
        self.channels, self.features = channels, features
        self.levels = nn.ModuleDict(
            {str(pool): _Level(channels, features) for pool in sorted(set(_POOLS))}
        )

    def forward(self, stack: Tensor) -> Tensor:
        """Return the shifts after each step, in pixels along y and x, their mean 0.

        Parameters
        ----------
        stack
            (B, 1, Z, Y, X), in any unit; at least 16 x 16 pixels.

        Returns
        -------
        Tensor
            (steps, B, Z, 2); the last are the estimate. A slice shifted by s shows at y + s
            what lies at y.

        Raises
        ------
        UserError
            If the slices are too small.
        """
        height, width = stack.shape[-2:]
        if min(height, width) < _LEAST_SIDE * min(_POOLS):
            raise UserError(
                f"slices of {height} x {width} pixels are too small to be aligned: give at least "
                f"{_LEAST_SIDE * min(_POOLS)} x {_LEAST_SIDE * min(_POOLS)}"
            )
        axes = (2, 3, 4)
        spread = stack.std(dim=axes, keepdim=True).clamp(min=1e-6)
        stack = (stack - stack.mean(dim=axes, keepdim=True)) / spread
        shifts = stack.new_zeros(stack.shape[0], stack.shape[2], 2)
        found, last_pool = [], 0
        for pool in _POOLS:
            if min(height, width) < _LEAST_SIDE * pool:
                continue
            level = self.levels[str(pool)]
            assert isinstance(level, _Level)
            if pool != last_pool:
                features = level.describe(F.avg_pool3d(stack, (1, pool, pool)))
                precision, last_pool = level.precision(stack.shape[2]), pool
            shifts = shifts + pool * level.step(features, shifts / pool, precision)
            shifts = shifts - shifts.mean(dim=1, keepdim=True)
            found.append(shifts)
        return torch.stack(found)


class _Level(nn.Module):
    """Features of slices of one resolution, their covariance along z, a Gauss-Newton step."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3)
        self.last = nn.Conv2d(channels, features - 1, 1)
        # Every feature's covariance: two Gaussians over the distance in slices, and noise.
        self.log_length = nn.Parameter(torch.tensor([1.0, 3.0]).log().repeat(features, 1))
        self.log_share = nn.Parameter(torch.zeros(features, 2))
        self.log_noise = nn.Parameter(torch.full((features,), 0.003).log())
        # How much the features count together, and against shifts of any size.
        self.importance = nn.Parameter(torch.full((features,), -1.0))
        self.log_prior = nn.Parameter(torch.tensor(2e-4).log())

    def describe(self, stack: Tensor) -> Tensor:
        """Return the features (B, F, Z, Y, X), mean 0 and variance 1, of (B, 1, Z, Y, X)."""
        batch, _, slices, height, width = stack.shape
        x = stack.transpose(1, 2).reshape(-1, 1, height, width)
        y = F.silu(self.first(_pad(x)))
        y = y + F.silu(self.second(_pad(y)))
        features = torch.cat([x, self.last(y)], dim=1)
        features = features.view(batch, slices, -1, height, width).transpose(1, 2)
        axes = (2, 3, 4)
        features = features - features.mean(dim=axes, keepdim=True)
        return features / (features.square().mean(dim=axes, keepdim=True) + 1e-4).sqrt()

    def precision(self, slices: int) -> Tensor:
        """Return the inverse covariance (F, Z, Z) along z, times each feature's importance."""
        t = torch.arange(slices, dtype=torch.float64, device=self.log_noise.device)
        share = self.log_share.double().softmax(dim=1)[..., None, None]
        length = self.log_length.double().exp()[..., None, None]
        covariance = (share * torch.exp(-0.5 * ((t[:, None] - t) / length).square())).sum(dim=1)
        noise = self.log_noise.double().exp()[:, None, None] + 1e-5
        covariance = covariance + noise * torch.eye(slices, dtype=t.dtype, device=t.device)
        importance = F.softplus(self.importance.double())[:, None, None]
        inverse: Tensor = torch.linalg.inv(covariance)
        return importance * inverse

    def step(self, features: Tensor, shifts: Tensor, precision: Tensor) -> Tensor:
        """Return how much to add to shifts (B, Z, 2), all in pixels of the features.

        The negative logarithm of the posterior probability is, with the features M (Z, pixels)
        moved back by the shifts, their precision P, and the prior precision q of the shifts::

            sum over features of trace(P <M M^T>) / 2 + q |shifts|^2 / 2

        where <> is the mean over the pixels that all slices show.
        """
        moved = shift_slices(features, -shifts)
        inner = moved[..., 1:-1, 1:-1]
        slopes = torch.stack(
            [
                (moved[..., 2:, 1:-1] - moved[..., :-2, 1:-1]) / 2,
                (moved[..., 1:-1, 2:] - moved[..., 1:-1, :-2]) / 2,
            ],
            dim=2,
        ).flatten(2, 3)  # (B, F, 2 Z, Y, X)
        common = _common(shifts, features.shape[-2:])[:, None, None]
        weighted = (slopes * common).flatten(3)
        by_slopes = (weighted @ slopes.flatten(3).transpose(-1, -2)).double()
        by_values = (weighted @ inner.flatten(3).transpose(-1, -2)).double()
        prior = self.log_prior.double().exp()
        curvature = (by_slopes * precision.repeat(1, 2, 2)).sum(dim=1)
        wanted = shifts.double().transpose(1, 2).flatten(1)  # all y, then all x
        gradient = (by_values * precision.repeat(1, 2, 1)).sum(dim=(1, 3)) + prior * wanted
        damping = prior + 1e-3 * curvature.diagonal(dim1=1, dim2=2).mean(dim=1)
        curvature = curvature + torch.diag_embed(damping[:, None].expand_as(gradient))
        step = torch.linalg.solve(curvature, gradient).view(len(shifts), 2, -1).transpose(1, 2)
        return -_LONGEST_STEP * torch.tanh(step / _LONGEST_STEP).to(shifts)


def _pad(slices: Tensor) -> Tensor:
    return F.pad(slices, (1, 1, 1, 1), mode="replicate")


@torch.no_grad()
def _common(shifts: Tensor, size: torch.Size) -> Tensor:
    """Return weights (B, Y - 2, X - 2), their sum 1, of the inner pixels that all slices show."""
    masks = []
    for axis, length in enumerate(size):
        place = torch.arange(1, length - 1, device=shifts.device)
        first = -shifts[..., axis].amin(dim=1, keepdim=True)
        last = length - 1 - shifts[..., axis].amax(dim=1, keepdim=True)
        shown = ((place > first) & (place < last)).to(shifts)
        enough = shown.mean(dim=1, keepdim=True) >= _LEAST_COMMON
        masks.append(torch.where(enough, shown, 1.0))
    weights = masks[0][:, :, None] * masks[1][:, None, :]
    return weights / weights.sum(dim=(1, 2), keepdim=True)
