"""In which order a foreign PSF file holds its axes: told by its sides, and by where light goes.

Letters: A, views; U and V, rows and columns of views; D, depths; H and W, rows and columns of
pixels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from optics.lightfield.microscope import LightFieldMicroscope, presets
from optics.lightfield.psf import psf_shift

# How psf(H, W, U, V, D) of MATLAB is listed by HDF5 and by others, and without the unused views.
REVERSED = ("DVUWH", "DAWH")
SAME = ("HWUVD", "HWAD")
# Of PyTorch: arrays of views, as they are read here or as MATLAB's were read.
TENSORS = ("UVDHW", "HWUVD", "DVUWH", "ADHW")
_PAIRS = (("H", "W"), ("U", "V"))
_DECISIVE_VIEWS = 8
# A shift that rows and columns agree on twice as well as exchanged, and is no rounding.
_MARGIN, _LEAST_SHIFT = 2.0, 0.05


def fitting_orders(shape: Sequence[int], orders: Sequence[str]) -> list[str]:
    """Return the orders whose views are square, and if there are any their pixels too.

    Parameters
    ----------
    shape
        Sides of the array.
    orders
        Those to choose from; of as many letters as the array has axes.
    """
    alike = [order for order in orders if len(order) == len(shape)]
    for pairs in (_PAIRS, _PAIRS[1:]):
        found = [order for order in alike if all(_equal(order, shape, *pair) for pair in pairs)]
        if found:
            break
    return found


def _equal(order: str, shape: Sequence[int], one: str, other: str) -> bool:
    sides = dict(zip(order, shape, strict=True))
    return sides.get(one) == sides.get(other)


def exchanged(order: str) -> str:
    """Return an order with rows and columns of pixels exchanged."""
    return order.translate(str.maketrans("HW", "WH"))


def views_of(n_views: int, microscope: LightFieldMicroscope | None) -> tuple[int, tuple[int, ...]]:
    """Return ``n_num`` and the indices of so many views; (0, ()) where nobody knows.

    They are all views of the microscope or of a preset, or those that it uses.
    """
    for known in presets.values() if microscope is None else (microscope,):
        if n_views == len(known.views):
            return known.n_num, known.views
        if n_views == known.n_num**2:
            return known.n_num, tuple(range(n_views))
    return 0, ()


def rows_are_rows(read: Callable[[int], Tensor], n_num: int, views: Sequence[int]) -> bool | None:
    """Tell whether the pixels' first axis is that of the views' rows.

    Out of focus, the light of view (u, v) moves along (u - n_num // 2, v - n_num // 2). Of
    exchanged axes it moves along the mirror image.

    Parameters
    ----------
    read
        ``read(channel)`` gives the first and the last depth (2, H, W) of a view.
    n_num
        Views per microlens side.
    views
        Their indices by channel.

    Returns
    -------
    bool or None
        ``None`` where the light tells neither: in focus, or of views on the diagonals.
    """
    middle = n_num // 2
    places = [(a // n_num - middle, a % n_num - middle) for a in views]
    # Those further out may be dark.
    bright = [
        c for c, place in enumerate(places) if max(map(abs, place)) <= max(2 * middle // 3, 1)
    ]
    decisive = sorted(bright, key=lambda c: -abs(places[c][0] ** 2 - places[c][1] ** 2))
    straight, mirrored, size = torch.zeros(2), torch.zeros(2), 0.0
    for channel in decisive[:_DECISIVE_VIEWS]:
        u, v = places[channel]
        rows, columns = psf_shift(read(channel)[None])[0].unbind(-1)
        straight += u * rows + v * columns
        mirrored += v * rows + u * columns
        size += u * u + v * v
    one, other = float(straight.abs().sum()), float(mirrored.abs().sum())
    if max(one, other) <= _LEAST_SHIFT * size or max(one, other) < _MARGIN * min(one, other):
        return None
    return one > other


def rows_are_rows_of(psf: Tensor, shift: Tensor) -> bool | None:
    """Tell the same by the PSF shift that a file holds beside.

    Parameters
    ----------
    psf
        (A, D, H, W).
    shift
        (A, D, 2), row and column.
    """
    found = psf_shift(psf)
    one, other = (float((found - s).abs().mean()) for s in (shift, shift.flip(-1)))
    return None if max(one, other) < _MARGIN * min(one, other) else one < other
