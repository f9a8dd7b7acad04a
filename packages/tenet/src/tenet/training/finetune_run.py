"""``tenet finetune``: from pre-trained weights and recordings to weights that know them."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scopekit.errors import UserError
from scopekit.memory import choose_device
from scopekit.progress import progress_bar
from scopekit.training.processes import World
from scopekit.training.recipe import Moments
from tenet.config.files import Config
from tenet.config.sections import PretrainLoop, StackCrops, TrainLoop
from tenet.data.crops import Crop, Crops, RecordingCrops
from tenet.microscope.imaging import Microscope
from tenet.network.jnet import JNet
from tenet.network.weights import freeze, load_model, model_file, moments_file, read_moments
from tenet.training.ewc import EWC, fisher_diagonal
from tenet.training.finetuning import Finetuning, mean_terms, network_names
from tenet.training.pretraining import Pretraining
from tenet.training.runs import Execution, RunOptions, execute, fit_psf, label_crops, require_file

_CLIP_NORM = 1.0
_FISHER_BATCHES = 100
_FISHER_STREAM = 1  # of random numbers


class Mode(StrEnum):
    """What is learnt."""

    all = "all"
    encoder = "encoder"
    decoder = "decoder"
    old = "old"


@dataclass(frozen=True)
class FinetuneOptions:
    """What to fine-tune, on what.

    Attributes
    ----------
    mode
        ``all``; ``encoder``: the U-Net; ``decoder``: neural PSF and noise; ``old``: all, with the
        state of the optimizer from pre-training.
    fold
        Suffix ``_cv_<fold>`` of the data folders and of the saved name.
    simulation
        Learn from labels imaged by the pre-trained microscope, instead of from recordings.
    align
        Align the slices of recordings first.
    """

    mode: Mode = Mode.old
    fold: str | None = None
    simulation: bool = False
    align: bool = False


def finetune(config: Config, wanted: FinetuneOptions, options: RunOptions) -> Path:
    """Fine-tune on recordings; return the file of the best weights.

    It is ``<path>/<name of the configuration>.pt``, with ``_cv_<fold>`` for a fold.
    """
    settings = config.section("train_loop", TrainLoop)
    name, start = _saved_name(config, wanted), _pretrained_file(config, settings)
    folder = Path(settings.savefig_path) / name
    if name == config.pretrained_model:
        raise UserError(
            f"{name}: the configuration has the name of its pretrained_model, which fine-tuning "
            "would replace; rename the file"
        )

    def recipe(world: World) -> Finetuning:
        return make_recipe(config, wanted, start, options.seed, world)

    def moments() -> Moments | None:
        path = moments_file(start)
        return read_moments(path) if wanted.mode is Mode.old and path.is_file() else None

    target = Path(settings.path) / f"{name}.pt"
    extra = {"mode": wanted.mode.value, "fold": wanted.fold, "simulation": wanted.simulation}
    execute(
        config,
        Execution(
            command="finetune",
            section="train_loop",
            loop=settings,
            folder=folder,
            target=target,
            clip_norm=_CLIP_NORM,
            extra=(*extra.items(), ("align", wanted.align)),
        ),
        options,
        recipe,
        moments,
    )
    return target


def evaluate_losses(
    config: Config, wanted: FinetuneOptions, options: RunOptions
) -> tuple[Path, dict[str, float]]:
    """Return every term of the loss of the weights that are there, and their file."""
    settings = config.section("train_loop", TrainLoop)
    start = _pretrained_file(config, settings)
    tuned = Path(settings.path) / f"{_saved_name(config, wanted)}.pt"
    world = World(0, 1, choose_device(options.device))
    recipe = make_recipe(config, wanted, start, options.seed, world)
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
    require_file(start, "run tenet pretrain first, or check pretrained_model")
    training, validation = _crops(config, wanted, simulated=simulated)
    pretraining = _pretraining_crops(config) if with_ewc else None
    updates = {"reconstruct": True, "apply_vq": settings.qloss_weight > 0}
    updates["apply_vq"] |= config.params.use_x_quantized
    model = load_model(start, config.params.model_copy(update=updates)).to(world.device)
    microscope = None
    if simulated:
        earlier = load_model(start, config.params).to(world.device)
        microscope = Microscope.of(earlier)
    fit_psf(model, seed, world)
    if wanted.mode is Mode.encoder:
        freeze(model.imaging_parameters())
    if wanted.mode is Mode.decoder:
        freeze(model.network_parameters())
    ewc = None
    if pretraining is not None:
        start_values = {n: p.detach().clone() for n, p in network_names(model).items()}
        fisher = _fisher(config, model, pretraining, seed, world)
        ewc = EWC(start_values, fisher, settings.ewc_weight)
    return Finetuning(model, settings, training, validation, microscope=microscope, ewc=ewc)


def _crops(config: Config, wanted: FinetuneOptions, *, simulated: bool) -> tuple[Crops, Crops]:
    """Return crops to train with and to validate with."""
    settings = config.section("train_loop", TrainLoop)
    if simulated:
        return label_crops(config, vibrate=settings.is_vibrate)
    parts = []
    for name in ("train_dataset", "val_dataset"):
        data = config.section(name, StackCrops)
        if wanted.fold is not None:
            update = {"folderpath": f"{data.folderpath}_cv_{wanted.fold}"}
            data = data.model_copy(update=update)
        parts.append(data)
    left_out = config.test_dataset.test_images
    vibration = config.vibration if settings.is_vibrate else None
    recorded = RecordingCrops(parts[0], left_out, vibration, align=wanted.align)
    return recorded, RecordingCrops(parts[1], left_out, align=wanted.align)


def _pretraining_crops(config: Config) -> tuple[Crops, Crops]:
    settings = config.section("pretrain_loop", PretrainLoop)
    return label_crops(config, vibrate=settings.is_vibrate)


def _fisher(
    config: Config, model: JNet, crops: tuple[Crops, Crops], seed: int, world: World
) -> dict[str, Tensor]:
    """Return the Fisher information of the pre-training, of its first 100 batches at most."""
    settings = config.section("pretrain_loop", PretrainLoop)
    training, validation = crops
    earlier = JNet(model.params.model_copy(update={"reconstruct": False, "apply_vq": False}))
    earlier.load_state_dict(model.state_dict())
    earlier.to(world.device).eval()
    recipe = Pretraining(earlier, settings, training, validation)
    number = min(_FISHER_BATCHES, max(training.number // settings.batch_size, 1))
    named: dict[str, nn.Parameter] = dict(network_names(earlier))

    def batches() -> Iterator[list[Crop]]:
        bar = progress_bar("Fisher information", number) if world.is_first else nullcontext(None)
        with bar as advance:
            for batch in range(number):
                rng = np.random.default_rng([seed, _FISHER_STREAM, batch])
                yield [recipe.sample(0, rng) for _ in range(settings.batch_size)]
                if advance is not None:
                    advance()

    def loss(crops: list[Crop]) -> Tensor:
        return torch.stack([*recipe.losses(earlier, crops).values()]).sum()

    return fisher_diagonal(named, batches(), loss)


def _saved_name(config: Config, wanted: FinetuneOptions) -> str:
    return config.name if wanted.fold is None else f"{config.name}_cv_{wanted.fold}"


def _pretrained_file(config: Config, settings: TrainLoop) -> Path:
    return model_file(settings.path, config.pretrained_model)
