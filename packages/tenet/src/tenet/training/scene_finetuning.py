"""The fast recipe of fine-tuning: recordings, beside scenes of the microscope that they tell.

The microscope is found first (`tenet.network.microscope_fit`). Scenes imaged by it keep the
network from explaining recordings by anything that fits: there is no truth in a likelihood alone.
What comes out is never worse on held-out recordings than what it started from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optics import fit_neural_psf
from scopekit.errors import UserError
from scopekit.progress import say
from scopekit.training.processes import World
from scopekit.training.recipe import Validation
from tenet.config.files import Config
from tenet.config.loops import TrainLoop
from tenet.config.sections import Scenes
from tenet.data.crops import RecordingCrop, RecordingCrops
from tenet.data.recordings import Recording
from tenet.microscope.bank import section_bank, sections_at
from tenet.network.jnet import JNet, Output
from tenet.network.microscope_fit import FoundMicroscope, find_microscope
from tenet.network.scale import find_scale, part_in_scale
from tenet.network.weights import checkpoint_of, load_model
from tenet.training.batches import Batch, recorded_batch
from tenet.training.finetune_options import FinetuneOptions, recording_crops
from tenet.training.losses import scene_losses
from tenet.training.modes import Mode
from tenet.training.runs import require_file
from tenet.training.scene_pretraining import light_of
from tenet.training.scenes import SceneCrop, SceneCrops, scene_batch
from tenet.training.validation import validation_pictures

# Around the aperture that was found.
_SPREAD = 0.05
# Around the noise that was found.
_NOISE_FACTOR = 2.0
_STACKS = 5  # that the microscope is found from, at most


@dataclass(frozen=True)
class Pair:
    """A crop of a recording and a scene."""

    recording: RecordingCrop
    scene: SceneCrop

    @property
    def source(self) -> str:
        """The file."""
        return self.recording.source


class SceneFinetuning:
    """`tenet.training.losses.scene_losses` of scenes, and the misfit of recordings.

    The misfit is the mean of ``((reconstruction - recording) / deviation)^2``, where the noise is
    that which the recordings tell.

    Parameters
    ----------
    model
        Pre-trained, on its device. Its neural PSF and its noise become those that are found.
    settings, scenes
        Sections ``train_loop`` and ``scenes``; ``cropsize`` is that of the recordings' crops.
    training, validation
        Crops of recordings.
    seed
        Of the microscope's simulations.
    """

    best_by = "val_misfit"

    def __init__(
        self,
        model: JNet,
        settings: TrainLoop,
        scenes: Scenes,
        training: RecordingCrops,
        validation: RecordingCrops,
        seed: int,
    ) -> None:
        self.model, self.settings = model, settings
        model.freeze_normalisation()
        model.eval()
        self.found = _found(model, training, seed)
        for crops in (training, validation):
            crops.stacks = [_scaled(model, stack) for stack in crops.stacks]
        _learn_microscope(model, self.found, seed)
        model.freeze_microscope()
        self._start = {name: value.clone() for name, value in model.state_dict().items()}
        bank = section_bank(model.params, _SPREAD, self.found.factor)
        self._bank = [section.to(model.device) for section in bank]
        (section,) = sections_at(model.params, [self.found.factor])
        self._section = section.to(model.device)
        like = scenes.model_copy(
            update={"cropsize": training.data.cropsize, **_noise_like(self.found)}
        )
        self.crops, self._validation = training, validation
        self._scenes = SceneCrops(like, model.params, len(self._bank))
        self.n_samples = training.number
        self.memory_settings = (
            f"train_loop.batch_size (now {settings.batch_size}) or train_dataset.cropsize, or set "
            "params.checkpointing"
        )

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare the crops of an epoch."""
        self.crops.begin_epoch(epoch)

    def sample(self, item: int, rng: np.random.Generator) -> Pair:
        """Draw a crop of a recording, and a scene; ``item`` does not matter."""
        return Pair(self.crops.draw(rng), self._scenes.draw(rng))

    def losses(self, network: Callable[..., Any], samples: Sequence[Pair]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        recorded = recorded_batch([pair.recording for pair in samples], self.model.device)
        with torch.no_grad():
            scenes = scene_batch(
                [pair.scene for pair in samples],
                self.model.image,
                self._bank,
                self._scenes.margin,
                with_clean=self.settings.losses.light > 0,
            )
        number = len(samples)
        out: Output = network(torch.cat((recorded.shown, scenes.shown)))
        structure, brightness = out["enhanced_image"], out["estim_luminance"]
        bright = structure * brightness
        terms = scene_losses(
            structure[number:],
            brightness[number:],
            scenes.labelx,
            scenes.labelz,
            light_of(self.model, bright[number:], scenes),
            self.settings.losses,
        )
        misfit = self._misfit(bright[:number], recorded)
        terms["recordings"] = self.settings.recordings_weight * misfit
        return terms

    def _misfit(self, bright: Tensor, batch: Batch) -> Tensor:
        again = self.model.image(bright, self._section).clamp(0, 1)
        deviation = self.found.noise.deviation(again.detach())
        misfit: Tensor = ((again - batch.image) / deviation).square().mean()
        return misfit

    def validate(self) -> Validation:
        """Return the misfit of the crops of held-out recordings, always the same."""
        misfits = []
        pictures: dict[str, Any] = {}
        for number in range(self._validation.number):
            rng = np.random.default_rng([self._validation.data.seed, number])
            batch = recorded_batch([self._validation.draw(rng)], self.model.device)
            out: Output = self.model(batch.shown)
            bright = out["enhanced_image"] * out["estim_luminance"]
            misfits.append(float(self._misfit(bright, batch)))
            pictures = pictures or validation_pictures(out, batch)
        scores = {"val_misfit": float(np.mean(misfits))}
        return Validation(scores, pictures, self.model.voxel_um, lower_is_better=True)

    def checkpoint(self) -> dict[str, Any]:
        """Return the model's state and parameters."""
        return checkpoint_of(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the model of a checkpoint."""
        self.model.load_state_dict(content["state"])

    def settle(self) -> dict[str, Tensor]:
        """Return the last state, or that of the start if it fits held-out recordings better.

        The best on the way is not it: there the rate was high, and the structure rough.
        """
        last = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.eval()
        scores = []
        with torch.no_grad():
            for state in (self._start, last):
                self.model.load_state_dict(state)
                scores.append(self.validate().scores[self.best_by])
        before, after = scores
        if after < before:
            say(f"misfit of held-out recordings: {before:.4g} before, {after:.4g} now")
            return last
        say(
            f"warning: held-out recordings fit no better than before ({before:.4g}, now "
            f"{after:.4g}): the network stays as it was, with the microscope that was found"
        )
        return self._start


def scene_recipe(
    config: Config, wanted: FinetuneOptions, start: Path, seed: int, world: World
) -> SceneFinetuning:
    """Return the fast recipe, its model on the process's device."""
    settings = config.section("train_loop", TrainLoop)
    require_file(start, "run tenet pretrain first, or check pretrained_model")
    training, validation = recording_crops(config, wanted)
    params = config.params.model_copy(update={"reconstruct": False, "apply_vq": False})
    model = load_model(start, params).to(world.device)
    scenes = config.section("scenes", Scenes)
    return SceneFinetuning(model, settings, scenes, training, validation, seed)


def require_fast(config: Config, wanted: FinetuneOptions) -> None:
    """Raise `UserError` if something is asked for that the fast recipe does not do."""
    settings = config.section("train_loop", TrainLoop)
    asked = {
        "`simulation`": wanted.simulation or settings.is_instantblur,
        f"`mode={wanted.mode.value}`": wanted.mode not in (Mode.all, Mode.old),
        "`stored_ewc`": wanted.stored_ewc,
    }
    for option, is_wanted in asked.items():
        if is_wanted:
            raise UserError(f"{option}: not with the fast recipe; set train_loop.recipe: published")


def _scaled(model: JNet, stack: Recording) -> Recording:
    """Return a recording in the scale that fits best, if the network is for any."""
    wanted = model.params.any_scale and stack.own_scale
    found = find_scale(model, stack.volume) if wanted else None
    if found is None:
        return stack
    zero, one = (np.float32(level) for level in found)
    return replace(stack, volume=((stack.volume - zero) / (one - zero)).clip(0, 1))


def _found(model: JNet, crops: RecordingCrops, seed: int) -> FoundMicroscope:
    """Find the microscope in a part of each of a few recordings, and say so."""
    parts = [part_in_scale(model, stack.volume) for stack in crops.stacks[:_STACKS]]
    found = find_microscope(model, [part for part in parts if part is not None], seed)
    say(found.told(model.params.NA))
    return found


def _learn_microscope(model: JNet, found: FoundMicroscope, seed: int) -> None:
    """Make the PSF and the noise of the model those that were found."""
    (section,) = sections_at(model.params, [found.factor])
    neural = model.image.blur.neuripsf
    fit_neural_psf(
        neural, section.to(model.device), target=model.params.nipsf_loss_target, seed=seed
    )
    with torch.no_grad():
        for parameter, value in ((model.a, found.noise.a), (model.sigma, found.noise.sigma)):
            parameter.copy_(torch.logit(torch.tensor(min(max(value, 1e-4), 0.5))))


def _noise_like(found: FoundMicroscope) -> dict[str, tuple[float, float]]:
    """Return ranges of the scenes' noise around that which was found."""
    ranges = {}
    for name, value in (("poisson_weight", found.noise.a), ("sig_eps", found.noise.sigma)):
        value = min(max(value, 1e-3), 0.5)
        ranges[name] = (value / _NOISE_FACTOR, value * _NOISE_FACTOR)
    return ranges
