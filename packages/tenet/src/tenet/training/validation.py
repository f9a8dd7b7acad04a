"""Validation on crops whose truth is known, and volumes of a crop to be drawn side by side."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.training.recipe import Validation
from tenet.metrics import structure_iou
from tenet.network.jnet import JNet, Output
from tenet.training.batches import Batch, LabelBatch

B = TypeVar("B", bound=LabelBatch)


def validate_on(
    model: JNet,
    draw: Callable[[np.random.Generator], B],
    terms: Callable[[Output, B], dict[str, Tensor]],
    *,
    number: int,
    seed: int,
) -> Validation:
    """Return the mean loss of so many batches, always the same, and the IoU of their structure.

    Parameters
    ----------
    model
        In evaluation mode.
    draw
        Draws a batch.
    terms
        Of the loss, of what the model made of a batch.
    number, seed
        How many batches, and of which random numbers.
    """
    losses, overlaps = [], []
    pictures: dict[str, Any] = {}
    threshold = model.params.threshold
    for n in range(number):
        batch = draw(np.random.default_rng([seed, n]))
        out: Output = model(batch.shown)
        losses.append(float(torch.stack([*terms(out, batch).values()]).sum()))
        overlaps.append(structure_iou(out["enhanced_image"], batch.labelx, threshold))
        pictures = pictures or validation_pictures(out, batch)
    scores = {"val_loss": float(np.mean(losses)), "iou": float(np.mean(overlaps))}
    return Validation(scores, pictures, model.voxel_um, lower_is_better=True)


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
