"""Convolutions of finely sampled volumes with few channels, as a GPU computes them best.

Linear interpolation and convolution are both linear: for each of the 2 x 2 fine pixels that a
coarse pixel becomes, they join to one kernel on the coarse grid. A packed tensor (B, 4 C, D, h, w)
holds those four pixels as channels, in the order ``(py, px, c)``: more channels occupy the matrix
units better, even where three quarters of the weights are zeros. CPUs are not faster this way.
"""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor

# Weights of the coarse pixels i - 1, i, i + 1 in the fine pixels 2 i - 1 to 2 i + 2.
_LINEAR = ((0.75, 0.25, 0), (0.25, 0.75, 0), (0, 0.75, 0.25), (0, 0.25, 0.75))


def enlarged_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Enlarge rows and columns twofold by linear interpolation, and convolve.

    Equals ``conv3d(interpolate(x), weight, bias, padding=1)`` but for rounding.

    Parameters
    ----------
    x
        (B, I, D, h, w).
    weight, bias
        (O, I, 3, 3, 3) and (O,).

    Returns
    -------
    Tensor
        (B, 4 O, D, h, w), packed.
    """
    with _full_precision(x):
        joined = kernels_of_phases(weight).flatten(0, 2)
    packed = convolve(x, joined, _for_each_phase(bias))
    # Interpolation repeats the border, convolution sees zeros beyond it: no kernel does both.
    height, width = x.shape[-2:]
    for axis, n in ((-2, height), (-1, width)):
        strip = min(n, 3)
        for start, line in ((0, 0), (n - strip, strip - 1)):
            near = x.narrow(axis, start, strip)
            exact = pack(convolve(enlarge(near, 2), weight, bias))
            packed.narrow(axis, start + line, 1).copy_(exact.narrow(axis, line, 1))
    return packed


def kernels_of_phases(weight: Tensor) -> Tensor:
    """Return the kernels on the coarse grid for the four fine pixels, (2, 2, O, I, 3, 3, 3)."""
    taps = weight.new_tensor(_LINEAR).unfold(0, 3, 1)  # (phase, coarse, fine)
    return torch.einsum("oizyx,pry,qsx->pqoizrs", weight, taps, taps)


def packed_convolution(packed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve a packed tensor as if it were unpacked.

    Parameters
    ----------
    packed
        (B, 4 I, D, h, w).
    weight, bias
        (O, I, 3, 3, 3) and (O,).

    Returns
    -------
    Tensor
        (B, 4 O, D, h, w), packed.
    """
    with _full_precision(packed):
        # Of a fine pixel: phase p, tap, the coarse pixel that holds it, its phase there.
        places = weight.new_zeros(2, 3, 3, 2)
        for phase in range(2):
            for tap in range(3):
                places[(phase, tap, *divmod(phase + tap + 1, 2))] = 1
        joined = torch.einsum("oizyx,pyra,qxsb->pqoabizrs", weight, places, places)
        joined = joined.flatten(3, 5).flatten(0, 2)
    return convolve(packed, joined, _for_each_phase(bias))


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``conv3d(x, weight, bias, padding=1)``.

    cuDNN takes ten times as long for less than eight channels of output as for eight.
    """
    missing = -len(weight) % 8 if x.is_cuda else 0
    if not missing:
        return F.conv3d(x, weight, bias, padding=1)
    weight_of_8 = F.pad(weight, (0, 0) * (weight.dim() - 1) + (0, missing))
    bias_of_8 = None if bias is None else F.pad(bias, (0, missing))
    return F.conv3d(x, weight_of_8, bias_of_8, padding=1)[:, : len(weight)]


def _full_precision(x: Tensor) -> AbstractContextManager[None]:
    # Weights are joined once and rounded once, by the convolution.
    return torch.autocast(x.device.type, enabled=False)


def _for_each_phase(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.repeat(4)


def enlarge(x: Tensor, factor: float) -> Tensor:
    """Enlarge the lateral axes of (B, C, D, h, w) by linear interpolation."""
    # Trilinear interpolation with a factor of 1 along D gives the same, more slowly.
    planes = x.transpose(1, 2)
    enlarged = F.interpolate(
        planes.flatten(0, 1), scale_factor=factor, mode="bilinear", align_corners=False
    )
    return enlarged.view(*planes.shape[:2], *enlarged.shape[1:]).transpose(1, 2)


def pack(x: Tensor) -> Tensor:
    """(B, C, D, 2 h, 2 w) -> (B, 4 C, D, h, w)."""
    n, channels, depth, height, width = x.shape
    split = x.reshape(n, channels, depth, height // 2, 2, width // 2, 2)
    return split.permute(0, 4, 6, 1, 2, 3, 5).flatten(1, 3)


def unpack(packed: Tensor) -> Tensor:
    """(B, 4 C, D, h, w) -> (B, C, D, 2 h, 2 w)."""
    n, four, depth, height, width = packed.shape
    split = packed.permute(0, 2, 3, 4, 1).reshape(n, depth, height, width, 2, 2, four // 4)
    fine = split.permute(0, 1, 2, 4, 3, 5, 6).reshape(n, depth, 2 * height, 2 * width, four // 4)
    return fine.permute(0, 4, 1, 2, 3)
