"""Whether views are likely scanned: how fine the detail is that neighbouring views share."""

import numpy as np
from numpy.typing import NDArray

from serenet.views.scan import SIDE

# Cycles per pixel. A lens blurs over one view pixel where nothing scans, over three in a scan.
_COARSE = (0.06, 0.14)
_FINE = (0.27, 0.45)
# Of 16 simulated scenes the scanned ones had less than 0.008, the others more than 0.05; of 24
# others less than 0.008 and more than 0.025; four recorded light fields, not scanned, 0.04 to 0.08.
_LESS_IS_SCANNED = 0.012
_MORE_IS_NOT = 0.025
_SMALLEST = 18
_MOST_VIEWS = 48


def shared_detail(views: NDArray[np.floating]) -> float:
    """Return how much of the detail that neighbouring views share is as fine as pixels.

    ``sum |X_k X*_(k+1)|`` over the fine frequencies, over the same of coarse ones, X the spectra of
    rows and columns. Noise differs from view to view, and falls out.

    Parameters
    ----------
    views
        (A, h, w), A and both sides large enough; views that follow each other lie side by side in
        the aperture, as they do in any order but a random one.
    """
    fine = coarse = 0.0
    for axis in (-1, -2):
        lines = np.moveaxis(views, axis, -1)
        n = lines.shape[-1]
        spectra = np.fft.rfft((lines - lines.mean(-1, keepdims=True)) * np.hanning(n))
        shared = (spectra[:-1] * spectra[1:].conj()).real.sum(1)
        frequency = np.fft.rfftfreq(n)
        # Exposures of different brightness leave a pattern of three pixels, which is no detail.
        pattern = np.abs(frequency - 1 / SIDE) < (1.6 / n if n > 20 * SIDE else 0)
        fine += shared[:, _between(frequency, _FINE) & ~pattern].mean()
        coarse += shared[:, _between(frequency, _COARSE)].mean()
    return float(fine / coarse) if coarse > 0 else np.nan


def is_fine(views: NDArray[np.floating]) -> bool:
    """Whether neighbouring views (A, h, w) share detail as fine as their pixels."""
    large_enough = len(views) > 1 and min(views.shape[1:]) >= _SMALLEST
    return large_enough and shared_detail(views[:_MOST_VIEWS].astype(np.float64)) > _MORE_IS_NOT


def scanning_text(views: NDArray[np.floating]) -> str:
    """Say whether views (A, h, w) look like those of a 3 x 3 scan, and why."""
    shape = views.shape[-2:]
    fits = all(n % SIDE == 0 for n in shape)
    if len(views) < 2 or min(shape) < _SMALLEST:
        return "cannot be told of views this small"
    share = shared_detail(views[:_MOST_VIEWS].astype(np.float64))
    if share > _MORE_IS_NOT:
        return "probably not: neighbouring views share detail as fine as their pixels"
    if share < _LESS_IS_SCANNED and fits:
        return (
            "probably, 3 x 3: the views hold little finer than three of their pixels (so do those "
            "of a blurred sample)"
        )
    if share < _LESS_IS_SCANNED:
        return (
            "the views hold little finer than three of their pixels, as scanned ones do, but their "
            f"sides, {shape[0]} and {shape[1]}, are not multiples of 3: cropped?"
        )
    return "cannot be told from their detail"


def _between(frequency: NDArray[np.floating], band: tuple[float, float]) -> NDArray[np.bool_]:
    return (frequency > band[0]) & (frequency < band[1])
