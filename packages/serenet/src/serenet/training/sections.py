"""The sections of a training run's settings."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Keys that are unknown are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Section):
    """Light fields, and the volumes they are of.

    Attributes
    ----------
    views
        Folder of view stacks.
    volumes
        Folder of volumes: ``NAME.tif`` belongs to the views ``NAME....tif``. Supervised methods
        need it; in validation it adds the correlation with the truth. For twnet: the views of
        the samples at rest, ``NAME.tif`` or ``NAME_still.tif``, to judge by.
    simulated
        Instead of folders: so many scenes, made on the spot; for twnet, moving ones.
    scenes
        What is simulated: ``small``, tubes and bubbles, 12 microlenses wide; or ``mixed``, tubes,
        shells, balls, beads and grains of all sizes, sparse and dense, 20 microlenses wide, 32
        without scanning.
    first, last
        Take only so many files from the start, then from the end, of the names in order; numbers
        in them count as numbers, No2 before No10.
    repeat
        How often an epoch visits every light field.
    """

    views: Path | None = None
    volumes: Path | None = None
    simulated: Count | None = None
    scenes: Literal["small", "mixed"] = "small"
    first: Count | None = None
    last: Count | None = None
    repeat: Count = 1

    @model_validator(mode="after")
    def _check(self) -> "Data":
        if (self.views is None) == (self.simulated is None):
            raise ValueError("give either views (a folder) or simulated (a number)")
        return self


class Noise(Section):
    """Noise added to the light fields that the network sees.

    Attributes
    ----------
    variance
        Of the Gaussian read noise, counts squared; also what the likelihood expects.
    mean
        Its mean: the camera's offset.
    photons
        With probability 0.8 also shot noise, at a peak of one of these counts times 1 to 3.
    """

    variance: Weight = 9.0
    mean: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    photons: tuple[Rate, ...] = ()


class Losses(Section):
    """Weights of the losses that the fast recipe adds up; LPIPS has its own section.

    Attributes
    ----------
    volume
        Squared error to the true volume, over the target's mean square.
    teacher
        The same to the deconvolved light field (`serenet.training.teacher`), where there is no
        true volume; with ``teacher.everywhere`` also where there is one.
    likelihood
        NLL-MPG of projected views, as in the published recipe.
    """

    volume: Weight = 0.0
    teacher: Weight = 0.0
    likelihood: Weight = 0.0


class Teacher(Section):
    """The deconvolution that teaches where there is no true volume.

    Attributes
    ----------
    sweeps
        Of ordered-subset Richardson-Lucy over all views.
    everywhere
        Whether light fields are deconvolved whose true volume is known.
    """

    sweeps: Count = 3
    everywhere: bool = False


class Perceptual(Section):
    """Perceptual distance between projected and recorded views.

    Attributes
    ----------
    weight
        Its weight; 0 goes without, and needs no files.
    kind
        ``lpips``, also where it is left out; ``first_layers``: mean square difference of the
        features of VGG-16's first one or two convolutions, from a small file, without a network.
    vgg
        Pretrained VGG-16; left out: from the hub. For ``first_layers``, the small file.
    linear
        LPIPS' linear weights; left out: those of the installed package ``lpips``.
    """

    weight: Weight = 1.0
    kind: Literal["lpips", "first_layers"] | None = None
    vgg: Path | None = None
    linear: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> "Perceptual":
        if self.kind == "first_layers" and self.vgg is None and self.weight:
            raise ValueError(
                "vgg is missing: first_layers takes a file of VGG-16's first convolutions"
            )
        if self.kind == "first_layers" and self.linear is not None:
            raise ValueError("linear: first_layers has no such weights; leave it out")
        return self


class Balance(Section):
    """How few bright voxels outweigh the many dark ones in the first epochs.

    Without it, networks whose output starts away from 0 learn that all is dark, and stay there.

    Attributes
    ----------
    epochs
        In the first so many, the loss is the mean square error of the bright voxels plus that of
        the dark ones; 0: none.
    threshold
        True relative brightness above which voxels are bright.
    """

    epochs: Annotated[int, Field(ge=0)] = 50
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Schedule(Section):
    """How the learning rate changes.

    Attributes
    ----------
    kind
        ``constant``; ``steps``: times ``gamma`` at every milestone; ``cosine``: down to zero.
    milestones
        Epochs.
    gamma
        Factor at a milestone.
    warmup_epochs
        Epochs in which it rises linearly from zero.
    """

    kind: Literal["constant", "steps", "cosine"] = "constant"
    milestones: tuple[Count, ...] = ()
    gamma: Rate = 0.5
    warmup_epochs: Weight = 0.0


def rate_factor(schedule: Schedule, epochs: int) -> Callable[[float], float]:
    """Return the factor of the learning rate as a function of the epoch (real, from 0)."""

    def factor(epoch: float) -> float:
        warm = min((epoch + 1e-3) / schedule.warmup_epochs, 1.0) if schedule.warmup_epochs else 1.0
        if schedule.kind == "steps":
            return warm * schedule.gamma ** sum(epoch >= m for m in schedule.milestones)
        if schedule.kind == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        return warm

    return factor
