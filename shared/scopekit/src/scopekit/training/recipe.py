"""What the training loop is told: a method's recipe, and how long and how fast to learn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from scopekit.images.files import VoxelSize
from scopekit.training.plateau import EarlyStop, Plateau

Precision = Literal["float32", "bfloat16", "float16"]
Moments = dict[str, dict[str, Tensor]]


class Sample(Protocol):
    """What one pass of the network starts from, on the CPU."""

    @property
    def source(self) -> str:
        """The file it comes from, for messages."""


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes
    ----------
    scores
        Name to value; the higher the better, unless ``lower_is_better``.
    volumes
        Title to volume (Z, Y, X), all of one shape, to be drawn; may be empty.
    voxel_um
        (z, y, x) step in um.
    lower_is_better
        Whether the scores are losses.
    """

    scores: dict[str, float]
    volumes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    voxel_um: VoxelSize = (1.0, 1.0, 1.0)
    lower_is_better: bool = False


class Recipe(Protocol[S]):
    """What a method adds to the loop.

    Attributes
    ----------
    model
        The network; what does not require a gradient stays as it is.
    n_samples
        Samples an epoch.
    best_by
        The score that decides which checkpoint is the best.
    memory_settings
        What to lower when the memory does not suffice, in words: "crop (now 99)".
    """

    @property
    def model(self) -> nn.Module: ...  # noqa: D102
    @property
    def n_samples(self) -> int: ...  # noqa: D102
    @property
    def best_by(self) -> str: ...  # noqa: D102
    @property
    def memory_settings(self) -> str: ...  # noqa: D102

    def sample(self, item: int, rng: np.random.Generator) -> S:
        """Read and prepare sample ``item`` of an epoch; called in other threads, ahead of use."""

    def losses(self, network: Callable[..., Any], samples: Sequence[S]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss, each the mean over the samples.

        ``network`` is the model, to be called once, in the run's precision.
        """

    def validate(self) -> Validation:
        """Judge the model, which is in evaluation mode."""

    def checkpoint(self) -> dict[str, Any]:
        """Return what using the model needs, as plain tensors and values."""


@dataclass(frozen=True)
class Loop:
    """How long and how fast to learn.

    Attributes
    ----------
    epochs
        Number of epochs; in one, every sample is drawn once.
    learning_rate
        The rate that ``schedule`` scales.
    epochs_key, rate_key
        What these two are called where the user sets them.
    schedule
        ``schedule(epoch)``, epoch a real number from 0: factor of the learning rate.
    optimizer
        ``adam``, ``sgd``, or ``muon``: Muon on kernels, Adam at half its rate on the rest
        (`scopekit.training.muon`).
    batch_size
        Samples that go through the network together, in one process.
    accumulate
        Batches whose gradients make one step.
    clip_norm
        Largest norm of the gradient; ``None``: any.
    precision
        Of the network; losses and parameters stay float32.
    validate_every, save_every
        Epochs between validations and between kept checkpoints.
    seed
        Of the samples' order and random numbers.
    plateau
        When the rate falls by itself, instead of ``schedule``; validates after every epoch, and
        draws pictures every ``validate_every``.
    early_stop
        When to end early; likewise.
    keep_moments
        Whether ``best.pt`` holds the optimizer's moments too.
    on_epoch
        Called with the number of every epoch, from 0, before its samples are drawn.
    """

    epochs: int
    learning_rate: float
    epochs_key: str = "epochs"
    rate_key: str = "learning_rate"
    schedule: Callable[[float], float] = lambda _: 1.0
    optimizer: Literal["adam", "sgd", "muon"] = "adam"
    batch_size: int = 1
    accumulate: int = 1
    clip_norm: float | None = None
    precision: Precision = "float32"
    validate_every: int = 10
    save_every: int = 100
    seed: int = 0
    plateau: Plateau | None = None
    early_stop: EarlyStop | None = None
    keep_moments: bool = False
    on_epoch: Callable[[int], None] = lambda _: None
