"""Fine-tuning: JNet learns from recordings, by imaging what it finds and comparing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optics import TwoPhotonNLL
from scopekit.training.recipe import Validation
from tenet.config.sections import TrainLoop
from tenet.data.crops import Crop, Crops
from tenet.microscope.imaging import Batch, Microscope, make_batch
from tenet.network.jnet import JNet, Output
from tenet.network.weights import state_of
from tenet.training.ewc import EWC
from tenet.training.losses import least_squares_gain, luminance_loss, mrf_loss
from tenet.training.pretraining import structure_iou
from tenet.training.validation import validation_pictures


class Finetuning:
    """Reconstruction, luminance, quantisation, PSF, Markov random field, and EWC.

    Parameters
    ----------
    model
        Pre-trained, on its device; what is not to be learnt requires no gradient.
    settings
        Section ``train_loop``.
    training, validation
        Crops of recordings; or of labels, with ``microscope``.
    microscope
        Makes images of labels.
    ewc
        Holds the network near its start; ``None``: nothing does.
    """

    best_by = "val_loss"

    def __init__(
        self,
        model: JNet,
        settings: TrainLoop,
        training: Crops,
        validation: Crops,
        *,
        microscope: Microscope | None = None,
        ewc: EWC | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self.crops, self._validation = training, validation
        self._microscope, self._ewc = microscope, ewc
        self._likelihood = TwoPhotonNLL()
        self.n_samples = training.number
        self.memory_settings = (
            f"train_loop.batch_size (now {settings.batch_size}) or train_dataset.cropsize, or set "
            "params.checkpointing"
        )
        self.device = model.a.device

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Draw a crop; ``item`` does not matter, the places are random."""
        return self.crops.draw(rng)

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        batch = make_batch(samples, self.device, self._microscope)
        return self.terms(network(batch.shown), batch)

    def terms(self, out: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of what the network made of a batch."""
        settings = self.settings
        reconstruction = out["reconstruction"]
        if settings.adjust_luminance:
            reconstruction = reconstruction * least_squares_gain(reconstruction, batch.image)
        likelihood = self._likelihood(
            reconstruction, batch.image, out["poisson_weight"], out["gaussian_sigma"]
        )
        luminance = luminance_loss(out["estim_luminance"])
        terms = {"reconstruction": likelihood, "luminance": settings.zloss_weight * luminance}
        if out["quantized_loss"] is not None:
            terms["quantisation"] = settings.qloss_weight * out["quantized_loss"]
        if out["psf_loss"] is not None:
            terms["psf"] = settings.ploss_weight * out["psf_loss"]
        weights = settings.mrfloss_weights.model_dump()
        if any(weights.values()):
            terms["mrf"] = mrf_loss(
                out["enhanced_image"],
                order=settings.mrfloss_order,
                dilation=settings.mrfloss_dilation,
                **weights,
            )
        if self._ewc is not None:
            terms["ewc"] = self._ewc(network_names(self.model))
        return terms

    def validate(self) -> Validation:
        """Return the mean of every term over the validation crops, always the same."""
        sums: dict[str, list[float]] = {}
        pictures: dict[str, Any] = {}
        for number in range(self._validation.number):
            rng = np.random.default_rng([self._validation.data.seed, number])
            batch = make_batch([self._validation.draw(rng)], self.device, self._microscope)
            out: Output = self.model(batch.shown)
            terms = {f"val_{n}": float(t) for n, t in self.terms(out, batch).items()}
            terms = {"val_loss": sum(terms.values()), **terms}
            if batch.labelx is not None:
                threshold = self.model.params.threshold
                terms["iou"] = structure_iou(out["enhanced_image"], batch.labelx, threshold)
            for name, value in terms.items():
                sums.setdefault(name, []).append(value)
            pictures = pictures or validation_pictures(out, batch)
        scores = {name: float(np.mean(values)) for name, values in sums.items()}
        voxel = (self.model.params.res_lateral,) * 3
        return Validation(scores, pictures, voxel, lower_is_better=True)

    def checkpoint(self) -> dict[str, Any]:
        """Return the model's state."""
        return {"state": state_of(self.model)}


def network_names(model: JNet) -> Mapping[str, nn.Parameter]:
    """Return the parameters of the U-Net by name."""
    own = {id(p) for p in model.network_parameters()}
    return {name: p for name, p in model.named_parameters() if id(p) in own}


def mean_terms(recipe: Finetuning) -> dict[str, float]:
    """Return every term of the loss over the validation crops, nothing trained."""
    recipe.model.eval()
    with torch.no_grad():
        return recipe.validate().scores
