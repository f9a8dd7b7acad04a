"""How the methods that SeReNet is compared with learn (Lu et al., Nature Methods 2025)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from optics import LightFieldMicroscope, volume_size
from scopekit.errors import UserError
from scopekit.metrics import correlation, psnr
from scopekit.training.recipe import Validation
from serenet.networks.base import Network, ViewNetwork
from serenet.networks.rlnet import RLNet, share_of
from serenet.networks.vsnet import VsNet
from serenet.training.crops import Origin, TrainingData
from serenet.training.recipe import Crop, CropRecipe, Task, mean_scores
from serenet.training.sections import Balance
from serenet.views.brightness import percentiles, stretch
from serenet.views.refocusing import refocus
from serenet.virtual_scanning.scan import virtual_scan

_FIRST_ESTIMATE_WEIGHT = 0.1
_TRUTH_SHARE = 0.8
# Of SSIM, for values from 0 to 1.
_C1, _C2 = 1e-4, 9e-4
_MIDDLE = 1


class _FromVolumes(CropRecipe[Crop]):
    """What methods taught by volumes of relative brightness share.

    Views and volumes are normalised by percentiles of the whole stack, of which a crop is a part,
    as they are when a whole stack is reconstructed. Those of views are dimmed like the crop, and
    taken before noise is added.

    Attributes
    ----------
    view_percentiles
        Of a light field, for `inputs`.
    volume_percentile
        Of a volume; it is brought to 1.
    """

    view_percentiles: tuple[float, ...]
    volume_percentile: float

    def __init__(self, model: Network, microscope: LightFieldMicroscope, task: Task) -> None:
        super().__init__(model, microscope, task)
        self._found: dict[tuple[int, bool], tuple[float, ...]] = {}
        self._tops: dict[tuple[int, bool], float] = {}

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Read a random crop of a light field and its volume; dim, add noise, normalise."""
        index, origin, factor, clean = self.draw(item, rng)
        mean = self.settings.noise.mean
        levels = [float(factor) * p + mean for p in self._levels(self.data, index)]
        inputs = self.inputs(torch.from_numpy(self.noisy(clean, rng)), levels)
        volume = self._target(self.data, index, origin)
        return Crop(self.data.fields[index].source, inputs, volume)

    def inputs(self, views: Tensor, levels: Sequence[float]) -> Tensor:
        """Return views (A, c, c) from 0 to 1, ``levels`` the values of `view_percentiles`."""
        raise NotImplementedError

    def volume(self, views: Tensor) -> Tensor:
        """Return the volume (D, C, C) that the network makes of `inputs`."""
        raise NotImplementedError

    def _levels(self, data: TrainingData, index: int) -> tuple[float, ...]:
        key = (index, data is self.validation)
        if key not in self._found:
            field = torch.from_numpy(data.field(index))
            self._found[key] = tuple(percentiles(field, self.view_percentiles))
        return self._found[key]

    def _target(self, data: TrainingData, index: int, origin: Origin) -> Tensor:
        key = (index, data is self.validation)
        if key not in self._tops:
            volume = torch.from_numpy(data.whole_volume(index))
            (self._tops[key],) = percentiles(volume, (self.volume_percentile,))
        return stretch(torch.from_numpy(data.volume(index, origin)), 0, self._tops[key])

    def validate(self) -> Validation:
        """Reconstruct the middle of every validation field; correlate it with the truth."""
        data, device = self.validation, self.model.device
        scores: dict[str, list[float]] = {"correlation": []}
        drawn: dict[str, NDArray[np.float32]] = {}
        for index in range(len(data)):
            origin = data.middle(index)
            views = torch.from_numpy(data.views(index, origin))
            views = self.inputs(views, self._levels(data, index)).to(device)
            volume = self.volume(views).float().clamp(min=0).cpu().numpy()
            truth = self._target(data, index, origin).numpy()
            scores["correlation"].append(correlation(data.volume(index, origin), volume))
            if not drawn:
                # Of one brightness, to be seen side by side.
                drawn = {"reconstructed": volume, "truth": truth}
        return Validation(mean_scores(scores), drawn, self.microscope.voxel_um)


class FromViews(_FromVolumes):
    """vcdnet and hylfmnet: mean square error of the relative brightness.

    Views have their 10 and 99.9 percentiles brought to 0 and 1; volumes their 99.9 percentile
    to 1. In the first epochs, see `serenet.training.sections.Balance`, the mean square errors of
    the voxels that are bright in truth, and of those that are dark, count alike:
    ``mean (v - t)^2 over t > threshold  +  mean (v - t)^2 over t <= threshold``.
    """

    model: ViewNetwork
    view_percentiles = (10, 99.9)
    volume_percentile = 99.9

    def __init__(self, model: ViewNetwork, microscope: LightFieldMicroscope, task: Task) -> None:
        super().__init__(model, microscope, task)
        self._balance = self.settings.balance or Balance()
        self._epoch = 0

    def begin_epoch(self, epoch: int) -> None:
        """Balance bright and dark voxels in the first epochs."""
        self._epoch = epoch

    def inputs(self, views: Tensor, levels: Sequence[float]) -> Tensor:
        """Return views (A, c, c) from 0 to 1."""
        bottom, top = levels
        return stretch(views, bottom, top)

    def volume(self, views: Tensor) -> Tensor:
        """Return the volume (D, C, C) that the network makes of `inputs`."""
        volume: Tensor = self.model(views[None], self.microscope.lateral_scale)[0, 0]
        return volume

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the term ``mse``, or while they are balanced ``bright`` and ``dark``."""
        device = next(self.model.parameters()).device
        inputs = torch.stack([s.inputs for s in samples]).to(device)
        targets = torch.stack([s.target for s in samples]).to(device)
        volumes, _ = network(inputs, self.microscope.lateral_scale)
        squares = (volumes[:, 0].float() - targets).square()
        if self._epoch >= self._balance.epochs:
            return {"mse": squares.mean()}
        bright = targets > self._balance.threshold
        return {"bright": _mean_of(squares, bright), "dark": _mean_of(squares, ~bright)}


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; 0 without any."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


class FromRefocused(_FromVolumes):
    """rlnet: ``0.1 MSE(e, 0.2 input + 0.8 truth) + MSE(result, truth) - log((1 + SSIM) / 2)``.

    ``e`` is the first estimate; SSIM takes means and variances over the whole crop. Views are
    divided by their 99.99 percentile and then refocused; volumes by theirs.
    """

    model: RLNet
    view_percentiles = (RLNet.brightest,)
    volume_percentile = 99.99

    def __init__(
        self, model: RLNet, microscope: LightFieldMicroscope, task: Task, *, psf_shift: Tensor
    ) -> None:
        super().__init__(model, microscope, task)
        self._view_shift = psf_shift / microscope.lateral_scale

    def inputs(self, views: Tensor, levels: Sequence[float]) -> Tensor:
        """Return views (A, c, c) from 0 to 1."""
        (top,) = levels
        return share_of(views, top)

    def volume(self, views: Tensor) -> Tensor:
        """Return the volume (D, C, C) that the network makes of `inputs`."""
        volume: Tensor = self.model(self._refocused(views[None]))[0, 1]
        return volume

    def _refocused(self, views: Tensor) -> Tensor:
        """Return the mean of the refocused views (B, A, c, c), (B, D, C, C)."""
        means = torch.stack([refocus(v, self._view_shift) for v in views])
        size = [volume_size(n, self.microscope.lateral_scale) for n in views.shape[-2:]]
        return F.interpolate(means, size=size, mode="bilinear", align_corners=False)

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the terms ``estimate``, ``mse`` and ``ssim``."""
        device = self._view_shift.device
        inputs = self._refocused(torch.stack([s.inputs for s in samples]).to(device))
        truth = torch.stack([s.target for s in samples]).to(device)
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


class VirtualScanning(CropRecipe[Crop]):
    """vsnet: from every third pixel of scanned views, the scanned views; mean absolute error."""

    best_by = "psnr"
    model: VsNet

    def __init__(self, model: VsNet, microscope: LightFieldMicroscope, task: Task) -> None:
        super().__init__(model, microscope, task)
        factor = model.factor
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
            scores["psnr"].append(psnr(scanned, virtual.numpy()))
            centre = slice(self.microscope.central_view, self.microscope.central_view + 1)
            drawn = drawn or {
                "virtual scan, central view": virtual[centre].numpy(),
                "real scan": scanned[centre],
            }
        step_um = self.microscope.view_pixel_um
        return Validation(mean_scores(scores), drawn, (1.0, step_um, step_um))
