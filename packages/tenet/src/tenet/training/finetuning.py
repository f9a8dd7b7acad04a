"""Fine-tuning: JNet learns from recordings, by imaging what it finds and comparing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optics import TwoPhotonNLL
from scopekit.errors import UserError
from scopekit.images.selection import WHOLE_FILE, Selection
from scopekit.memory import choose_device
from scopekit.progress import progress_bar
from scopekit.training.processes import World
from scopekit.training.recipe import Moments, Validation
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import alignment_of
from tenet.config.files import Config, as_config
from tenet.config.loops import PretrainLoop, TrainLoop
from tenet.data.crops import Crop, Crops, LabelCrop, PhantomCrops, RecordingCrop, label_crops
from tenet.metrics import fitted_to, structure_iou
from tenet.microscope.imaging import Microscope
from tenet.network.jnet import JNet, Output
from tenet.network.weights import (
    checkpoint_of,
    load_model,
    moments_file,
    pretrained_file,
    quantising,
    read_consolidation,
    read_moments,
    tuned_name,
)
from tenet.training.batches import Batch, LabelBatch, label_batch, recorded_batch
from tenet.training.ewc import EWC, fisher_diagonal
from tenet.training.finetune_options import (
    FinetuneOptions,
    recording_or_label_crops,
)
from tenet.training.losses import luminance_loss
from tenet.training.modes import Mode
from tenet.training.pretraining import Pretraining
from tenet.training.random_field import mrf_loss
from tenet.training.runs import Execution, RunOptions, Trainable, execute, fit_psf, require_file
from tenet.training.scene_finetuning import require_fast, scene_recipe
from tenet.training.validation import validation_pictures

_CLIP_NORM = 1.0
_FISHER_BATCHES = 100
_FISHER_STREAM = 1  # of random numbers


class Finetuning:
    """Reconstruction, luminance, quantisation, PSF, Markov random field, and EWC.

    Parameters
    ----------
    model
        Pre-trained, on its device; what is not to be learnt requires no gradient.
    settings
        Section ``train_loop``.
    training, validation
        Crops of recordings; or of labels, with ``microscope``.
    microscope, alignment
        Makes images of labels; aligns what the network is shown of them, if given.
    ewc
        Holds the network near its start; ``None``: nothing does.
    """

    best_by = "val_loss"

    def __init__(
        self,
        model: JNet,
        settings: TrainLoop,
        training: Crops[Crop],
        validation: Crops[Crop],
        *,
        microscope: Microscope | None = None,
        alignment: DeepAlignNet | None = None,
        ewc: EWC | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self.crops, self._validation = training, validation
        self._microscope, self._alignment, self._ewc = microscope, alignment, ewc
        self._likelihood = TwoPhotonNLL()
        self.n_samples = training.number
        self.memory_settings = (
            f"train_loop.batch_size (now {settings.batch_size}) or train_dataset.cropsize, or set "
            "params.checkpointing"
        )
        self.device = model.a.device

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare the crops of an epoch."""
        self.crops.begin_epoch(epoch)

    def sample(self, item: int, rng: np.random.Generator) -> Crop:
        """Draw a crop; ``item`` does not matter, the places are random."""
        return self.crops.draw(rng)

    def losses(self, network: Callable[..., Any], samples: Sequence[Crop]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        batch = self.batch(samples)
        return self.terms(network(batch.shown), batch)

    def batch(self, crops: Sequence[Crop]) -> Batch:
        """Return what the network is shown of these crops."""
        if self._microscope is None:
            return recorded_batch([c for c in crops if isinstance(c, RecordingCrop)], self.device)
        labels = [c for c in crops if isinstance(c, LabelCrop)]
        return label_batch(labels, self.device, self._microscope, self._alignment)

    def terms(self, out: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of the loss of what the network made of a batch."""
        settings = self.settings
        reconstruction = out["reconstruction"]
        if settings.adjust_luminance:
            reconstruction = fitted_to(reconstruction, batch.image)
        likelihood = self._likelihood(
            reconstruction, batch.image, out["poisson_weight"], out["gaussian_sigma"]
        )
        luminance = luminance_loss(out["estim_luminance"])
        terms = {"reconstruction": likelihood, "luminance": settings.zloss_weight * luminance}
        if out["quantized_loss"] is not None:
            terms["quantisation"] = settings.qloss_weight * out["quantized_loss"]
        if out["psf_loss"] is not None:
            terms["psf"] = settings.ploss_weight * out["psf_loss"]
        weights = settings.mrfloss_weights.model_dump()
        if any(weights.values()):
            terms["mrf"] = mrf_loss(
                out["enhanced_image"],
                order=settings.mrfloss_order,
                dilation=settings.mrfloss_dilation,
                **weights,
            )
        if self._ewc is not None:
            terms["ewc"] = self._ewc(self.model.network_parameters())
        return terms

    def validate(self) -> Validation:
        """Return the mean of every term over the validation crops, always the same."""
        sums: dict[str, list[float]] = {}
        pictures: dict[str, Any] = {}
        for number in range(self._validation.number):
            rng = np.random.default_rng([self._validation.data.seed, number])
            batch = self.batch([self._validation.draw(rng)])
            out: Output = self.model(batch.shown)
            terms = {f"val_{n}": float(t) for n, t in self.terms(out, batch).items()}
            terms = {"val_loss": sum(terms.values()), **terms}
            if isinstance(batch, LabelBatch):
                threshold = self.model.params.threshold
                terms["iou"] = structure_iou(out["enhanced_image"], batch.labelx, threshold)
            for name, value in terms.items():
                sums.setdefault(name, []).append(value)
            pictures = pictures or validation_pictures(out, batch)
        scores = {name: float(np.mean(values)) for name, values in sums.items()}
        return Validation(scores, pictures, self.model.voxel_um, lower_is_better=True)

    def checkpoint(self) -> dict[str, Any]:
        """Return the model's state and parameters."""
        return checkpoint_of(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the model of a checkpoint."""
        self.model.load_state_dict(content["state"])


def finetune(
    config: Config | str | Path,
    *,
    mode: Mode | str = Mode.old,
    fold: str | None = None,
    simulation: bool = False,
    align: bool = False,
    selection: Selection = WHOLE_FILE,
    stored_ewc: bool = False,
    stacks: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    minutes: float | None = None,
) -> Path:
    """Fine-tune pre-trained weights on recordings, without any truth.

    Parameters
    ----------
    config
        A configuration: itself, its path, or its name.
    mode, fold, simulation, align, selection, stored_ewc, stacks
        See `FinetuneOptions`.
    device, seed, resume, overwrite, minutes
        See `tenet.pretrain`.

    Returns
    -------
    Path
        The file of the best weights, ``<path>/<name of the configuration>.pt``, with
        ``_cv_<fold>`` for a fold.

    Raises
    ------
    UserError
        If the configuration, the recordings or the pre-trained weights are wrong, or if there are
        fine-tuned weights already.

    Examples
    --------
    >>> import tenet
    >>> weights = tenet.finetune("tuned.json", mode="all", device="cpu", overwrite=True)
    >>> model = tenet.load_model(weights)
    """
    config = as_config(config)
    if mode not in list(Mode):
        raise UserError(f"mode is {mode}; allowed: {', '.join(Mode)}")
    folder = None if stacks is None else Path(stacks)
    wanted = FinetuneOptions(
        Mode(mode), fold or None, simulation, align, selection, stored_ewc, folder
    )
    settings = config.section("train_loop", TrainLoop)
    name, start = tuned_name(config, wanted.fold), pretrained_file(config)
    if name == config.pretrained_model:
        raise UserError(
            f"{name}: the configuration has the name of its pretrained_model, which fine-tuning "
            "would replace; rename the file"
        )

    if settings.recipe == "fast":
        require_fast(config, wanted)

    def recipe(world: World) -> Trainable[Any]:
        if settings.recipe == "fast":
            return scene_recipe(config, wanted, start, seed, world)
        return make_recipe(config, wanted, start, seed, world)

    def moments() -> Moments | None:
        path = moments_file(start)
        if settings.recipe == "fast":
            return None
        return read_moments(path) if wanted.mode is Mode.old and path.is_file() else None

    extra = {
        "mode": wanted.mode.value,
        "fold": wanted.fold,
        "simulation": simulation,
        "align": align,
    }
    if stored_ewc:
        extra["stored_ewc"] = True
    if wanted.stacks is not None:
        extra["stacks"] = str(wanted.stacks)
    execution = Execution(
        command="finetune",
        section="train_loop",
        loop=settings,
        folder=Path(settings.savefig_path) / name,
        target=Path(settings.path) / f"{name}.pt",
        clip_norm=_CLIP_NORM,
        extra=(*extra.items(), *selection.settings().items()),
    )
    options = RunOptions(device, seed, resume, overwrite, minutes)
    execute(config, execution, options, recipe, moments)
    return execution.target


def evaluate_losses(
    config: Config | str | Path, wanted: FinetuneOptions, *, device: str = "auto", seed: int = 0
) -> tuple[Path, dict[str, float]]:
    """Return every term of the loss of the weights that are there, and their file."""
    config = as_config(config)
    settings = config.section("train_loop", TrainLoop)
    start = pretrained_file(config)
    tuned = Path(settings.path) / f"{tuned_name(config, wanted.fold)}.pt"
    world = World(0, 1, choose_device(device))
    recipe = make_recipe(config, wanted, start, seed, world)
    if tuned.is_file():
        own = load_model(tuned, recipe.model.params)
        recipe.model.load_state_dict(own.state_dict())
    return (tuned if tuned.is_file() else start), mean_terms(recipe)


def make_recipe(
    config: Config,
    wanted: FinetuneOptions,
    start: Path,
    seed: int,
    world: World,
) -> Finetuning:
    """Return what to learn, by which loss.

    Parameters
    ----------
    config, wanted
        What to do.
    start
        Pre-trained weights.
    seed
        Of the neural PSF's fit, and of the Fisher information.
    world
        Where.
    """
    settings = config.section("train_loop", TrainLoop)
    simulated = wanted.simulation or settings.is_instantblur
    with_ewc = settings.ewc and settings.ewc_weight and wanted.mode is not Mode.decoder
    if wanted.stored_ewc and not with_ewc:
        raise UserError("`stored_ewc`: nothing is held by EWC; set train_loop.ewc, or leave it out")
    require_file(start, "run tenet pretrain first, or check pretrained_model")
    training, validation = recording_or_label_crops(config, wanted, simulated=simulated)
    estimated = with_ewc and not wanted.stored_ewc
    pretraining = _pretraining_crops(config) if estimated else None
    params = config.params.model_copy(update={"reconstruct": True})
    params = quantising(params, config.name)
    model = load_model(start, params).to(world.device)
    kept = read_consolidation(start, model) if wanted.stored_ewc else None
    if wanted.stored_ewc and kept is None:
        raise UserError(
            f"{start}: keeps nothing for EWC; leave `stored_ewc` out to estimate it anew"
        )
    imaging: dict[str, Any] = {}
    if simulated:
        imaging["microscope"] = load_model(start, config).to(world.device).microscope()
        imaging["alignment"] = alignment_of(config) if wanted.align else None
    fit_psf(model, seed, world)
    if wanted.mode is Mode.encoder:
        model.freeze_microscope()
    if wanted.mode is Mode.decoder:
        model.freeze_network()
    ewc = None
    if pretraining is not None:
        start_values = {n: p.detach().clone() for n, p in model.network_parameters().items()}
        fisher = _fisher(config, model, pretraining, seed, world)
        ewc = EWC(start_values, fisher, settings.ewc_weight)
    if kept is not None:
        ewc = EWC(kept.means, kept.fisher, settings.ewc_weight)
    return Finetuning(model, settings, training, validation, ewc=ewc, **imaging)


def _pretraining_crops(config: Config) -> tuple[PhantomCrops, PhantomCrops]:
    settings = config.section("pretrain_loop", PretrainLoop)
    return label_crops(config, vibrate=settings.is_vibrate)


def _fisher(
    config: Config,
    model: JNet,
    crops: tuple[PhantomCrops, PhantomCrops],
    seed: int,
    world: World,
) -> dict[str, Tensor]:
    """Return the Fisher information of the pre-training, of its first 100 batches at most."""
    settings = config.section("pretrain_loop", PretrainLoop)
    training, validation = crops
    earlier = JNet(model.params.model_copy(update={"reconstruct": False, "apply_vq": False}))
    earlier.load_state_dict(model.state_dict())
    earlier.to(world.device).eval()
    recipe = Pretraining(earlier, settings, training, validation)
    number = min(_FISHER_BATCHES, max(training.number // settings.batch_size, 1))
    named = earlier.network_parameters()

    def batches() -> Iterator[list[LabelCrop]]:
        bar = progress_bar("Fisher information", number) if world.is_first else nullcontext(None)
        with bar as advance:
            for batch in range(number):
                rng = np.random.default_rng([seed, _FISHER_STREAM, batch])
                yield [recipe.sample(0, rng) for _ in range(settings.batch_size)]
                if advance is not None:
                    advance()

    def loss(crops: list[LabelCrop]) -> Tensor:
        return torch.stack([*recipe.losses(earlier, crops).values()]).sum()

    return fisher_diagonal(named, batches(), loss)


def mean_terms(recipe: Finetuning) -> dict[str, float]:
    """Return every term of the loss over the validation crops, nothing trained."""
    recipe.model.eval()
    with torch.no_grad():
        return recipe.validate().scores
