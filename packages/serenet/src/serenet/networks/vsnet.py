"""VsNet: virtual scanning, which triples the sampling of every view of an unscanned light field.

Lu et al., Nature Methods 2025. A convolution of the interlaced light-field image whose dilation is
its number of views acts on every view by itself, and one whose kernel and stride are that number
is a matrix over views and channels; so nothing is ever interlaced here.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.base import Network
from serenet.networks.tiling import Demand

_SLOPE = 0.1


def _conv(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)


def _pointwise(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, bias=False)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu_(x, _SLOPE)


class _ToViews(nn.Module):
    """A 1 x 1 convolution to a map of every view: (B, C, h, w) to (B A, C, h, w)."""

    def __init__(self, channels: int, n_views: int) -> None:
        super().__init__()
        self.conv = _pointwise(channels, channels * n_views)
        self.n_views = n_views

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        maps = self.conv(x).view(batch, -1, self.n_views, height, width).transpose(1, 2)
        merged: Tensor = maps.flatten(0, 1)
        return merged.contiguous(memory_format=torch.channels_last)


class _FromViews(nn.Module):
    """Sum over views and channels: (B A, C, h, w) to (B, C_out, h, w).

    In the interlaced image the kernel's element (u, v) belongs to view ``u side + v``.
    """

    def __init__(self, c_in: int, c_out: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, side, side))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)[..., None, None]
        maps = x.contiguous().view(-1, weight.shape[1], *x.shape[-2:])
        return F.conv2d(maps, weight)


class _Block(nn.Module):
    """Exchange between three streams: angular (B, C, h, w); field and spatial (B A, C, h, w)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        c = channels
        self.spatial, self.spatial_joined = _conv(c, c), _conv(2 * c, c)
        self.angular, self.angular_joined = _pointwise(c, c), _pointwise(2 * c, c)
        self.field, self.field_joined = _conv(c, c), _conv(3 * c, c)
        self.field_to_angular = _FromViews(c, c, side)
        self.angular_to_field = _ToViews(c, side**2)

    def forward(
        self, angular: Tensor, field: Tensor, spatial: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        seen = _activate(self.field_to_angular(field))
        of_angular = self.angular_joined(torch.cat([self.angular(angular), seen], dim=1))
        # One kernel serves both streams, here and below.
        parts = [self.field(field), self.angular_to_field(angular), self.field(spatial)]
        of_field = self.field_joined(torch.cat(parts, dim=1))
        parts = [self.spatial(spatial), self.spatial(field)]
        of_spatial = self.spatial_joined(torch.cat(parts, dim=1))
        return (
            _activate(of_angular) + angular,
            _activate(of_field) + field,
            _activate(of_spatial) + spatial,
        )


class _Cascade(nn.ModuleList):
    """Exchanges in a row."""

    def __init__(self, channels: int, side: int, n_blocks: int) -> None:
        super().__init__(_Block(channels, side) for _ in range(n_blocks))

    def forward(
        self, angular: Tensor, field: Tensor, spatial: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        for block in self:
            angular, field, spatial = block(angular, field, spatial)
        return angular, field, spatial


class VsNet(Network):
    """Virtual scanning: views (B, A, h, w) of a light field to views three times as fine.

    Parameters
    ----------
    side
        Views per microlens side: A = side^2.
    n_groups
        Cascades, whose results are all joined at the end.
    n_blocks
        Exchanges in a cascade.
    channels
        Of every stream.
    factor
        Finer sampling.

    Attributes
    ----------
    halo
        View pixels beyond which an input pixel cannot change the output.
    values_per_view
        Numbers held at once per pixel of every view (measured).
    """

    method = "vsnet"

    def __init__(
        self,
        side: int = 13,
        n_groups: int = 4,
        n_blocks: int = 4,
        channels: int = 64,
        factor: int = 3,
    ) -> None:
        super().__init__()
        c = channels
        self.side, self.factor = side, factor
        self.n_views = side**2
        self.values_per_view = (2 * n_groups + 9.5) * c
        self.halo = 2 * n_groups * n_blocks + 5
        self.first_angular = _FromViews(1, c, side)
        self.first_field, self.first_spatial = _conv(1, c), _conv(1, c)
        self.groups = nn.ModuleList(_Cascade(c, side, n_blocks) for _ in range(n_groups))
        self.joined_spatial = _conv(n_groups * c, c)
        self.joined_angular = _pointwise(n_groups * c, c)
        self.angular_to_field = _ToViews(c, side**2)
        self.joined = _conv((n_groups + 2) * c, c)
        self.finer = _conv(c, c * factor**2)
        self.last = _pointwise(c, 1)

    def demand(self) -> Demand:
        """Return what tiles need: surround and memory."""
        whole = self.n_views * (1 + self.factor**2)
        return Demand(self.halo, 1, whole, self.values_per_view * self.n_views)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return finer views (B, 1, A, factor h, factor w) of (B, A, h, w)."""
        batch = len(inputs)
        views = inputs.flatten(0, 1)[:, None]
        angular = self.first_angular(views)
        field, spatial = self.first_field(views), self.first_spatial(views)
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for group in self.groups:
            angular, field, spatial = group(angular, field, spatial)
            kept.append((angular, field, spatial))
        angulars, fields, spatials = zip(*kept, strict=True)
        angular = _activate(self.joined_angular(torch.cat(angulars, dim=1)))
        spatial = _activate(self.joined_spatial(torch.cat(spatials, dim=1)))
        parts = (self.angular_to_field(angular), *fields, spatial)
        x = _activate(self.joined(torch.cat(parts, dim=1)))
        residual = F.pixel_shuffle(F.conv2d(x, self._last_kernels(), padding=1), self.factor)
        bicubic = F.interpolate(
            inputs, scale_factor=self.factor, mode="bicubic", align_corners=False
        )
        finer: Tensor = residual.view(batch, -1, *residual.shape[-2:]) + bicubic
        return finer[:, None]

    def _last_kernels(self) -> Tensor:
        """Return kernels (factor^2, C, 3, 3) of the last two convolutions, both linear, in one."""
        weight = self.finer.weight
        finer = weight.view(-1, self.factor**2, *weight.shape[1:])
        kernels: Tensor = torch.einsum("c,cs...->s...", self.last.weight.flatten(), finer)
        return kernels.contiguous(memory_format=torch.channels_last)
