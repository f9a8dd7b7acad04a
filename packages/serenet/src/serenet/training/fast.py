"""How the SeReNet family learns in minutes: volumes as targets, dense windows, Muon.

The published recipe compares projections, whose gradient says little about where in depth light
belongs: it needs days. Here a window of the volume itself is the target: the truth of simulated
scenes, or the deconvolved light field (`serenet.training.teacher`) where there is no truth.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optics import NLLMPG, BandLimitedOperator
from scopekit.training.recipe import Validation
from serenet.networks.serenet import SeReNet
from serenet.training.crops import Array, Origin, TrainingData
from serenet.training.recipe import Task
from serenet.training.serenet_family import (
    FamilyRecipe,
    Projector,
    view_distance,
    view_likelihood,
)
from serenet.training.start import INPUT_COUNTS, OUTPUT_COUNTS, in_counts, to_own_units
from serenet.views.brightness import subtract_background
from serenet.views.refocusing import decompose_window

# Pixels of a window beside a cut through the field, where the network's own zeros tell.
_CUT_PLANES = 4
_CUT_VIEW_PIXELS = 3
# Windows that keep clear of the field's border, by so many view pixels: light from outside it is
# in the views, yet not in the volume.
_INNER_SHARE = 0.7
_BORDER = 9
# Depth windows end at the range's end as often as elsewhere.
_BEYOND_DEPTHS = 8
_BACKGROUND_SHARE = 0.8
_PEAK_PERCENTILE = 99.99
# View pixels of a validation field that are reconstructed, along y and x.
_VALIDATED_SIDE = 99


@dataclass(frozen=True)
class Window:
    """A window of a light field as the network sees it, and what it is compared with.

    Attributes
    ----------
    source
        The file.
    decomposed
        (A, d, c, c), noise added, refocused to d depths; in counts.
    targets
        ``volume`` and ``teacher``, as far as they are needed, (d, C, C), in counts.
    weight
        (d, C, C): 0 beside cuts through the field.
    power
        Mean square that errors are divided by.
    views
        (K, c, c) without added noise, for the likelihood.
    projected
        Channels of the K views.
    """

    source: str
    decomposed: Tensor
    targets: dict[str, Tensor]
    weight: Tensor
    power: float
    views: Tensor
    projected: tuple[int, ...]


class FastTraining(FamilyRecipe[Window]):
    """The SeReNet family by a mixture of losses of windows of volumes.

    ``w_volume |v - truth|^2 / p + w_teacher |v - deconvolved|^2 / p + w_likelihood NLL-MPG / m +
    w_perceptual LPIPS``, where p is the mean of the mean squares of the target in the window and in
    the field, and m as in `serenet.training.serenet_family.SelfSupervised`.

    Parameters
    ----------
    model, projector, task
        As in every recipe of the family.
    windows
        Projection of a window's volume; ``None`` where no loss projects.
    perceptual
        LPIPS, or ``None``.
    teacher
        The light fields with their deconvolved volumes, or ``None``.
    """

    def __init__(
        self,
        model: SeReNet,
        projector: Projector,
        task: Task,
        *,
        windows: BandLimitedOperator | None,
        perceptual: nn.Module | None,
        teacher: TrainingData | None,
    ) -> None:
        super().__init__(model, projector, task)
        to_own_units(self.model)
        noise = self.settings.noise
        self._likelihood = NLLMPG(noise.mean, noise.variance)
        self._perceptual, self._windows = perceptual, windows
        self._targets: dict[str, TrainingData] = {}
        if self.settings.losses.volume:
            self._targets["volume"] = self.data
        if teacher is not None:
            self._targets["teacher"] = teacher
        self._view_shift = self.projector.shift.cpu() / self.microscope.lateral_scale
        self.best_by = "correlation" if self.validation.paired else "psnr"
        self.validation.widen(_VALIDATED_SIDE)
        self._peaks: dict[int, float] = {}
        self._powers: dict[int, float] = {}

    def sample(self, item: int, rng: np.random.Generator) -> Window:
        """Read a random window of a light field at a random brightness, with noise."""
        index = self.data.visits[item]
        field = self.data.field(index)
        low, high = min(self.settings.noise.photons), max(self.settings.noise.photons)
        factor = math.exp(rng.uniform(math.log(low), math.log(high))) / self._peak(index, field)
        origin = self._draw_origin(index, rng)
        depths = self._draw_depths(rng)
        rows, columns = ((start, start + self.data.crop) for start in origin)
        targets = {
            name: torch.from_numpy(data.volume(index, origin, depths) * np.float32(factor))
            for name, data in self._targets.items()
            if data.fields[index].volume is not None
        }
        channels = tuple(self.draw_views(len(field), rng)) if self._windows else ()
        clean = np.maximum(field * np.float32(factor), 0)
        return Window(
            self.data.fields[index].source,
            decompose_window(self._record(clean, rng), self._view_shift[:, depths], rows, columns),
            targets,
            self._weight(index, origin, depths),
            self._power(index, targets, factor) if targets else 1.0,
            torch.from_numpy(clean[list(channels), slice(*rows), slice(*columns)]),
            channels,
        )

    def _peak(self, index: int, field: Array) -> float:
        if index not in self._peaks:
            self._peaks[index] = max(float(np.percentile(field, _PEAK_PERCENTILE)), 1e-6)
        return self._peaks[index]

    def _record(self, clean: Array, rng: np.random.Generator) -> Tensor:
        """Return the views of a field as a camera records them, and as inference takes them."""
        noisy = self._noisy(clean, rng)
        # Inference subtracts a quantile of the whole field, unless it is told the background.
        if rng.random() < _BACKGROUND_SHARE:
            return subtract_background(noisy)
        return noisy - self.settings.noise.mean

    def _noisy(self, clean: Array, rng: np.random.Generator) -> Tensor:
        noise = self.settings.noise
        normal = rng.standard_normal(clean.shape, dtype=np.float32)
        counts = rng.poisson(clean) + noise.mean + noise.variance**0.5 * normal
        return torch.from_numpy(counts.astype(np.float32))

    def _draw_origin(self, index: int, rng: np.random.Generator) -> Origin:
        size = self.data.field_size(index)
        room = min(size) - self.data.crop
        border = _BORDER if rng.random() < _INNER_SHARE and room >= 2 * _BORDER else 0
        return self.data.random_origin(index, rng, border, aligned=True)

    def _draw_depths(self, rng: np.random.Generator) -> slice:
        n_depths = self.projector.shift.shape[1]
        count = min(self.settings.crop_depths or n_depths, n_depths)
        room = n_depths - count
        first = int(np.clip(rng.integers(-_BEYOND_DEPTHS, room + _BEYOND_DEPTHS + 1), 0, room))
        return slice(first, first + count)

    def _weight(self, index: int, origin: Origin, depths: slice) -> Tensor:
        """Return 0 where the network's zeros stand for a part of the field, 1 elsewhere."""
        crop, scale = self.data.crop, self.microscope.lateral_scale
        weights = []
        for (first, last), size, margin, factor in (
            ((depths.start, depths.stop), self.projector.shift.shape[1], _CUT_PLANES, 1.0),
            *(
                ((start, start + crop), size, _CUT_VIEW_PIXELS, scale)
                for start, size in zip(origin, self.data.field_size(index), strict=True)
            ),
        ):
            weight = torch.ones(round((last - first) * factor))
            cut = min(round(margin * factor), len(weight) // 4)
            if first > 0:
                weight[:cut] = 0
            if last < size:
                weight[len(weight) - cut :] = 0
            weights.append(weight)
        z, y, x = weights
        return z[:, None, None] * y[None, :, None] * x[None, None, :]

    def _power(self, index: int, targets: dict[str, Tensor], factor: float) -> float:
        """Return the mean of the target's mean squares in the window and in its field."""
        name, target = next(iter(targets.items()))
        data = self._targets[name]
        if index not in self._powers:
            whole = data.whole_volume(index)
            self._powers[index] = float(np.square(whole, dtype=np.float32).mean(dtype=np.float64))
        of_field = factor**2 * self._powers[index]
        return max((float(target.square().mean()) + of_field) / 2, 1e-12)

    def losses(self, network: Callable[..., Any], samples: Sequence[Window]) -> dict[str, Tensor]:
        """Return the terms of the mixture, each with its weight."""
        device = self.projector.shift.device
        inputs = torch.stack([s.decomposed for s in samples]).to(device) / INPUT_COUNTS
        volumes, _ = network(
            inputs.contiguous(memory_format=torch.channels_last_3d),
            self.microscope.lateral_scale,
        )
        each = [
            self._compare(volume[0].float() * OUTPUT_COUNTS, sample)
            for volume, sample in zip(volumes, samples, strict=True)
        ]
        return {name: torch.stack([terms[name] for terms in each]).mean() for name in each[0]}

    def _compare(self, volume: Tensor, sample: Window) -> dict[str, Tensor]:
        weights = self.settings.losses
        of = {"volume": weights.volume, "teacher": weights.teacher}
        shown = sample.weight.to(volume.device)
        share = shown.mean() * sample.power
        terms = {
            name: of[name] * ((volume - target.to(volume.device)).square() * shown).mean() / share
            for name, target in sample.targets.items()
        }
        if self._windows is not None:
            recorded = sample.views.to(volume.device)
            projected = self._windows.forward(volume, views=sample.projected)
            if weights.likelihood:
                found = view_likelihood(self._likelihood, projected, recorded)
                terms["likelihood"] = weights.likelihood * found
            if self._perceptual is not None:
                found = view_distance(self._perceptual, projected, recorded)
                terms["perceptual"] = self.settings.perceptual.weight * found
        return terms

    def record(self, views: Array, index: int) -> Tensor:
        """Return the views as a camera records them, with the same noise every time."""
        photons = self.settings.noise.photons
        peak = math.sqrt(min(photons) * max(photons))
        bright = views * np.float32(peak / max(float(np.percentile(views, _PEAK_PERCENTILE)), 1e-6))
        rng = np.random.default_rng([self.settings.seed, index])
        return subtract_background(self._noisy(bright, rng))

    def validate(self) -> Validation:
        """Judge the network in counts, see `FamilyRecipe.validate`."""
        with in_counts(self.model):
            return super().validate()

    def checkpoint(self) -> dict[str, Any]:
        """Return the network in counts, as `serenet.load_checkpoint` reads it."""
        with in_counts(self.model):
            content = super().checkpoint()
            content["state"] = {name: t.clone() for name, t in content["state"].items()}
        return content

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the network of a checkpoint."""
        super().restore(content)
        to_own_units(self.model)
