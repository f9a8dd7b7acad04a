"""Volumes of a validation crop, to be drawn side by side."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tenet.network.jnet import Output
from tenet.training.batches import Batch, LabelBatch


def validation_pictures(out: Output, batch: Batch) -> dict[str, NDArray[np.float32]]:
    """Return titles and volumes (Z, Y, X) of the first crop, all as fine as the result."""
    depth = out["enhanced_image"].shape[2]
    volumes = {
        "image": batch.image,
        "structure": out["enhanced_image"],
        "structure x brightness": out["enhanced_image"] * out["estim_luminance"],
    }
    if isinstance(batch, LabelBatch):
        volumes["truth"] = batch.labelx
    elif out["reconstruction"].shape == batch.image.shape:
        volumes["reconstruction"] = out["reconstruction"]
    return {title: _as_fine_as(volume[0, 0], depth) for title, volume in volumes.items()}


def _as_fine_as(volume: Tensor, depth: int) -> NDArray[np.float32]:
    repeated = volume.repeat_interleave(depth // len(volume), dim=0)
    array: NDArray[np.float32] = repeated.float().cpu().numpy()
    return array
