"""How near a result is to the truth, and a reconstruction to its image."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.images.plane_file import release_pages

Array = NDArray[np.float32]
_MAX_GAIN = 30.0
_SLAB_VOXELS = 8_000_000


def slabs(*volumes: Array) -> Iterator[tuple[Array, ...]]:
    """Yield the same planes of volumes of one shape, a few million voxels at a time.

    Of those mapped to files no more than that is held.
    """
    step = max(_SLAB_VOXELS // max(volumes[0][:1].size, 1), 1)
    for start in range(0, len(volumes[0]), step):
        yield tuple(np.asarray(volume[start : start + step]) for volume in volumes)
        for volume in volumes:
            release_pages(volume)


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
    n_both = n_found = n_true = 0
    for part, label in slabs(volume, truth):
        found, true = part >= threshold, label > 0.5
        n_both += int((found & true).sum())
        n_found += int(found.sum())
        n_true += int(true.sum())
    union = n_found + n_true - n_both
    iou = n_both / union if union else 1.0
    return {"iou": iou, "volume_error": n_found / n_true - 1 if n_true else float("nan")}


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


def fit_of(reconstruction: Array, image: Array) -> tuple[float, float]:
    """Return the gain and the offset that bring a reconstruction (Z, Y, X) nearest to its image.

    See `fitted_to`.
    """
    n = image.size
    mean, wanted = (
        sum(float(part.sum(dtype=np.float64)) for (part,) in slabs(volume)) / n
        for volume in (reconstruction, image)
    )
    product = power = square = 0.0
    for part, recorded in slabs(reconstruction, image):
        centred = part.astype(np.float64) - mean
        product += float((centred * (recorded - wanted)).sum())
        power += float(np.square(centred).sum())
        square += float(np.square(part, dtype=np.float64).sum())
    # Rounding leaves some power in a constant.
    gain = min(max(product / power, 0.0), _MAX_GAIN) if power > 1e-12 * square else 1.0
    return gain, wanted - gain * mean


def mean_of(measure: Callable[..., Array | float], *volumes: Array) -> float:
    """Return the mean over all voxels of what a measure gives of volumes of one shape."""
    total = sum(float(np.sum(measure(*parts), dtype=np.float64)) for parts in slabs(*volumes))
    return total / volumes[0].size
