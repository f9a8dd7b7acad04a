"""RL-Net: Richardson-Lucy's iteration as a network (Li et al., Nature Methods 2022).

It takes a refocused volume instead of views; the definition is that of SeReNet's comparison
(Lu et al., Nature Methods 2025).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.base import Prepared, VolumeNetwork
from serenet.networks.tiling import Demand, Tile, resize_window
from serenet.views.brightness import percentiles
from serenet.views.refocusing import refocus

_EPS = 1e-3


class _Ratio(torch.autograd.Function):
    """``a / (b + 1e-3)``; the gradient of a passes unscaled."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ratio = torch.nan_to_num(a / (b + _EPS))
        ctx.save_for_backward(ratio)
        return ratio

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (ratio,) = ctx.saved_tensors
        return gradient, -ratio.square() * gradient


class _Product(torch.autograd.Function):
    """``a b``; the gradient of a passes unscaled."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return a * b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (a,) = ctx.saved_tensors
        return gradient, a * gradient


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    ratio: Tensor = _Ratio.apply(a, b)  # type: ignore[no-untyped-call]
    return ratio


def _product(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return product


def _conv(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(c_in, c_out, 3, padding=1), nn.BatchNorm3d(c_out))


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=1, keepdim=True)


def share_of(views: Tensor, top: float) -> Tensor:
    """Return ``views / top`` clamped to [0, 1]; dark views, whose ``top`` is 0, stay dark."""
    return (views / top if top > 0 else views).clamp(0, 1)


class RLNet(VolumeNetwork):
    """Two unrolled half-steps of Richardson-Lucy, at half and at full resolution.

    Attributes
    ----------
    halo
        Voxels beyond which an input voxel cannot change the output.
    step
        Tiles that start at multiples of so many voxels give what the whole volume gives.
    """

    method = "rlnet"
    in_counts = False
    takes_background = True
    brightest = 99.99
    """Percentile of the views that is brought to 1."""
    halo = 18
    step = 2
    values_per_voxel = 74
    """Numbers held at once per voxel (measured)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = _conv(1, 4), _conv(4, 4), _conv(8, 4)
        self.conv4, self.conv5, self.conv6 = _conv(1, 8), _conv(8, 8), _conv(16, 8)
        self.conv7 = nn.Sequential(nn.ConvTranspose3d(8, 4, 2, stride=2), nn.BatchNorm3d(4))
        self.conv8 = _conv(4, 4)
        self.conv9, self.conv10 = _conv(1, 4), _conv(4, 4)
        self.conv11, self.conv12 = _conv(1, 8), _conv(8, 8)
        self.conv13 = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1))
        self.conv14 = nn.Sequential(nn.Conv3d(10, 8, 3, padding=1))
        self.conv15 = _conv(16, 8)
        self.coarse_ratio = nn.BatchNorm3d(1)
        self.estimate = nn.BatchNorm3d(1)
        self.fine_ratio = nn.BatchNorm3d(1)
        self.update = nn.BatchNorm3d(1)

    def prepare(self, views: Tensor, shift: Tensor | None, scale: float) -> Prepared:
        """Bring the 99.99 percentile of the views to 1; return the mean of them refocused."""
        n_depths = self.check_inputs(views, shift)
        assert shift is not None
        (top,) = percentiles(views, (self.brightest,))
        mean = refocus(share_of(views, top), shift / scale)
        return Prepared(mean, None, scale, n_depths)

    def demand(self, n_depths: int, scale: float) -> Demand:
        """Return what tiles need: surround and memory."""
        halo = math.ceil((self.halo + self.step) / scale)
        return Demand(halo, 1, 2 * n_depths, self.values_per_voxel * n_depths * scale**2)

    def tile(self, prepared: Prepared, tile: Tile, dtype: torch.dtype) -> Tensor:
        """Return the part of the volume that ``tile`` stands for: (D, rows, columns), float32."""
        window = prepared.values
        places = (tile.volume_rows, tile.volume_columns)
        starts = []
        for axis, (place, source) in enumerate(zip(places, prepared.field, strict=True), start=1):
            size = round(source * prepared.scale)
            start = max(place[0] - self.halo, 0) // self.step * self.step
            stop = min(place[1] + self.halo, size)
            window = resize_window(window, axis, (start, stop), 0, source, size)
            starts.append(place[0] - start)
        inputs = window[None, None].contiguous(memory_format=torch.channels_last_3d)
        volume = self(inputs)[0, 1].float()
        for axis, (start, place) in enumerate(zip(starts, places, strict=True), start=1):
            volume = volume.narrow(axis, start, place[1] - place[0])
        sharpened: Tensor = volume.contiguous()
        return sharpened

    def forward(self, inputs: Tensor) -> Tensor:
        """Sharpen a refocused volume.

        Parameters
        ----------
        inputs
            (B, 1, D, H, W) or (B, D, H, W), in [0, 1].

        Returns
        -------
        Tensor
            (B, 2, D, H, W): the first estimate and the result.
        """
        x = inputs if inputs.dim() == 5 else inputs[:, None]
        size = x.shape[-3:]
        # Zeros at the end make every side even.
        x = F.pad(x, [m for n in reversed(size) for m in (0, n % 2)])
        first = _product(x, _mean(self._back_projected(x)))
        estimate = F.softplus(self.estimate(first))
        ratio = self.fine_ratio(_ratio(x, _mean(self._projected(x))))
        g = F.softplus(self.conv12(F.softplus(self.conv11(ratio)))) + 1
        # Two softplus in a row are meant.
        updated = F.softplus(F.softplus(self.update(_product(estimate, _mean(g)))))
        c13 = F.softplus(self.conv13(updated))
        c14 = F.softplus(self.conv14(torch.cat([c13, updated, estimate], dim=1)))
        c15 = F.softplus(self.conv15(torch.cat([c13, c14], dim=1)))
        both = torch.cat([first, _mean(c15)], dim=1)
        return both[..., : size[0], : size[1], : size[2]]

    def _back_projected(self, x: Tensor) -> Tensor:
        """Return the correction (B, 4, D, H, W) found at half the resolution."""
        p = F.avg_pool3d(x, 2)
        c1 = F.softplus(self.conv1(p))
        c2 = F.softplus(self.conv2(c1))
        c3 = F.softplus(self.conv3(torch.cat([c1, c2], dim=1))) + F.softplus(p)
        ratio = self.coarse_ratio(_ratio(p, _mean(c3)))
        c4 = F.softplus(self.conv4(ratio))
        c5 = F.softplus(self.conv5(c4))
        c6 = F.softplus(self.conv6(torch.cat([c5, c4], dim=1)))
        c7 = F.softplus(self.conv7(c6))
        return F.softplus(self.conv8(c7))

    def _projected(self, x: Tensor) -> Tensor:
        c9 = F.softplus(self.conv9(x))
        return F.softplus(self.conv10(c9)) + F.softplus(x)
