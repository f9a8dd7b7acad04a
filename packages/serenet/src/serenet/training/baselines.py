"""How the methods that SeReNet is compared with learn (Lu et al., Nature Methods 2025)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scopekit.errors import UserError
from scopekit.metrics import correlation
from scopekit.training.recipe import Validation
from serenet.networks.rlnet import RLNet
from serenet.networks.view_networks import HyLFMNet, VCDNet
from serenet.networks.vsnet import VsNet
from serenet.reconstruction.virtual_scan import virtual_scan
from serenet.reconstruction.volume import reconstruct, refocused_share
from serenet.training.recipe import Crop, CropRecipe, mean_scores
from serenet.training.serenet_family import peak_signal_to_noise
from serenet.views.refocusing import normalise, percentiles

_FIRST_ESTIMATE_WEIGHT = 0.1
_TRUTH_SHARE = 0.8
# Of SSIM, for values from 0 to 1.
_C1, _C2 = 1e-4, 9e-4
_MIDDLE = 1


class _FromVolumes(CropRecipe):
    """What methods taught by volumes of relative brightness share."""

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Read a random crop of a light field and its volume, dim them, add noise to the views."""
        index, origin, factor, clean = self.draw(item, rng)
        inputs = torch.from_numpy(self.noisy(clean, rng))
        volume = torch.from_numpy(self.data.volume(index, origin) * factor)
        return Crop(self.data.fields[index].source, inputs, volume)

    def shift(self) -> Tensor | None:
        """Return the PSF shift, object pixels, if the method wants it."""
        return None

    def validate(self) -> Validation:
        """Reconstruct the middle of every validation field; correlate it with the truth."""
        microscope, data = self.microscope, self.validation
        scores: dict[str, list[float]] = {"correlation": []}
        drawn: dict[str, NDArray[np.float32]] = {}
        for index in range(len(data)):
            origin = data.middle(index)
            views = torch.from_numpy(data.views(index, origin))
            volume = reconstruct(views, self.model, self.shift(), microscope.lateral_scale).numpy()
            truth = data.volume(index, origin)
            scores["correlation"].append(correlation(truth, volume))
            if not drawn:
                # Of one brightness, to be seen side by side.
                drawn = {"reconstructed": volume, "truth": _share(truth)}
        voxel_um = microscope.voxel_um
        return Validation(mean_scores(scores), drawn, voxel_um)


def _share(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    relative: NDArray[np.float32] = relative_volume(torch.from_numpy(volume), 99.9).numpy()
    return relative


def relative_volume(volume: Tensor, high: float) -> Tensor:
    """Return ``volume / (p_high + 1e-3)`` clamped to [0, 1], ``p_high`` a percentile."""
    (top,) = percentiles(volume, (high,))
    return (volume / (top + 1e-3)).clamp(0, 1)


class FromViews(_FromVolumes):
    """vcdnet and hylfmnet: mean square error of the relative brightness.

    Views have their 10 and 99.9 percentiles brought to 0 and 1, as when they are reconstructed;
    volumes their 99.9 percentile to 1.
    """

    model: VCDNet | HyLFMNet

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the term ``mse``."""
        device = next(self.model.parameters()).device
        inputs = torch.stack([normalise(s.inputs, 10, 99.9) for s in samples]).to(device)
        targets = torch.stack([relative_volume(s.target, 99.9) for s in samples]).to(device)
        volumes, _ = network(inputs, self.microscope.lateral_scale)
        return {"mse": F.mse_loss(volumes[:, 0].float(), targets)}


class FromRefocused(_FromVolumes):
    """rlnet: ``0.1 MSE(e, 0.2 input + 0.8 truth) + MSE(result, truth) - log((1 + SSIM) / 2)``.

    ``e`` is the first estimate; SSIM takes means and variances over the whole crop.
    """

    model: RLNet

    def __init__(self, *parts: Any, psf_shift: Tensor) -> None:
        super().__init__(*parts)
        self._shift = psf_shift

    def shift(self) -> Tensor:
        """Return the PSF shift (A, D, 2), object pixels."""
        return self._shift

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the terms ``estimate``, ``mse`` and ``ssim``."""
        device = self._shift.device
        shift = self._shift / self.microscope.lateral_scale
        refocused = torch.stack([refocused_share(s.inputs.to(device), shift) for s in samples])
        truth = torch.stack([relative_volume(s.target, 99.99) for s in samples]).to(device)
        size = truth.shape[-2:]
        inputs = F.interpolate(refocused, size=size, mode="bilinear", align_corners=False)
        estimate, result = network(inputs).float().unbind(1)
        wanted = (1 - _TRUTH_SHARE) * inputs + _TRUTH_SHARE * truth
        return {
            "estimate": _FIRST_ESTIMATE_WEIGHT * F.mse_loss(estimate, wanted),
            "mse": F.mse_loss(result, truth),
            "ssim": -torch.log(((1 + global_ssim(result, truth)) / 2).clamp(min=1e-6)),
        }


def global_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity by means and variances over all values."""
    mean_a, mean_b = a.mean(), b.mean()
    covariance = ((a - mean_a) * (b - mean_b)).mean()
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    variances = a.var(correction=0) + b.var(correction=0)
    return luminance * (2 * covariance + _C2) / (variances + _C2)


class VirtualScanning(CropRecipe):
    """vsnet: from every third pixel of scanned views, the scanned views; mean absolute error."""

    best_by = "psnr"
    model: VsNet

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        factor = self.model.factor
        if self.microscope.scanning != factor:
            raise UserError(
                f"vsnet learns from light fields scanned {factor} x {factor}; the optics have "
                f"scanning {self.microscope.scanning}"
            )
        if self.settings.crop % factor:
            raise UserError(f"crop {self.settings.crop}: vsnet needs a multiple of {factor}")

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Read a random crop of scanned views; keep every third pixel, with noise."""
        index, _, _, clean = self.draw(item, rng)
        inputs = torch.from_numpy(self.noisy(self._unscanned(clean), rng))
        return Crop(self.data.fields[index].source, inputs, torch.from_numpy(clean))

    def _unscanned(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        factor = self.model.factor
        return np.ascontiguousarray(views[:, _MIDDLE::factor, _MIDDLE::factor])

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the term ``l1``."""
        device = next(self.model.parameters()).device
        inputs = torch.stack([s.inputs for s in samples]).to(device)
        targets = torch.stack([s.target for s in samples]).to(device)
        return {"l1": F.l1_loss(network(inputs)[:, 0].float(), targets)}

    def validate(self) -> Validation:
        """Scan the middle of every validation field virtually; PSNR against the real scan, dB."""
        data = self.validation
        scores: dict[str, list[float]] = {"psnr": []}
        drawn: dict[str, NDArray[np.float32]] = {}
        for index in range(len(data)):
            scanned = data.views(index, data.middle(index))
            virtual = virtual_scan(torch.from_numpy(self._unscanned(scanned)), self.model)
            scores["psnr"].append(peak_signal_to_noise(torch.from_numpy(scanned), virtual))
            centre = slice(self.microscope.central_view, self.microscope.central_view + 1)
            drawn = drawn or {
                "virtual scan, central view": virtual[centre].numpy(),
                "real scan": scanned[centre],
            }
        step_um = self.microscope.view_pixel_um
        return Validation(mean_scores(scores), drawn, (1.0, step_um, step_um))
