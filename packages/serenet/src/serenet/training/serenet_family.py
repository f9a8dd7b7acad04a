"""What each method of the SeReNet family learns from, and by which loss (Lu et al. 2025)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from optics import NLLMPG, LightFieldMicroscope, LightFieldOperator
from scopekit.metrics import correlation
from scopekit.training.recipe import Validation
from serenet.networks.serenet import SeReNet
from serenet.reconstruction.volume import reconstruct
from serenet.training.crops import TrainingData
from serenet.training.recipe import Crop, CropRecipe, mean_scores
from serenet.training.settings import TrainingSettings
from serenet.views.refocusing import decompose

_PEAK_QUANTILE = 0.999


@dataclass(frozen=True)
class Optics:
    """The microscope on the device.

    Attributes
    ----------
    microscope
        With the network's views and depths.
    operator
        Projection onto its views.
    shift
        PSF shift (A, D, 2), object pixels.
    """

    microscope: LightFieldMicroscope
    operator: LightFieldOperator
    shift: Tensor

    def project(self, volume: Tensor, channels: Sequence[int], side: int) -> Tensor:
        """Return views (K, side, side) of a volume (D, H, W), as in the training loss."""
        views = self.operator.forward(volume.float(), views=channels)
        resized: Tensor = F.interpolate(
            views[None], size=(side, side), mode="bilinear", align_corners=False
        )
        return resized[0]


class _FamilyRecipe(CropRecipe):
    """What the SeReNet family shares: decomposition, projection, validation."""

    paired = False
    model: SeReNet

    def __init__(
        self,
        model: SeReNet,
        optics: Optics,
        data: TrainingData,
        validation: TrainingData,
        settings: TrainingSettings,
    ) -> None:
        super().__init__(model, optics.microscope, data, validation, settings)
        self.optics = optics

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Read a random crop of a light field, dim it, add noise."""
        index, origin, factor, clean = self.draw(item, rng)
        inputs = torch.from_numpy(self.noisy(clean, rng))
        source = self.data.fields[index].source
        if self.paired:
            volume = torch.from_numpy(self.data.volume(index, origin) * factor)
            return Crop(source, inputs, volume)
        channels = tuple(self._draw_views(len(clean), rng))
        return Crop(source, inputs, torch.from_numpy(clean[list(channels)]), channels)

    def _draw_views(self, n_views: int, rng: np.random.Generator) -> list[int]:
        count = min(self.settings.projected_views, n_views)
        drawn: list[int] = rng.permutation(n_views).tolist()
        if self.settings.central_view:
            centre = self.optics.microscope.oblique_first[-1]
            drawn = [centre, *(a for a in drawn if a != centre)]
        return drawn[:count]

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the terms of the loss, see the methods' own."""
        scale, device = self.optics.microscope.lateral_scale, self.optics.shift.device
        shift = self.optics.shift / scale
        decomposed = torch.stack([decompose(s.inputs.to(device), shift) for s in samples])
        volumes, enlarged = network(
            decomposed.contiguous(memory_format=torch.channels_last_3d), scale
        )
        each = [
            self.compare(volume[0].float(), before[0].float(), sample)
            for volume, before, sample in zip(volumes, enlarged, samples, strict=True)
        ]
        return {name: torch.stack([terms[name] for terms in each]).mean() for name in each[0]}

    def compare(self, volume: Tensor, enlarged: Tensor, sample: Crop) -> dict[str, Tensor]:
        """Return the terms for one volume (D, H, W), and the same before the final resize."""
        raise NotImplementedError

    def _negativity(self, enlarged: Tensor) -> Tensor:
        return self.settings.negativity * (enlarged - enlarged.abs()).abs().mean()

    def validate(self) -> Validation:
        """Reconstruct the middle of every validation field; average the scores.

        ``psnr``: of the projected central view against the recorded one, dB. ``correlation``:
        of the volume with the truth, where there is one.
        """
        microscope = self.optics.microscope
        data = self.validation
        centre = microscope.oblique_first[-1]
        scores: dict[str, list[float]] = {}
        drawn: dict[str, NDArray[np.float32]] = {}
        for index in range(len(data)):
            origin = data.middle(index)
            views = torch.from_numpy(data.views(index, origin))
            volume = reconstruct(views, self.model, self.optics.shift, microscope.lateral_scale)
            on_device = volume.to(self.optics.shift.device)
            projected = self.optics.project(on_device, [centre], data.crop)[0]
            psnr = peak_signal_to_noise(views[centre], projected.cpu())
            scores.setdefault("psnr", []).append(psnr)
            pictures = {"reconstructed": volume.numpy()}
            if data.paired:
                truth = data.volume(index, origin)
                scores.setdefault("correlation", []).append(correlation(truth, volume.numpy()))
                pictures["truth"] = truth
            drawn = drawn or pictures
        voxel_um = microscope.voxel_um
        return Validation(mean_scores(scores), drawn, voxel_um)


def peak_signal_to_noise(recorded: Tensor, predicted: Tensor) -> float:
    """Return the PSNR in dB, the peak being the recorded image's maximum."""
    error = float((recorded - predicted).square().mean())
    return 10 * float(np.log10(max(float(recorded.max()) ** 2, 1e-12) / max(error, 1e-12)))


class SelfSupervised(_FamilyRecipe):
    """serenet: the volume's projections must look like the views it came from.

    ``NLL-MPG / m + LPIPS of the views, each over its m_a, + negativity``, where ``m_a`` is the
    0.999 quantile of view a plus 1 and ``m`` its mean.
    """

    best_by = "psnr"

    def __init__(self, *parts: Any, perceptual: nn.Module | None) -> None:
        super().__init__(*parts)
        noise = self.settings.noise
        self._likelihood = NLLMPG(noise.mean, noise.variance)
        self._perceptual = perceptual

    def compare(self, volume: Tensor, enlarged: Tensor, sample: Crop) -> dict[str, Tensor]:
        """Return the terms ``likelihood``, ``perceptual`` and ``negativity``."""
        target = sample.target.to(volume.device)
        projected = self.optics.project(volume, sample.projected, target.shape[-1])
        peaks = torch.quantile(target.flatten(1), _PEAK_QUANTILE, dim=1).abs() + 1
        terms = {
            "likelihood": self._likelihood(projected, target) / peaks.mean(),
            "negativity": self._negativity(enlarged),
        }
        if self._perceptual is not None:
            peaks = peaks[:, None, None]
            distance = self._perceptual(projected / peaks, target / peaks).mean()
            terms["perceptual"] = self.settings.perceptual.weight * distance
        return terms


class Supervised(_FamilyRecipe):
    """renet: the same network taught by volumes, ``L1 + negativity``."""

    paired = True

    def compare(self, volume: Tensor, enlarged: Tensor, sample: Crop) -> dict[str, Tensor]:
        """Return the terms ``l1`` and ``negativity``."""
        target = sample.target.to(volume.device)
        return {"l1": F.l1_loss(volume, target), "negativity": self._negativity(enlarged)}


class AxialFineTuning(_FamilyRecipe):
    """fserenet: a serenet whose first six convolutions stay, taught by volumes, ``NLL-MPG``."""

    paired = True

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._likelihood = NLLMPG(0, 0)
        for layers in (self.model.coarse, self.model.middle):
            layers.requires_grad_(False)

    def compare(self, volume: Tensor, enlarged: Tensor, sample: Crop) -> dict[str, Tensor]:
        """Return the term ``likelihood``."""
        return {"likelihood": self._likelihood(volume, sample.target.to(volume.device))}
