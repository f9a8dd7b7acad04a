"""Cuts of a volume into slabs of planes, so that what is made of one stays in the cache.

Layers that pass over a whole volume, one after the other, wait for memory most of the time.
"""

from itertools import pairwise

from torch import Tensor

_BYTES = 24 * 2**20
# PyTorch leaves a single volume of so few channels x planes x rows to a method that is ten times
# slower than oneDNN.
_SMALL = 20480


def slabs(x: Tensor) -> list[tuple[int, int]]:
    """Return the first plane, and the one after the last, of each slab of (B, C, D, H, W) ``x``.

    A GPU takes all planes at once.
    """
    batch, channels, depth, height, width = x.shape
    plane = x.element_size() * batch * channels * (height + 2) * (width + 2)
    planes = max(_BYTES // plane, _SMALL // (channels * (height + 2)), 1)
    number = max(depth // planes, 1) if x.device.type == "cpu" else 1
    ends = [depth * n // number for n in range(number + 1)]
    return list(pairwise(ends))


def repeated(padded: Tensor) -> Tensor:
    """Return a volume, twice in the batch where only then oneDNN convolves it."""
    small = padded.shape[0] == 1 and padded[0, ..., 0].numel() <= _SMALL
    return padded.repeat(2, 1, 1, 1, 1) if small and padded.device.type == "cpu" else padded
