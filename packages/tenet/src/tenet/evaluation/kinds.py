"""Kinds of evaluation: of beads, of microglia, and of simulated images with known structure."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scopekit.errors import UserError
from tenet.array_kinds import Array
from tenet.evaluation.scores import SCORES, Record, Result, Summary
from tenet.evaluation.scratch import IN_MEMORY, Parts, Scratch
from tenet.evaluation.statistics import statistics_of
from tenet.metrics import fit_of, mean_of, scores_of, slabs
from tenet.objects.found import Search, find_beads, find_objects

Errors = Mapping[str, float]


def reconstruction_mse(result: Result) -> float:
    """Return the mean squared error of the reconstruction, its gain and offset fitted."""
    gain, offset = (np.float32(n) for n in fit_of(result.reconstruction, result.image))

    def error(again: Array, image: Array) -> Array:
        difference: Array = gain * again + offset - image
        return np.square(difference)

    return mean_of(error, result.reconstruction, result.image)


def search_of(result: Result, threshold: float, scratch: Scratch) -> Search:
    """Return where to look for the objects of a result."""
    numbers = scratch.room(result.structure.shape, np.int32)
    bright = None if result.brightness is None else Parts(result.brightness)
    structure, limit = Parts(result.structure), scratch.object_bytes()
    return Search(structure, threshold, bright, result.voxel_um, Parts(numbers), limit)


class Kind(ABC):
    """What an evaluation measures.

    Attributes
    ----------
    name
        Its command.
    counted
        What the number of a score counts.
    images
        What its images are called.
    scanned
        Scores to draw over the threshold.
    compared
        Scores whose distributions are drawn side by side.
    """

    name: ClassVar[str]
    counted: ClassVar[str] = "images"
    images: ClassVar[str] = "recordings"
    scanned: ClassVar[tuple[str, ...]] = ()
    compared: ClassVar[tuple[str, ...]]

    @property
    def objective(self) -> str:
        """What the best threshold is best in; empty where nothing tells."""
        return ""

    @property
    def ideals(self) -> Mapping[str, float]:
        """Scores to what they would be at best, where that is known."""
        found = {score: SCORES[score].ideal for score in self.scanned}
        return {score: ideal for score, ideal in found.items() if ideal is not None}

    def errors(self, result: Result) -> dict[str, float]:
        """Return what does not depend on the threshold: the reconstruction's error."""
        return {"reconstruction_mse": reconstruction_mse(result)}

    @abstractmethod
    def measure(
        self, result: Result, threshold: float, errors: Errors, scratch: Scratch = IN_MEMORY
    ) -> Record:
        """Measure a result at a threshold; ``errors`` are those of the result."""

    def numbers(self, records: Sequence[Record]) -> dict[str, list[float]]:
        """Return every score of one method at one threshold: of each image that has a value."""
        names = records[0].values if records else ()
        told = {name: [record.values[name] for record in records] for name in names}
        return {name: [v for v in values if not math.isnan(v)] for name, values in told.items()}

    def summarise(self, records: Sequence[Record]) -> Summary:
        """Return the statistics of those numbers."""
        return {name: statistics_of(values) for name, values in self.numbers(records).items()}

    def miss(self, summary: Summary) -> float | None:
        """Return how far a summary is from the best; ``None`` where nothing tells."""
        return None


@dataclass(frozen=True)
class Beads(Kind):
    """Volume, sphericity and elongation of beads.

    Attributes
    ----------
    true_volume_um3
        Of a bead, where it is known.
    """

    true_volume_um3: float | None = None
    name = "beads"
    counted = "beads"
    scanned = ("volume_um3", "sphericity", "z_xy_ratio")
    compared = scanned

    @property
    def objective(self) -> str:
        """What the best threshold is best in."""
        return "" if self.true_volume_um3 is None else "mean volume nearest to the true one"

    @property
    def ideals(self) -> Mapping[str, float]:
        """Scores to what they would be at best, where that is known."""
        true = self.true_volume_um3
        return ({} if true is None else {"volume_um3": true}) | dict(super().ideals)

    def measure(
        self, result: Result, threshold: float, errors: Errors, scratch: Scratch = IN_MEMORY
    ) -> Record:
        """Measure the beads of an image."""
        beads, left_out = find_beads(search_of(result, threshold, scratch))
        return Record(result.name, result.method, threshold, errors, beads, left_out)

    def numbers(self, records: Sequence[Record]) -> dict[str, list[float]]:
        """Return the shapes of all beads; of the errors, those of the images."""
        beads = [bead for record in records for bead in record.objects]
        shapes = {name: [getattr(bead, name) for bead in beads] for name in self.scanned}
        # Those too large for the memory have none.
        shapes = {name: [v for v in values if not math.isnan(v)] for name, values in shapes.items()}
        return shapes | super().numbers(records)

    def miss(self, summary: Summary) -> float | None:
        """Return the distance of the mean volume from the true one."""
        if self.true_volume_um3 is None:
            return None
        mean = summary["volume_um3"].mean
        return math.inf if math.isnan(mean) else abs(mean - self.true_volume_um3)


@dataclass(frozen=True)
class Microglia(Kind):
    """Recordings without truth: what was found in them, and how well it explains them."""

    name = "microglia"
    compared = ("segmented_fraction", "objects", "reconstruction_mse")

    def measure(
        self, result: Result, threshold: float, errors: Errors, scratch: Scratch = IN_MEMORY
    ) -> Record:
        """Measure the objects of an image, and the share of it that they take."""
        objects = find_objects(search_of(result, threshold, scratch))
        values = {
            "segmented_fraction": mean_of(lambda part: part >= threshold, result.structure),
            "objects": float(len(objects)),
            **errors,
        }
        return Record(result.name, result.method, threshold, values, objects)


@dataclass(frozen=True)
class Simulation(Kind):
    """Simulated images, whose structure is known."""

    name = "simulation"
    images = "images"
    scanned = ("iou", "volume_error")
    compared = ("iou", "volume_error", "mse")

    @property
    def objective(self) -> str:
        """What the best threshold is best in."""
        return "largest mean IoU"

    def errors(self, result: Result) -> dict[str, float]:
        """Return mean squared error and cross-entropy of structure and brightness, and the rest.

        Those of the brightness, ``..._z``, are of its product with the true structure, as in
        pre-training: where there is none, no brightness is right or wrong. NaN where one of them
        is not known.
        """
        truth = _truth(result)
        errors = _errors("", result.structure, truth)
        errors |= _errors("_z", result.brightness, result.truth_brightness, within=truth)
        return errors | super().errors(result)

    def measure(
        self, result: Result, threshold: float, errors: Errors, scratch: Scratch = IN_MEMORY
    ) -> Record:
        """Compare structure and truth."""
        values = {**scores_of(result.structure, _truth(result), threshold), **errors}
        return Record(result.name, result.method, threshold, values)

    def miss(self, summary: Summary) -> float | None:
        """Return what the mean IoU lacks to 1."""
        return 1 - summary["iou"].mean


def _errors(
    ending: str, found: Array | None, truth: Array | None, within: Array | None = None
) -> dict[str, float]:
    """Return mean squared error and cross-entropy; NaN without a volume or its truth.

    Those of the volume times ``within``, if that is given.
    """
    measures: dict[str, Callable[..., Tensor]] = {
        "mse": F.mse_loss,
        "bce": F.binary_cross_entropy,
    }
    if found is None or truth is None:
        return {f"{name}{ending}": math.nan for name in measures}
    totals = dict.fromkeys(measures, 0.0)
    for one, true, *mask in slabs(found, truth, *(() if within is None else (within,))):
        pair = torch.from_numpy(math.prod(mask, start=one)), torch.from_numpy(true)
        for name, measure in measures.items():
            totals[name] += float(measure(*pair, reduction="sum"))
    return {f"{name}{ending}": total / found.size for name, total in totals.items()}


def _truth(result: Result) -> Array:
    if result.truth is None:
        raise UserError(f"{result.name}: its true structure is not known; give labels")
    return result.truth


def best_threshold(kind: Kind, summaries: Mapping[float, Summary]) -> float | None:
    """Return the threshold with the smallest `Kind.miss`; ``None`` where nothing tells."""
    misses = {threshold: kind.miss(summary) for threshold, summary in summaries.items()}
    told = {t: miss for t, miss in misses.items() if miss is not None and math.isfinite(miss)}
    return min(told, key=lambda t: told[t]) if told else None
