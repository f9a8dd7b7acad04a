"""The engine of ``tenet pretrain`` and ``tenet finetune``: trains, and leaves the best weights."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.outputs import make_folder, require_new, require_writable
from scopekit.progress import say
from scopekit.settings import read_yaml
from scopekit.training.loop import train
from scopekit.training.plateau import EarlyStop, Plateau
from scopekit.training.processes import World, process_group
from scopekit.training.recipe import Loop, Moments, Recipe, Sample
from scopekit.training.run_folder import RunFolder, claimed_run, read_last
from scopekit.training.timetable import Timetable
from scopekit.training.trial import fitting_epochs
from tenet import __version__
from tenet.config.files import Config
from tenet.config.loops import PretrainLoop, TrainLoop
from tenet.network.jnet import JNet
from tenet.network.weights import moments_file

_PICTURES = 10  # in a run
_CLIP_NORM = 1.0
_WARM_UP = 0.05


C = TypeVar("C", bound=Sample)


class Trainable(Recipe[C], Protocol[C]):
    """A recipe whose epochs differ."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare an epoch, counted from 0, of so many."""


@runtime_checkable
class Settling(Trainable[C], Protocol[C]):
    """A recipe whose last state counts, not that of the best score on the way."""

    def settle(self) -> dict[str, Tensor]:
        """Return the state that is to be kept: the model's, or another that it knows."""


@dataclass(frozen=True)
class RunOptions:
    """How to run.

    Attributes
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``.
    seed
        Of all random numbers, but those of the validation's places.
    resume
        Go on with the run that is there, or start it.
    overwrite
        Start anew where there is a run.
    minutes
        How long to train, earlier starts included, instead of the configuration's epochs.
    """

    device: str = "auto"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    minutes: float | None = None


def fit_psf(model: JNet, seed: int, world: World) -> None:
    """Fit the model's neural PSF to the analytic one, and say so."""
    if world.is_first:
        say("fitting the neural PSF")
    fit = model.image.fit(model.params.nipsf_loss_target, seed)
    if world.is_first:
        say(f"neural PSF: mean squared error {fit.mse:.1e} after {fit.steps} steps")


@dataclass(frozen=True)
class Execution:
    """What distinguishes one kind of run from another.

    Attributes
    ----------
    command
        Its name.
    section, loop
        The section of the configuration that tells epochs and rate: its name, and itself.
    folder, target
        The run's folder, and the file of the best weights.
    clip_norm
        Largest norm of the gradient.
    extra
        What else must be the same when it is resumed.
    """

    command: str
    section: str
    loop: PretrainLoop | TrainLoop
    folder: Path
    target: Path
    clip_norm: float | None
    extra: tuple[tuple[str, Any], ...] = ()


def execute(
    config: Config,
    execution: Execution,
    options: RunOptions,
    make_recipe: Callable[[World], Trainable[C]],
    moments: Callable[[], Moments | None] = lambda: None,
) -> None:
    """Train, and leave the best weights and the optimizer's moments under their final names."""
    started = time.perf_counter()
    keep_freed_memory()
    target, optimizer = execution.target, moments_file(execution.target)
    section, may_replace = execution.section, options.overwrite or options.resume
    for path in (target, optimizer):
        require_new(path, overwrite=may_replace, another=f"another {section}.path")
    require_writable(target.parent)
    where = choose_device(options.device)
    with process_group(where) as world, claimed_run(execution.folder, world):
        folder = None
        epochs = _epochs_before(execution, options)
        if world.is_first:
            resolved = _resolved(config, execution, options, epochs)
            folder = RunFolder(
                execution.folder,
                resolved,
                resume=options.resume,
                overwrite=options.overwrite,
                another=f"another {section}.savefig_path",
            )
        last = read_last(execution.folder) if options.resume else None
        recipe = make_recipe(world)

        def loop_of(epochs: int) -> Loop:
            loop = replace(_loop(config, execution, options), epochs=epochs, save_every=epochs)
            if execution.loop.recipe == "fast":
                loop = replace(loop, schedule=_cosine(epochs))
            often = max(epochs // _PICTURES, 1)
            return replace(
                loop, on_epoch=lambda n: recipe.begin_epoch(n, epochs), validate_every=often
            )

        def settle(epochs: int) -> None:
            if folder is not None:
                folder.settle(_resolved(config, execution, options, epochs))

        loop, timetable = loop_of(epochs), None
        if options.minutes is not None:
            samples = f"{recipe.n_samples} crops"
            settles = settle if world.is_first else None
            timetable = Timetable(60 * options.minutes, started, loop_of, settles, samples)
            if last is None:
                often = replace(loop, validate_every=_PICTURES)
                loop = timetable.plan(*fitting_epochs(recipe, often, world, timetable.left()))
        if folder is not None:
            folder.begin()
            make_folder(target.parent)
        world.wait()
        first = moments() if last is None else None
        train(recipe, loop, folder, world, last, first, timetable)
        if world.is_first:
            best = read_checkpoint(execution.folder / "checkpoints" / "best.pt")
            beside = {"moments": best["training"]["moments"], "params": best.get("params")}
            state, which = best["state"], f"the best weights, of epoch {best['training']['epoch']}"
            if isinstance(recipe, Settling):
                state, which = recipe.settle(), "the weights"
            write_checkpoint(optimizer, beside, overwrite=True)
            write_checkpoint(target, state, overwrite=True)
            say(f"{target}: {which}")


def _loop(config: Config, execution: Execution, options: RunOptions) -> Loop:
    """Return how to learn, by the recipe of the configuration."""
    settings = execution.loop
    loop = Loop(
        epochs=settings.n_epochs,
        learning_rate=settings.lr,
        epochs_key=f"{execution.section}.n_epochs in {config.name}.json",
        rate_key=f"{execution.section}.lr",
        batch_size=settings.batch_size,
        clip_norm=execution.clip_norm,
        seed=options.seed,
        keep_moments=True,
    )
    if settings.recipe == "published":
        early_stop = EarlyStop(settings.es_patience)
        return replace(loop, plateau=Plateau(), early_stop=early_stop)
    return replace(loop, optimizer="muon", clip_norm=_CLIP_NORM)


def _cosine(epochs: int) -> Callable[[float], float]:
    """Return a schedule that rises over a twentieth of the epochs, then falls with the cosine."""

    def factor(epoch: float) -> float:
        done = epoch / epochs
        return min(1.0, done / _WARM_UP) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return factor


def _epochs_before(execution: Execution, options: RunOptions) -> int:
    """Return the configuration's epochs; of a run of a given time that goes on, those chosen."""
    kept = execution.folder / "settings.yaml"
    going_on = options.resume and (execution.folder / "checkpoints" / "last.pt").exists()
    if options.minutes is not None and going_on and kept.exists():
        epochs: int = read_yaml(kept)["epochs"]
        return epochs
    return int(execution.loop.n_epochs)


def _resolved(
    config: Config, execution: Execution, options: RunOptions, epochs: int
) -> dict[str, Any]:
    content = config.model_dump(mode="json")
    for name in ("pretrain_loop", "train_loop"):
        if content[name] is not None:
            content[name].pop("n_epochs")
    return {
        "version": __version__,
        "command": execution.command,
        "epochs": epochs,
        "seed": options.seed,
        **dict(execution.extra),
        **content,
    }


def require_file(path: Path, remedy: str) -> None:
    """Raise `UserError` if there is no such file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {remedy}")
