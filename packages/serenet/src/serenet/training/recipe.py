"""What all training recipes share: random crops of light fields, dimmed, with noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.training.recipe import Validation
from serenet.networks.base import Network
from serenet.networks.checkpoints import checkpoint_content
from serenet.training.crops import Array, Origin, TrainingData
from serenet.training.settings import TrainingSettings

_PHOTON_NOISE_SHARE = 0.8


@dataclass(frozen=True)
class Crop:
    """A crop of a light field, with what its method compares the result with.

    Attributes
    ----------
    source
        The file.
    inputs
        (A, c, c), noise added: what the network sees.
    target
        (K, c, c), the same crop without that noise, of the projected views; or the volume
        (D, H, W).
    projected
        Channels of the K views; empty where volumes are compared.
    """

    source: str
    inputs: Tensor
    target: Tensor
    projected: tuple[int, ...] = ()


class CropRecipe:
    """Crops, noise and checkpoints; methods add their sample, loss and validation.

    Parameters
    ----------
    model
        The network to train.
    microscope
        The microscope, with the network's views and depths.
    data, validation
        Light fields to learn from, and to judge by.
    settings
        The run's.
    """

    best_by = "correlation"

    def __init__(
        self,
        model: Network,
        microscope: LightFieldMicroscope,
        data: TrainingData,
        validation: TrainingData,
        settings: TrainingSettings,
    ) -> None:
        self.model, self.microscope, self.settings = model, microscope, settings
        self.data, self.validation = data, validation
        self.n_samples = len(data) * settings.data.repeat
        self.memory_settings = f"crop (now {settings.crop}) or batch_size ({settings.batch_size})"

    def draw(self, item: int, rng: np.random.Generator) -> tuple[int, Origin, np.float32, Array]:
        """Return a light field's index, the origin and brightness factor of a crop, and the crop.

        The crop (A, c, c) is dimmed, without added noise.
        """
        index = item % len(self.data)
        origin = self.data.random_origin(index, rng)
        factor = np.float32(rng.uniform(self.settings.brightness, 1))
        return index, origin, factor, self.data.views(index, origin) * factor

    def noisy(self, clean: Array, rng: np.random.Generator) -> Array:
        """Return the crop with the run's noise."""
        noise = self.settings.noise
        counts = clean
        if noise.photons and rng.random() < _PHOTON_NOISE_SHARE:
            scale = rng.choice(noise.photons) * rng.uniform(1, 3) / max(float(clean.max()), 1e-6)
            counts = (rng.poisson(clean * scale) / scale).astype(np.float32)
        normal = rng.standard_normal(clean.shape, dtype=np.float32)
        noisy: Array = counts + np.float32(noise.mean) + np.float32(noise.variance**0.5) * normal
        return noisy

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Read a random crop of a light field, dim it, add noise."""
        raise NotImplementedError

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the terms of the loss, see the methods' own."""
        raise NotImplementedError

    def validate(self) -> Validation:
        """Judge the model by the validation fields."""
        raise NotImplementedError

    def checkpoint(self) -> dict[str, Any]:
        """Return the network as `serenet.load_checkpoint` reads it."""
        return checkpoint_content(self.model)


def mean_scores(scores: dict[str, list[float]]) -> dict[str, float]:
    """Return the mean of every score over the fields that have it; an empty one may not."""
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in scores.items()}
    return {n: float(np.mean(values)) if values else math.nan for n, values in finite.items()}
