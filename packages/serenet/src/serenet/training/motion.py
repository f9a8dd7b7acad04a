"""How TW-Net learns: from moving samples alone (Lu et al., Nature Methods 2025)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scopekit.metrics import psnr
from scopekit.training.recipe import Validation
from serenet.motion.correction import (
    correct_motion,
    exposures_by_distance,
    scale_brightness,
    sub_images,
    weight_times,
)
from serenet.networks.checkpoints import checkpoint_content
from serenet.networks.twnet import TWNet
from serenet.training.motion_views import Image, ScannedView
from serenet.training.settings import TrainingSettings
from serenet.views.scan import SIDE

# Of the neighbours' mean; what differs more was exposed while something moved.
_OUTLIER = 0.2


@dataclass(frozen=True)
class ScanCrop:
    """A crop of an interlaced view.

    Attributes
    ----------
    source
        The file.
    view
        (c, c), divided by the view's 99.99 percentile.
    bright
        (c, c), on the scale of the network.
    """

    source: str
    view: Tensor
    bright: Tensor


class MotionCorrection:
    """twnet: mean square error against the view whose outliers are replaced.

    The target is the interlaced view X itself; where a pixel differs by more than 20 % from the
    mean of its 8 neighbours, it is the middle exposure, enlarged. So no sample at rest is needed.

    Parameters
    ----------
    model
        The network to train.
    data, validation
        Views to learn from, and to judge by.
    settings
        The run's, ``crop`` a multiple of 3; ``brightness`` and ``noise`` do not apply.
    """

    best_by = "psnr"

    def __init__(
        self,
        model: TWNet,
        data: Sequence[ScannedView],
        validation: Sequence[ScannedView],
        settings: TrainingSettings,
    ) -> None:
        self.model, self.settings = model, settings
        self._data, self._validation = data, validation
        self.n_samples = len(data) * settings.data.repeat
        self.memory_settings = f"crop (now {settings.crop}) or batch_size ({settings.batch_size})"

    def begin_epoch(self, epoch: int) -> None:
        """Learn as epoch ``epoch`` does: like any other."""

    def sample(self, item: int, rng: np.random.Generator) -> ScanCrop:
        """Take a random crop that starts at a lens' first scan position."""
        field = self._data[item % len(self._data)]
        crop = self.settings.crop
        top, left = (SIDE * int(rng.integers((n - crop) // SIDE + 1)) for n in field.view.shape)
        view = torch.from_numpy(field.view[top : top + crop, left : left + crop])
        (bright,) = scale_brightness(view[None], [field.dark_and_bright])
        return ScanCrop(field.source, view, bright)

    def losses(self, network: Callable[..., Any], samples: Sequence[ScanCrop]) -> dict[str, Tensor]:
        """Return the term ``mse``."""
        device = next(self.model.parameters()).device
        views = torch.stack([s.view for s in samples]).to(device)
        mask = network(sub_images(torch.stack([s.bright for s in samples]).to(device)))
        by_distance = exposures_by_distance(views, border="zero")
        corrected = weight_times(views, by_distance, mask.float())
        return {"mse": F.mse_loss(corrected, without_outliers(views, by_distance[:, 0]))}

    def validate(self) -> Validation:
        """Correct every validation view; average the scores, in dB.

        ``psnr``: against the sample at rest where it is known, else against the target of the
        training. ``gain``: by how much that is better than the scanned view, where known.
        """
        scores: dict[str, list[float]] = {}
        drawn: dict[str, Image] = {}
        for field in self._validation:
            scanned = torch.from_numpy(field.view)[None]
            corrected = correct_motion(scanned, self.model)
            if field.still is not None:
                truth = field.still
                before = psnr(truth, field.view)
                scores.setdefault("gain", []).append(psnr(truth, corrected[0].numpy()) - before)
            else:
                truth = without_outliers(scanned, exposures_by_distance(scanned)[:, 0])[0].numpy()
            scores.setdefault("psnr", []).append(psnr(truth, corrected[0].numpy()))
            title = "target" if field.still is None else "at rest"
            pictures = {"scanned": field.view[None], "corrected": corrected.numpy()}
            drawn = drawn or pictures | {title: truth[None]}
        means = {name: float(np.mean(s)) for name, s in scores.items()}
        return Validation(means, drawn, self._validation[0].voxel_um)

    def checkpoint(self) -> dict[str, Any]:
        """Return the network as `serenet.load_checkpoint` reads it."""
        return checkpoint_content(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the network of a checkpoint."""
        self.model.load_state_dict(content["state"])


def without_outliers(views: Tensor, middle: Tensor) -> Tensor:
    """Replace pixels that differ from the mean of their 8 neighbours by more than 20 % of it.

    Parameters
    ----------
    views
        Interlaced views (A, H, W); beyond the borders the outermost pixels go on.
    middle
        What to take instead, of the same shape: the middle exposure, enlarged.
    """
    around = F.pad(views[:, None], (1, 1, 1, 1), mode="replicate")
    mean = (9 * F.avg_pool2d(around, 3, stride=1)[:, 0] - views) / 8
    return torch.where((views - mean).abs() > _OUTLIER * mean, middle, views)
