"""The SeReNet family: from decomposed views to a volume (Lu et al., Nature Methods 2025).

All convolutions are 3 x 3 x 3 with zero padding and bias, each followed by LeakyReLU; the lateral
resolution grows in two trilinear steps and is resized to the volume's grid at the end.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.base import EnlargingNetwork, Prepared
from serenet.networks.depth_slabs import in_slabs, thickest
from serenet.networks.polyphase import (
    convolve,
    enlarge,
    enlarged_convolution,
    packed_convolution,
    unpack,
)
from serenet.networks.tiling import Tile
from serenet.views.refocusing import decompose_window


class _Convolution(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias)


class ConvStack(nn.Sequential):
    """Convolutions 3 x 3 x 3, each followed by LeakyReLU in place."""

    def __init__(self, channels: Sequence[int], negative_slope: float, bias: bool) -> None:
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers.append(_Convolution(c_in, c_out, 3, padding=1, bias=bias))
            layers.append(nn.LeakyReLU(negative_slope, inplace=True))
        super().__init__(*layers)


def after_enlarging(x: Tensor, layers: ConvStack, factor: float) -> Tensor:
    """Return ``layers(enlarge(x, factor))``."""
    if factor == 2 and x.is_cuda:
        return unpack(in_packs(x, layers))
    enlarged: Tensor = layers(enlarge(x, factor))
    return enlarged


def in_packs(x: Tensor, layers: ConvStack) -> Tensor:
    """Return ``pack(layers(enlarge(x, 2)))``."""
    steps = list(layers)
    compute: Callable[..., Tensor] = enlarged_convolution
    for convolution, activation in zip(steps[::2], steps[1::2], strict=True):
        x = activation(compute(x, convolution.weight, convolution.bias))
        compute = packed_convolution
    return x


class SeReNet(EnlargingNetwork):
    """Physics-driven self-supervised reconstruction network.

    Parameters
    ----------
    n_views
        Views, the input channels: 49 (nnum13) or 81 (nnum15).
    second_up
        Factor of the second enlargement: 2 for nnum13, 2.5 for nnum15 (``serenetup5``).
    negative_slope
        Of LeakyReLU.
    bias
        Whether the convolutions have one.
    """

    method = "serenet"
    halo = 7
    values_per_depth = 455
    """Numbers held at once per view pixel and depth, at the network's widest point (measured)."""

    def __init__(
        self,
        n_views: int = 49,
        second_up: float = 2.0,
        negative_slope: float = 0.1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.n_views = n_views
        self.second_up = second_up
        self.coarse = ConvStack((n_views, 64, 32, 32, 16), negative_slope, bias)
        self.middle = ConvStack((16, 16, 8), negative_slope, bias)
        self.fine: nn.Module = ConvStack((8, 8, 4, 1), negative_slope, bias)

    @property
    def enlargement(self) -> int:
        """Lateral pixels before the final resize per view pixel: 4 or 5."""
        return round(2 * self.second_up)

    def enlarged(self, inputs: Tensor) -> Tensor:
        """Return the volume before the final resize, of decomposed views (B, A, D, h, w)."""
        if inputs.device.type == "cpu" and not torch.is_grad_enabled():
            shape = (inputs.shape[2], inputs.shape[3], inputs.shape[4])
            return torch.cat(list(self.enlarged_slabs(lambda s: inputs[:, :, s], shape)), dim=2)
        return self._fine(after_enlarging(self.coarse(inputs), self.middle, 2))

    def enlarged_slabs(
        self, read: Callable[[slice], Tensor], shape: tuple[int, int, int]
    ) -> Iterator[Tensor]:
        """Yield the volume before the final resize in slabs of depths, without gradients.

        Parameters
        ----------
        read
            Takes depths and returns the views decomposed to them, (B, A, planes, h, w).
        shape
            (D, h, w) of all.
        """
        if self.device.type != "cpu":
            yield self.enlarged(read(slice(0, shape[0])))
            return
        yield from in_slabs(read, shape, self._stages())

    def prepare(self, views: Tensor, shift: Tensor | None, scale: float) -> Prepared:
        """Leave the views as they are: tiles are refocused one by one."""
        n_depths = self.check_inputs(views, shift)
        assert shift is not None
        return Prepared(views, shift / scale, scale, n_depths)

    def enlarged_slabs_of(self, prepared: Prepared, tile: Tile) -> Iterator[Tensor]:
        """Yield the volume of a tile before the final resize, some planes at a time."""
        views, shift = prepared.values, prepared.shift
        assert shift is not None

        def read(depths: slice) -> Tensor:
            decomposed = decompose_window(views, shift[:, depths], tile.rows, tile.columns)
            return decomposed[None].contiguous(memory_format=torch.channels_last_3d)

        height, width = (stop - start for start, stop in (tile.rows, tile.columns))
        yield from self.enlarged_slabs(read, (prepared.n_depths, height, width))

    def _stages(self) -> list[tuple[ConvStack, float]]:
        assert isinstance(self.fine, ConvStack)
        return [(self.coarse, 1), (self.middle, 2), (self.fine, self.second_up)]

    def _fine(self, x: Tensor) -> Tensor:
        assert isinstance(self.fine, ConvStack)
        return after_enlarging(x, self.fine, self.second_up)

    def peak_values(self, n_depths: int) -> float:
        """Return how many numbers are held at once per view pixel (measured)."""
        if self.device.type != "cpu":
            return self.values_per_depth * n_depths
        # Of a slab, most per pixel of the enlarged volume; and the volume itself.
        planes = thickest(n_depths, sum(len(stack) // 2 for stack, _ in self._stages()))
        return (25 * planes + 1.25 * n_depths) * self.enlargement**2


class AxialUNet(nn.Module):
    """Small 3D U-Net on channels [8, 8, 16] that sharpens the volume axially."""

    def __init__(self, negative_slope: float, bias: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [ConvStack((8, 8), negative_slope, bias), ConvStack((8, 16), negative_slope, bias)]
        )
        self.up = nn.ModuleList(
            [
                ConvStack((16, 16), negative_slope, bias),
                ConvStack((32, 8), negative_slope, bias),
                ConvStack((16, 8), negative_slope, bias),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8, D, H, W) to the same shape, zero-padded inside to multiples of 4."""
        missing = [-n % 4 for n in x.shape[-3:]]
        before = [p // 2 for p in missing]
        pad = [
            n for b, p in zip(reversed(before), reversed(missing), strict=True) for n in (b, p - b)
        ]
        size = x.shape[-3:]
        x = F.pad(x, pad)
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = F.max_pool3d(x, 2)
        x = self.up[0](x)
        for up in self.up[1:]:
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            x = up(torch.cat([x, kept.pop()], dim=1))
        for axis, (b, n) in enumerate(zip(before, size, strict=True), start=2):
            x = x.narrow(axis, b, n)
        return x


class FSeReNet(SeReNet):
    """Axially fine-tuned SeReNet: its first six convolutions, then a U-Net and a last layer."""

    method = "fserenet"
    halo = 10
    values_per_depth = 870

    def __init__(
        self,
        n_views: int = 49,
        second_up: float = 2.0,
        negative_slope: float = 0.1,
        bias: bool = True,
    ) -> None:
        super().__init__(n_views, second_up, negative_slope, bias)
        self.fine = nn.Sequential(
            AxialUNet(negative_slope, bias), ConvStack((8, 1), negative_slope, bias)
        )

    def enlarged_slabs(
        self, read: Callable[[slice], Tensor], shape: tuple[int, int, int]
    ) -> Iterator[Tensor]:
        """Yield the whole volume before the final resize: the U-Net halves the depths."""
        yield self.enlarged(read(slice(0, shape[0])))

    def enlarged(self, inputs: Tensor) -> Tensor:
        """Return the volume before the final resize, of decomposed views (B, A, D, h, w)."""
        return self._fine(after_enlarging(self.coarse(inputs), self.middle, 2))

    def _fine(self, x: Tensor) -> Tensor:
        enlarged: Tensor = self.fine(enlarge(x, self.second_up))
        return enlarged

    def peak_values(self, n_depths: int) -> float:
        """Return how many numbers are held at once per view pixel (measured)."""
        return self.values_per_depth * n_depths
