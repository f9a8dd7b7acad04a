"""What evaluations pass on: images, results, what was measured of them, and the known scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from scopekit.images.files import VoxelSize
from tenet.array_kinds import Array
from tenet.evaluation.statistics import Statistics
from tenet.objects.measurements import ObjectMeasurement

Summary = dict[str, Statistics]


@dataclass(frozen=True)
class Score:
    """How a score is told and drawn.

    Attributes
    ----------
    heading
        Its name.
    form
        Format of its numbers.
    ideal
        What is right, where that is always the same.
    axis
        From where to where it is drawn over the threshold; ``None``: as far as it goes.
    signed
        Whether a mean is told with its sign, as of errors that go either way.
    """

    heading: str
    form: str
    ideal: float | None = None
    axis: tuple[float, float | None] = (0, None)
    signed: bool = False

    def text(self, value: float) -> str:
        """Return a number as text."""
        return format(value, self.form)

    def mean_text(self, mean: float) -> str:
        """Return a mean as text."""
        return format(mean, f"{'+' if self.signed else ''}{self.form}")


SCORES = {
    "volume_um3": Score("volume (µm³)", ".3f"),
    "sphericity": Score("sphericity", ".3f", 1.0, (0, 1.05)),
    "z_xy_ratio": Score("z / xy diameter", ".2f", 1.0, (0, 6)),
    "iou": Score("IoU", ".3f", 1.0, (0, 1.05)),
    "mse": Score("MSE", ".4f"),
    "bce": Score("BCE", ".3f"),
    "mse_z": Score("MSE of the brightness", ".2e"),
    "bce_z": Score("BCE of the brightness", ".3f"),
    "volume_error": Score("error of the volume", ".1%", 0.0, (-1, 3), signed=True),
    "segmented_fraction": Score("segmented", ".2%"),
    "objects": Score("objects", ".1f"),
    "reconstruction_mse": Score("MSE of the reconstruction", ".2e"),
}


@dataclass(frozen=True)
class Sample:
    """An image to try methods on.

    Attributes
    ----------
    name
        Of the image.
    image
        (Z, Y, X), from 0 to 1.
    truth
        (Z scale, Y, X), 0 or 1, where it is known.
    truth_brightness
        Of that shape, from 0 to 1, where it is known.
    own_scale
        Whether 0 and 1 are only what the recording ranges over.
    """

    name: str
    image: Array
    truth: Array | None = None
    truth_brightness: Array | None = None
    own_scale: bool = False


# What the network's outputs are called, and what labels are, to what a result calls them.
_PUBLISHED = {
    "estim_luminance": "brightness",
    "labelx": "truth",
    "labelz": "truth_brightness",
}


@dataclass(frozen=True)
class Result:
    """What a method made of an image.

    Also by the names of the network's outputs and of labels, ``result["enhanced_image"]``:
    `enhanced_image` and `quantized_loss` as below, ``estim_luminance``, ``reconstruction``,
    ``image``, ``labelx`` and ``labelz``.

    Attributes
    ----------
    name
        Of the image.
    method
        ``tenet``, ``RL-TV`` or ``interpolation``.
    image
        (Z, Y, X), as recorded, from 0 to 1.
    structure
        (Z scale, Y, X), from 0 to 1.
    brightness
        Of that shape; ``None`` from methods that do not tell it from structure.
    reconstruction
        (Z, Y, X): the result, as the microscope would image it.
    voxel_um
        (z, y, x) step of the structure.
    truth
        True structure, 0 or 1, where it is known.
    truth_brightness
        True brightness, 0 outside the structure, where it is known.
    quantised_at
        From where on structure counts as 1, and as 0 below, in the reconstruction; ``None``: the
        reconstruction is of the structure as it is.
    """

    name: str
    method: str
    image: Array
    structure: Array
    brightness: Array | None
    reconstruction: Array
    voxel_um: VoxelSize
    truth: Array | None = None
    truth_brightness: Array | None = None
    quantised_at: float | None = None

    @property
    def enhanced_image(self) -> Array:
        """What is imaged again: the structure, quantised if it is."""
        if self.quantised_at is None:
            return self.structure
        return (self.structure >= self.quantised_at).astype(np.float32)

    @property
    def quantized_loss(self) -> float | None:
        """Mean squared difference of the structure from its quantised self; ``None`` if not so."""
        if self.quantised_at is None:
            return None
        return float(np.square(self.enhanced_image - self.structure).mean())

    def keys(self) -> tuple[str, ...]:
        """Return the names that it may be indexed by."""
        own = [field.name for field in fields(self)]
        return (*own, "enhanced_image", "quantized_loss", *_PUBLISHED)

    def __getitem__(self, name: str) -> Any:
        """Return an attribute, by its name here or in published results."""
        if name not in self.keys():
            raise KeyError(f"{name}: allowed: {', '.join(self.keys())}")
        return getattr(self, _PUBLISHED.get(name, name))


@dataclass(frozen=True)
class Record:
    """What was measured of a result at a threshold.

    Attributes
    ----------
    name, method, threshold
        The image, the method, and what counted as structure.
    values
        Scores of the whole image.
    objects
        Its objects.
    left_out
        How many objects were none of those looked for; counted where there is no other.
    """

    name: str
    method: str
    threshold: float
    values: Mapping[str, float]
    objects: Sequence[ObjectMeasurement] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Row:
    """Scores of a method at a threshold, over all images.

    Attributes
    ----------
    method, threshold
        The method, and what counted as structure.
    is_best
        Whether the threshold is the one that the evaluation found best, not the one asked for.
    summary
        The scores.
    note
        What is to be known of them, if anything.
    """

    method: str
    threshold: float
    is_best: bool
    summary: Summary
    note: str = ""
