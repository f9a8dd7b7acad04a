"""How good a result is: of beads, of microglia, and of simulated images with known structure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from scopekit.errors import UserError
from scopekit.images.files import VoxelSize
from tenet.objects.measurements import ObjectMeasurement, Statistics, measure_objects, statistics
from tenet.training.losses import least_squares_gain

Array = NDArray[np.float32]
_TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner are of one object
# Objects smaller than this share of the largest in their image are noise, not beads.
_SMALLEST_BEAD = 0.1
_SMALLEST_OBJECT = 10  # voxels


@dataclass(frozen=True)
class Result:
    """What a method made of an image.

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
    """

    name: str
    method: str
    image: Array
    structure: Array
    brightness: Array | None
    reconstruction: Array
    voxel_um: VoxelSize
    truth: Array | None = None


@dataclass(frozen=True)
class Record:
    """What was measured of a result at a threshold.

    Attributes
    ----------
    name, method, threshold
        Of what.
    values
        Numbers of the whole image.
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


Summary = dict[str, Statistics]


class Kind(Protocol):
    """A kind of evaluation."""

    @property
    def name(self) -> str:
        """Its command."""
        ...

    @property
    def objective(self) -> str:
        """What the best threshold is best in; empty where nothing tells."""
        ...

    @property
    def lines(self) -> Mapping[str, float]:
        """Scores to draw over the threshold, and what each would be at best."""
        ...

    def errors(self, result: Result) -> dict[str, float]:
        """Return what does not depend on the threshold."""
        ...

    def measure(self, result: Result, threshold: float, errors: Mapping[str, float]) -> Record:
        """Measure a result at a threshold."""
        ...

    def summarise(self, records: Sequence[Record]) -> Summary:
        """Return the statistics of one method at one threshold."""
        ...

    def miss(self, summary: Summary) -> float | None:
        """Return how far a summary is from the best; ``None`` where nothing tells."""
        ...


def brightness_gain(reconstruction: Array, image: Array) -> float:
    """Return the factor in [0, 30] that brings a reconstruction nearest to its image."""
    pair = (torch.from_numpy(volume)[None, None] for volume in (reconstruction, image))
    return float(least_squares_gain(*pair))


def reconstruction_mse(result: Result) -> float:
    """Return the mean squared error of the reconstruction, its brightness fitted."""
    gain = brightness_gain(result.reconstruction, result.image)
    return float(np.square(gain * result.reconstruction - result.image).mean())


def label_beads(structure: Array, threshold: float) -> NDArray[np.int32]:
    """Label the beads of a volume.

    Objects that touch its border, which may cut them, and specks of less than a tenth of the
    largest object are left out.
    """
    labels, number = ndimage.label(structure >= threshold, _TOUCHING)
    if not number:
        found: NDArray[np.int32] = labels
        return found
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = sizes >= _SMALLEST_BEAD * sizes.max()
    for axis in range(labels.ndim):
        for end in (0, -1):
            keep[np.unique(labels.take(end, axis=axis))] = False
    return _kept(labels, keep)


def label_objects(structure: Array, threshold: float) -> NDArray[np.int32]:
    """Label all objects of ten voxels or more."""
    labels, _ = ndimage.label(structure >= threshold, _TOUCHING)
    keep = np.bincount(labels.ravel()) >= _SMALLEST_OBJECT
    keep[0] = False
    return _kept(labels, keep)


def _kept(labels: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the labels to be kept, numbered anew."""
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    kept: NDArray[np.int32] = numbers[labels]
    return kept


@dataclass(frozen=True)
class Beads:
    """Volume, sphericity and elongation of beads.

    Attributes
    ----------
    true_volume_um3
        Of a bead, where it is known.
    """

    true_volume_um3: float | None = None
    name = "beads"

    @property
    def objective(self) -> str:
        """What the best threshold is best in."""
        return "" if self.true_volume_um3 is None else "mean volume nearest to the true one"

    @property
    def lines(self) -> Mapping[str, float]:
        """Scores to draw over the threshold, and what each would be at best."""
        return {"volume_um3": self.true_volume_um3 or 0.0, "sphericity": 1.0, "z_xy_ratio": 1.0}

    def errors(self, result: Result) -> dict[str, float]:
        """Return the reconstruction's error."""
        return {"reconstruction_mse": reconstruction_mse(result)}

    def measure(self, result: Result, threshold: float, errors: Mapping[str, float]) -> Record:
        """Measure the beads of an image."""
        labels = label_beads(result.structure, threshold)
        beads = measure_objects(labels, result.voxel_um, result.brightness)
        left_out = 0 if beads else ndimage.label(result.structure >= threshold, _TOUCHING)[1]
        return Record(result.name, result.method, threshold, errors, beads, left_out)

    def summarise(self, records: Sequence[Record]) -> Summary:
        """Return statistics over all beads; of the errors, over the images."""
        beads = [bead for record in records for bead in record.objects]
        columns = ("volume_um3", "sphericity", "z_xy_ratio")
        summary = {name: statistics([getattr(bead, name) for bead in beads]) for name in columns}
        return summary | _over_images(records)

    def miss(self, summary: Summary) -> float | None:
        """Return the distance of the mean volume from the true one."""
        if self.true_volume_um3 is None:
            return None
        mean = summary["volume_um3"].mean
        return math.inf if math.isnan(mean) else abs(mean - self.true_volume_um3)


@dataclass(frozen=True)
class Microglia:
    """Recordings without truth: what was found in them, and how well it explains them."""

    name = "microglia"
    objective = ""
    lines: ClassVar[Mapping[str, float]] = {}

    def errors(self, result: Result) -> dict[str, float]:
        """Return the reconstruction's error."""
        return {"reconstruction_mse": reconstruction_mse(result)}

    def measure(self, result: Result, threshold: float, errors: Mapping[str, float]) -> Record:
        """Measure the objects of an image, and the share of it that they take."""
        labels = label_objects(result.structure, threshold)
        objects = measure_objects(labels, result.voxel_um, result.brightness)
        values = {
            "segmented_fraction": float((result.structure >= threshold).mean()),
            "objects": float(len(objects)),
            **errors,
        }
        return Record(result.name, result.method, threshold, values, objects)

    def summarise(self, records: Sequence[Record]) -> Summary:
        """Return statistics over the images."""
        return _over_images(records)

    def miss(self, summary: Summary) -> float | None:
        """Return nothing: there is no truth."""
        return None


@dataclass(frozen=True)
class Simulation:
    """Simulated images, whose structure is known."""

    name = "simulation"
    objective = "largest mean IoU"
    lines: ClassVar[Mapping[str, float]] = {"iou": 1.0, "volume_error": 0.0}

    def errors(self, result: Result) -> dict[str, float]:
        """Return the structure's mean squared error and cross-entropy, and the reconstruction's."""
        if result.truth is None:
            raise UserError(f"{result.name}: its true structure is not known; give labels")
        structure, truth = torch.from_numpy(result.structure), torch.from_numpy(result.truth)
        return {
            "mse": float(F.mse_loss(structure, truth)),
            "bce": float(F.binary_cross_entropy(structure, truth)),
            "reconstruction_mse": reconstruction_mse(result),
        }

    def measure(self, result: Result, threshold: float, errors: Mapping[str, float]) -> Record:
        """Compare structure and truth."""
        assert result.truth is not None
        found, true = result.structure >= threshold, result.truth > 0.5
        union = int((found | true).sum())
        values = {
            "iou": int((found & true).sum()) / union if union else 1.0,
            "volume_error": int(found.sum()) / true.sum() - 1 if true.any() else math.nan,
            **errors,
        }
        return Record(result.name, result.method, threshold, values)

    def summarise(self, records: Sequence[Record]) -> Summary:
        """Return statistics over the images."""
        return _over_images(records)

    def miss(self, summary: Summary) -> float | None:
        """Return what the mean IoU lacks to 1."""
        return 1 - summary["iou"].mean


def _over_images(records: Sequence[Record]) -> Summary:
    names = records[0].values if records else ()
    return {name: statistics([record.values[name] for record in records]) for name in names}


def best_threshold(kind: Kind, summaries: Mapping[float, Summary]) -> float | None:
    """Return the threshold with the smallest `Kind.miss`; ``None`` where nothing tells."""
    misses = {threshold: kind.miss(summary) for threshold, summary in summaries.items()}
    told = {t: miss for t, miss in misses.items() if miss is not None and math.isfinite(miss)}
    return min(told, key=lambda t: told[t]) if told else None
