"""Pre-training: JNet learns structure and brightness from labels that are imaged on the spot."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scopekit.training.processes import World
from scopekit.training.recipe import Validation
from tenet.config.files import Config, as_config
from tenet.config.loops import PretrainLoop
from tenet.config.sections import Scenes
from tenet.data.crops import Crops, LabelCrop, label_crops
from tenet.network.jnet import JNet, Output
from tenet.network.weights import checkpoint_of
from tenet.training.batches import LabelBatch, label_batch
from tenet.training.losses import STRUCTURE_LOSSES, labelled_luminance_loss
from tenet.training.runs import Execution, RunOptions, Trainable, execute, fit_psf
from tenet.training.scene_pretraining import ScenePretraining
from tenet.training.validation import validate_on


class Pretraining:
    """``weight_x loss_fnx(structure, labelx) + weight_z luminance``.

    Parameters
    ----------
    model
        On its device, its neural PSF fitted; the microscope in it stays as it is.
    settings
        Section ``pretrain_loop``.
    training, validation
        Crops of labels.
    """

    best_by = "val_loss"

    def __init__(
        self,
        model: JNet,
        settings: PretrainLoop,
        training: Crops[LabelCrop],
        validation: Crops[LabelCrop],
    ) -> None:
        self.model, self.settings = model, settings
        self.crops, self._validation = training, validation
        self.n_samples = training.number
        self.memory_settings = (
            f"pretrain_loop.batch_size (now {settings.batch_size}) or pretrain_dataset.cropsize, "
            "or set params.checkpointing"
        )
        model.freeze_microscope()
        self.microscope = model.microscope(noisy=not settings.without_noise)
        self.device = model.a.device

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare the crops of an epoch."""
        self.crops.begin_epoch(epoch)

    def sample(self, item: int, rng: np.random.Generator) -> LabelCrop:
        """Draw a crop; ``item`` does not matter, the places are random."""
        return self.crops.draw(rng)

    def batch(self, crops: Sequence[LabelCrop]) -> LabelBatch:
        """Return what the network is shown of these crops."""
        return label_batch(crops, self.device, self.microscope)

    def losses(
        self, network: Callable[..., Any], samples: Sequence[LabelCrop]
    ) -> dict[str, Tensor]:
        """Return the terms ``structure`` and ``luminance``."""
        batch = self.batch(samples)
        return self.terms(network(batch.shown), batch)

    def terms(self, out: Output, batch: LabelBatch) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of what the network made of a batch."""
        loss_x = STRUCTURE_LOSSES[self.settings.loss_fnx]
        structure = loss_x(out["enhanced_image"], batch.labelx)
        luminance = labelled_luminance_loss(out["estim_luminance"], batch.labelx, batch.labelz)
        return {
            "structure": self.settings.weight_x * structure,
            "luminance": self.settings.weight_z * luminance,
        }

    def validate(self) -> Validation:
        """Return the mean loss of the validation crops, always the same, and their IoU."""
        crops = self._validation
        return validate_on(
            self.model,
            lambda rng: self.batch([crops.draw(rng)]),
            self.terms,
            number=crops.number,
            seed=crops.data.seed,
        )

    def checkpoint(self) -> dict[str, Any]:
        """Return the model's state and parameters."""
        return checkpoint_of(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the model of a checkpoint."""
        self.model.load_state_dict(content["state"])


def pretrain(
    config: Config | str | Path,
    *,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    minutes: float | None = None,
) -> Path:
    """Pre-train on labels, or on random scenes, which are imaged on the spot.

    Labels are those of ``datagen phantoms``; the fast recipe draws scenes, and needs no files.

    Parameters
    ----------
    config
        A configuration: itself, its path, or its name.
    device
        ``auto``, ``cpu`` or ``cuda``.
    seed
        Of all random numbers, but those of the validation's places.
    resume
        Go on with the run that is there, or start it.
    overwrite
        Start anew where there is a run.
    minutes
        How long to train, instead of ``n_epochs``: the epochs that fit are chosen at the start.

    Returns
    -------
    Path
        The file of the best weights, ``<path>/<pretrained_model>.pt``. Beside it lies what the
        optimizer needs to go on, and in ``<savefig_path>/<pretrained_model>`` the run's folder.

    Raises
    ------
    UserError
        If the configuration or the labels are wrong, or if there are weights already.

    Examples
    --------
    >>> import tenet
    >>> weights = tenet.pretrain("small.json", device="cpu", overwrite=True)
    >>> model = tenet.load_model(weights)
    """
    config = as_config(config)
    settings = config.section("pretrain_loop", PretrainLoop)

    scenes = config.section("scenes", Scenes) if settings.recipe == "fast" else None

    def recipe(world: World) -> Trainable[Any]:
        if scenes is not None:
            return ScenePretraining(new_model(config, world, seed), settings, scenes)
        training, validation = label_crops(config, vibrate=settings.is_vibrate)
        return Pretraining(new_model(config, world, seed), settings, training, validation)

    execution = Execution(
        command="pretrain",
        section="pretrain_loop",
        loop=settings,
        folder=Path(settings.savefig_path) / config.pretrained_model,
        target=Path(settings.path) / f"{config.pretrained_model}.pt",
        clip_norm=None,
    )
    execute(config, execution, RunOptions(device, seed, resume, overwrite, minutes), recipe)
    return execution.target


def new_model(config: Config, world: World, seed: int) -> JNet:
    """Return a network with random weights and a neural PSF fitted to the analytic one."""
    torch.manual_seed(seed)
    params = config.params.model_copy(update={"reconstruct": False, "apply_vq": False})
    model = JNet(params)
    fit_psf(model, seed, world)
    return model.to(world.device)
