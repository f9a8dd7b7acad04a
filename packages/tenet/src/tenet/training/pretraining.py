"""Pre-training: JNet learns structure and brightness from labels that are imaged on the spot."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scopekit.training.recipe import Validation
from tenet.config.sections import PretrainLoop
from tenet.data.crops import Crop, Crops
from tenet.microscope.imaging import Batch, Microscope, make_batch
from tenet.network.jnet import JNet, Output
from tenet.network.weights import freeze, state_of
from tenet.training.losses import STRUCTURE_LOSSES, labelled_luminance_loss
from tenet.training.validation import validation_pictures


def structure_iou(structure: Tensor, labelx: Tensor, threshold: float) -> float:
    """Return the intersection over union of ``structure >= threshold`` and the label.

    1 where both are empty.
    """
    found, true = structure >= threshold, labelx > 0.5
    union = int((found | true).sum())
    return int((found & true).sum()) / union if union else 1.0


class Pretraining:
    """``weight_x loss_fnx(structure, labelx) + weight_z luminance``.

    Parameters
    ----------
    model
        On its device, its neural PSF fitted; the microscope in it stays as it is.
    settings
        Section ``pretrain_loop``.
    training, validation
        Crops of labels.
    """

    best_by = "val_loss"

    def __init__(
        self, model: JNet, settings: PretrainLoop, training: Crops, validation: Crops
    ) -> None:
        self.model, self.settings = model, settings
        self.crops, self._validation = training, validation
        self.n_samples = training.number
        self.memory_settings = (
            f"pretrain_loop.batch_size (now {settings.batch_size}) or pretrain_dataset.cropsize, "
            "or set params.checkpointing"
        )
        freeze(model.imaging_parameters())
        self.microscope = Microscope.of(model, noisy=not settings.without_noise)
        self.device = model.a.device

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Draw a crop; ``item`` does not matter, the places are random."""
        return self.crops.draw(rng)

    def batch(self, crops: Sequence[Crop]) -> Batch:
        """Return what the network is shown of these crops."""
        return make_batch(crops, self.device, self.microscope)

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the terms ``structure`` and ``luminance``."""
        batch = self.batch(samples)
        return self.terms(network(batch.shown), batch)

    def terms(self, out: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of what the network made of a batch."""
        assert batch.labelx is not None
        assert batch.labelz is not None
        loss_x = STRUCTURE_LOSSES[self.settings.loss_fnx]
        structure = loss_x(out["enhanced_image"], batch.labelx)
        luminance = labelled_luminance_loss(out["estim_luminance"], batch.labelx, batch.labelz)
        return {
            "structure": self.settings.weight_x * structure,
            "luminance": self.settings.weight_z * luminance,
        }

    def validate(self) -> Validation:
        """Return the mean loss of the validation crops, always the same, and their IoU."""
        losses, overlaps = [], []
        pictures: dict[str, Any] = {}
        for number in range(self._validation.number):
            rng = np.random.default_rng([self._validation.data.seed, number])
            batch = self.batch([self._validation.draw(rng)])
            out: Output = self.model(batch.shown)
            losses.append(float(torch.stack([*self.terms(out, batch).values()]).sum()))
            assert batch.labelx is not None
            threshold = self.model.params.threshold
            overlaps.append(structure_iou(out["enhanced_image"], batch.labelx, threshold))
            pictures = pictures or validation_pictures(out, batch)
        scores = {"val_loss": float(np.mean(losses)), "iou": float(np.mean(overlaps))}
        voxel = (self.model.params.res_lateral,) * 3
        return Validation(scores, pictures, voxel, lower_is_better=True)

    def checkpoint(self) -> dict[str, Any]:
        """Return the model's state."""
        return {"state": state_of(self.model)}
