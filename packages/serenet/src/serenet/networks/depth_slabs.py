"""The SeReNet's layers on a CPU: depths slab by slab, and kernels that fill the registers.

A convolution sees one plane to either side, so each layer keeps two planes of its input from slab
to slab, and the slabs give exactly the whole. They stay within the caches, and of the widest
tensors, the finely sampled ones, no more than a slab is ever held.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.polyphase import enlarge, kernels_of_phases

# Planes of a slab: few enough for the caches, more than the layers keep.
_PLANES = 12
# Numbers in a register: the channels that a convolution computes at once.
_LANES = 16
_LAST = torch.channels_last_3d

Stage = tuple[nn.Sequential, float]
_Planes = Callable[[Tensor], Tensor]


def in_slabs(
    read: Callable[[slice], Tensor], shape: tuple[int, int, int], stages: Sequence[Stage]
) -> Iterator[Tensor]:
    """Yield what stacks of layers make of a volume, some planes at a time.

    Parameters
    ----------
    read
        Takes depths and returns those planes: (B, C, planes, h, w).
    shape
        (D, h, w) of the volume.
    stages
        Stacks of 3 x 3 x 3 convolutions, each followed by LeakyReLU, and by how much rows and
        columns are enlarged before each stack, by linear interpolation.

    Yields
    ------
    Tensor
        (B, C', planes, H, W), in all D planes, in the precision of autocast.
    """
    dtype = next(stages[0][0].parameters()).dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        layers = _layers(stages, shape[1:], dtype)
    slabs = _cut(shape[0], len(layers))
    for slab in slabs:
        x = read(slab)
        with torch.autocast("cpu", enabled=False):
            for layer in layers:
                x = layer(x, last=slab is slabs[-1])
        yield x


def thickest(n_depths: int, n_layers: int) -> int:
    """Return how many planes the thickest slab has."""
    slabs = _cut(n_depths, n_layers)
    return max(len(range(n_depths)[slab]) for slab in slabs)


def _cut(n_depths: int, n_layers: int) -> list[slice]:
    """Cut depths into slabs.

    No layer computes its last plane before it sees the next, so the first slab is thicker.
    """
    ahead = n_layers // 2
    count = math.ceil(n_depths / _PLANES)
    ends = [round(i * n_depths / count) + ahead for i in range(1, count)]
    return [slice(*pair) for pair in itertools.pairwise([0, *ends, n_depths])]


class _Layer:
    """A convolution with its activation, for one slab after the other.

    ``convolve`` takes planes and returns two fewer.
    """

    def __init__(self, convolve: _Planes, dtype: torch.dtype, negative_slope: float) -> None:
        self._convolve, self._dtype, self._slope = convolve, dtype, negative_slope
        self._kept: Tensor | None = None

    def __call__(self, slab: Tensor, *, last: bool) -> Tensor:
        batch, channels, planes, height, width = slab.shape
        before = 1 if self._kept is None else 2
        shape = (batch, channels, before + planes + last, height, width)
        joined = torch.empty(shape, dtype=self._dtype, memory_format=_LAST)
        joined[:, :, :before] = 0 if self._kept is None else self._kept
        joined[:, :, before : before + planes] = slab
        if last:
            joined[:, :, -1] = 0
        self._kept = joined[:, :, -2:].clone()
        return F.leaky_relu_(self._convolve(joined), self._slope)


def _layers(stages: Sequence[Stage], field: tuple[int, int], dtype: torch.dtype) -> list[_Layer]:
    layers = []
    for stack, factor in stages:
        field = int(field[0] * factor), int(field[1] * factor)
        steps = list(stack)
        for convolution, activation in zip(steps[::2], steps[1::2], strict=True):
            assert isinstance(convolution, nn.Conv3d)
            assert isinstance(activation, nn.LeakyReLU)
            weight, bias = convolution.weight.to(dtype), convolution.bias
            bias = None if bias is None else bias.to(dtype)
            convolve = _side_by_side(weight, bias, field)
            if factor == 2:
                convolve = _joined(convolution.weight, bias, dtype)
            elif factor != 1:
                convolve = _after_enlarging(convolve, factor)
            factor = 1
            layers.append(_Layer(convolve, dtype, activation.negative_slope))
    return layers


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int, int] = (1, 1, 1)
) -> Tensor:
    padding = (0, 1, 1)
    if x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        # On one thread, PyTorch by itself takes a much slower way for small volumes.
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1, 1), 1)
    return F.conv3d(x, weight, bias, stride, padding)


def _side_by_side(weight: Tensor, bias: Tensor | None, field: tuple[int, int]) -> _Planes:
    """Return a convolution that computes neighbouring pixels as channels, if it has few.

    The kernel is as much wider as there are more pixels, and its zeros cost less than lanes of
    the registers that idle.
    """
    n_out = len(weight)
    down, across = (4, 4) if n_out == 1 else (1, max(_LANES // n_out, 1))
    if field[0] % down or field[1] % across:
        down = across = 1
    kernel = weight.new_zeros(down, across, *weight.shape[:3], 2 + down, 2 + across)
    for y, x in itertools.product(range(down), range(across)):
        kernel[y, x, ..., y : y + 3, x : x + 3] = weight
    wide = kernel.flatten(0, 2).contiguous(memory_format=_LAST)
    offset = None if bias is None else bias.repeat(down * across)

    def convolve(x: Tensor) -> Tensor:
        packed = _convolve(x, wide, offset, (1, down, across))
        n, _, depth, height, columns = packed.shape
        lines = packed.permute(0, 2, 3, 4, 1).reshape(n, depth, height, columns, down, -1)
        lines = lines.transpose(3, 4).reshape(n, depth, height * down, columns * across, n_out)
        return lines.permute(0, 4, 1, 2, 3)

    return convolve


def _after_enlarging(convolve: _Planes, factor: float) -> _Planes:
    return lambda x: convolve(enlarge(x, factor))


def _joined(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> _Planes:
    """Return a convolution of what is enlarged twofold, computed on the coarse pixels."""
    n_out = len(weight)
    # Row by row: the fine pixels of two neighbours lie side by side in memory.
    phases = kernels_of_phases(weight).to(dtype).flatten(1, 2)
    rows = [kernel.contiguous(memory_format=_LAST) for kernel in phases]
    offset = None if bias is None else bias.repeat(2)
    exact = weight.to(dtype).contiguous(memory_format=_LAST)

    def convolve(x: Tensor) -> Tensor:
        n, _, planes, height, width = x.shape
        shape = (n, n_out, planes - 2, 2 * height, 2 * width)
        fine = torch.empty(shape, dtype=dtype, memory_format=_LAST)
        lines = fine.permute(0, 2, 3, 4, 1).view(n, planes - 2, height, 2, -1)
        for row, kernel in enumerate(rows):
            packed = _convolve(x, kernel, offset)
            lines[:, :, :, row] = packed.permute(0, 2, 3, 4, 1).reshape(n, planes - 2, height, -1)
        # Interpolation repeats the border, convolution sees zeros beyond it: no kernel does both.
        for axis, size in ((-2, height), (-1, width)):
            strip = min(size, 2)
            for start, at in ((0, 0), (size - strip, 2 * strip - 2)):
                near = enlarge(x.narrow(axis, start, strip), 2)
                right = _convolve(near, exact, bias)
                fine.narrow(axis, 2 * start + at, 2).copy_(right.narrow(axis, at, 2))
        return fine

    return convolve
