"""How near a result is to the truth, and a reconstruction to its image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
_MAX_GAIN = 30.0


def structure_iou(structure: Tensor, labelx: Tensor, threshold: float) -> float:
    """Return the intersection over union of ``structure >= threshold`` and the label.

    1 where both are empty.
    """
    found, true = structure >= threshold, labelx > 0.5
    union = int((found | true).sum())
    return int((found & true).sum()) / union if union else 1.0


def scores_of(volume: Array, truth: Array, threshold: float) -> dict[str, float]:
    """Return how well what is at or above a threshold covers a true structure.

    Parameters
    ----------
    volume
        (Z, Y, X), what was found.
    truth
        Of that shape, 1 in the structure, else 0.
    threshold
        What counts as structure.

    Returns
    -------
    dict
        ``iou``, the intersection over union (1 where both are empty), and ``volume_error``, the
        share by which the volume found is too large; NaN where the truth is empty.
    """
    iou = structure_iou(torch.from_numpy(volume), torch.from_numpy(truth), threshold)
    true = int((truth > 0.5).sum())
    error = int((volume >= threshold).sum()) / true - 1 if true else float("nan")
    return {"iou": iou, "volume_error": error}


def fitted_to(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Return reconstructions as near to their images as a gain and an offset bring them.

    By least squares, the gain from 0 to 30; 1 where there is nothing to scale. Neither has a
    gradient.

    Parameters
    ----------
    reconstruction, image
        (B, 1, Z, Y, X); every one of the batch is fitted on its own.
    """
    axes = (1, 2, 3, 4)
    with torch.no_grad():
        mean, wanted = (v.mean(dim=axes, keepdim=True) for v in (reconstruction, image))
        centred = reconstruction - mean
        power = centred.square().sum(dim=axes, keepdim=True)
        gain = (centred * (image - wanted)).sum(dim=axes, keepdim=True) / power
        # Rounding leaves some power in a constant.
        scalable = power > 1e-12 * reconstruction.square().sum(dim=axes, keepdim=True)
        gain = torch.where(scalable, gain, 1.0).clamp(0, _MAX_GAIN)
        offset = wanted - gain * mean
    return gain * reconstruction + offset


def fitted_array(reconstruction: Array, image: Array) -> Array:
    """Return a reconstruction (Z, Y, X) fitted to its image, see `fitted_to`."""
    pair = (torch.from_numpy(volume)[None, None] for volume in (reconstruction, image))
    fitted: Array = fitted_to(*pair)[0, 0].numpy()
    return fitted
