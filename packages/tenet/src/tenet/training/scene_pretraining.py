"""The fast recipe of pre-training: random scenes, several losses, normalised by groups, Muon.

It reaches in minutes of a CPU what the published recipe does not in hours: batches are small, so
statistics of BatchNorm are noise; and the published loss of the brightness drives it to 1, where
its sigmoid has no gradient. The network learns fast while each crop is normalised by itself, and
gets used to the mean statistics of crops then: by these a recording is normalised, whatever the
parts that it comes in. Brightness, noise and numerical aperture of the scenes are random, so that
the network understands recordings of any scale and of microscopes like the configured one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scopekit.training.recipe import Validation
from tenet.config.loops import PretrainLoop
from tenet.config.sections import Scenes
from tenet.microscope.bank import section_bank
from tenet.network.jnet import JNet, Output
from tenet.network.weights import checkpoint_of
from tenet.training.losses import scene_losses
from tenet.training.scenes import SceneBatch, SceneCrop, SceneCrops, scene_batch
from tenet.training.validation import validate_on

_BY_GROUPS = 0.7  # of the epochs; then the light counts, which earlier holds up the structure


class ScenePretraining:
    """`tenet.training.losses.scene_losses` of random scenes.

    Parameters
    ----------
    model
        On its device, its neural PSF fitted; the microscope in it stays as it is.
    settings
        Section ``pretrain_loop``.
    scenes
        Section ``scenes``.
    """

    best_by = "val_loss"

    def __init__(self, model: JNet, settings: PretrainLoop, scenes: Scenes) -> None:
        self.model, self.settings = model, settings
        model.freeze_microscope()
        self.begin_epoch(0, 2)
        model.revive_brightness()
        self._bank = [s.to(model.device) for s in section_bank(model.params, scenes.NA_spread)]
        self.crops = SceneCrops(scenes, model.params, len(self._bank))
        self.n_samples = scenes.I
        self.memory_settings = (
            f"pretrain_loop.batch_size (now {settings.batch_size}) or scenes.cropsize, or set "
            "params.checkpointing"
        )

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Let the first of so many epochs normalise by groups, the others by mean statistics.

        The loss of the light belongs to the latter, and the last epoch is one of them.
        """
        self._is_early = epoch < _BY_GROUPS * (epochs - 1)
        if self._is_early:
            self.model.normalise_by_groups()
        else:
            self.model.freeze_normalisation()

    def sample(self, item: int, rng: np.random.Generator) -> SceneCrop:
        """Draw a crop; ``item`` does not matter."""
        return self.crops.draw(rng)

    def batch(self, crops: Sequence[SceneCrop], *, with_light: bool = True) -> SceneBatch:
        """Return what the network is shown of these crops, and compared with."""
        return scene_batch(
            crops,
            self.model.image,
            self._bank,
            self.crops.margin,
            with_clean=with_light and self.settings.losses.light > 0,
        )

    def losses(
        self, network: Callable[..., Any], samples: Sequence[SceneCrop]
    ) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        with torch.no_grad():
            batch = self.batch(samples, with_light=not self._is_early)
        return self.terms(network(batch.shown), batch)

    def terms(self, out: Output, batch: SceneBatch) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of what the network made of a batch."""
        structure, brightness = out["enhanced_image"], out["estim_luminance"]
        return scene_losses(
            structure,
            brightness,
            batch.labelx,
            batch.labelz,
            light_of(self.model, structure * brightness, batch),
            self.settings.losses,
        )

    def validate(self) -> Validation:
        """Return the mean loss of the validation crops, always the same, and their IoU."""
        data = self.crops.data
        return validate_on(
            self.model,
            lambda rng: self.batch([self.crops.draw(rng)]),
            self.terms,
            number=data.validation,
            seed=data.seed,
        )

    def checkpoint(self) -> dict[str, Any]:
        """Return the model's state and parameters."""
        return checkpoint_of(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the model of a checkpoint."""
        self.model.load_state_dict(content["state"])


def light_of(model: JNet, bright: Tensor, batch: SceneBatch) -> tuple[Tensor, Tensor] | None:
    """Return the images of what was found (B, 1, Z, Y, X) and of the truth, if they are wanted."""
    if not len(batch.clean):
        return None
    found = [model.image(b[None], s)[0] for b, s in zip(bright, batch.sections, strict=True)]
    return torch.stack(found), batch.clean
