"""How like the truth a volume is."""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Volume = NDArray[np.float32]


def correlation(truth: Volume, result: Volume) -> float:
    """Return Pearson's correlation coefficient of two arrays of one shape; NaN if one is flat."""
    a = truth.astype(np.float64).ravel()
    b = result.astype(np.float64).ravel()
    a -= a.mean()
    b -= b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def match_brightness(truth: Volume, result: Volume) -> Volume:
    """Return ``gain * result + offset`` that is nearest to ``truth`` in least squares.

    Reconstructions have arbitrary units, so errors are measured after this fit.
    """
    # The square of what float32 holds may be more than it holds.
    centred = result - result.mean(dtype=np.float64)
    mean_truth = truth.mean(dtype=np.float64)
    power = np.vdot(centred, centred)
    gain = np.vdot(truth - mean_truth, centred) / power if power > 0 else 0.0
    fitted: Volume = (centred * gain + mean_truth).astype(np.float32)
    return fitted


def psnr(truth: Volume, result: Volume) -> float:
    """Return the peak signal-to-noise ratio in dB, the peak being the truth's range."""
    error = float(np.mean(np.square(truth.astype(np.float64) - result)))
    span = float(truth.max()) - float(truth.min())
    if error == 0:
        return float("inf")
    return float(10 * np.log10(span**2 / error)) if span > 0 else float("nan")


def ssim(truth: Volume, result: Volume) -> float:
    """Return the structural similarity (Wang et al. 2004), 7-voxel windows in all directions.

    A volume thinner than 7 planes is compared plane by plane.
    """
    span = float(truth.max()) - float(truth.min())
    if span == 0:
        return float("nan")
    # In parts of the truth's range, whose squares float32 holds.
    truth, result = (np.asarray(v / span, np.float32) for v in (truth, result))
    pairs = [(truth, result)] if min(truth.shape) >= 7 else zip(truth, result, strict=True)
    scores = [structural_similarity(a, b, data_range=1.0) for a, b in pairs]
    return float(np.mean(scores))
