"""What all training recipes share: random crops of light fields, dimmed, with noise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.training.recipe import Recipe, Sample, Validation
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


@dataclass(frozen=True)
class Task:
    """What a network is to learn.

    Attributes
    ----------
    training, validation
        Light fields to learn from, and to judge by.
    settings
        The run's.
    """

    training: TrainingData
    validation: TrainingData
    settings: TrainingSettings


SampleT = TypeVar("SampleT", bound=Sample)


class EpochRecipe(Recipe[SampleT], Protocol[SampleT]):
    """What a method adds to the loop, told which epoch it is."""

    def begin_epoch(self, epoch: int) -> None:
        """Learn as epoch ``epoch``, from 0, does."""


class CropRecipe(Generic[SampleT]):
    """Crops, noise and checkpoints; methods add their sample, loss and validation.

    Parameters
    ----------
    model
        The network to train.
    microscope
        The microscope, with the network's views and depths.
    task
        What it is to learn.
    """

    best_by = "correlation"

    def __init__(self, model: Network, microscope: LightFieldMicroscope, task: Task) -> None:
        self.model, self.microscope, self.settings = model, microscope, task.settings
        self.data, self.validation = task.training, task.validation
        settings = task.settings
        self.n_samples = len(self.data.visits)
        self.memory_settings = f"crop (now {settings.crop}) or batch_size ({settings.batch_size})"

    def begin_epoch(self, epoch: int) -> None:
        """Learn as epoch ``epoch`` does: like any other."""

    def draw(self, item: int, rng: np.random.Generator) -> tuple[int, Origin, np.float32, Array]:
        """Return a light field's index, the origin and brightness factor of a crop, and the crop.

        The crop (A, c, c) is dimmed, without added noise.
        """
        index = self.data.visits[item]
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

    def sample(self, item: int, rng: np.random.Generator) -> SampleT:
        """Read a random crop of a light field, dim it, add noise."""
        raise NotImplementedError

    def losses(self, network: Callable[..., Any], samples: Sequence[SampleT]) -> dict[str, Tensor]:
        """Return the terms of the loss, see the methods' own."""
        raise NotImplementedError

    def validate(self) -> Validation:
        """Judge the model by the validation fields."""
        raise NotImplementedError

    def checkpoint(self) -> dict[str, Any]:
        """Return the network as `serenet.load_checkpoint` reads it."""
        return checkpoint_content(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the network of a checkpoint."""
        self.model.load_state_dict(content["state"])


def mean_scores(scores: dict[str, list[float]]) -> dict[str, float]:
    """Return the mean of every score over the fields that have it; an empty one may not."""
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in scores.items()}
    return {n: float(np.mean(values)) if values else math.nan for n, values in finite.items()}
