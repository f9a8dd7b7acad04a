"""The engine of ``tenet pretrain`` and ``tenet finetune``: trains, and leaves the best weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.outputs import make_folder, require_new, require_writable
from scopekit.progress import say
from scopekit.training.loop import train
from scopekit.training.plateau import EarlyStop, Plateau
from scopekit.training.processes import World, process_group
from scopekit.training.recipe import Loop, Moments, Recipe
from scopekit.training.run_folder import RunFolder, claimed_run, read_last
from tenet import __version__
from tenet.config.files import Config
from tenet.config.sections import PretrainLoop, TrainLoop
from tenet.data.crops import Crop, Crops
from tenet.network.jnet import JNet
from tenet.network.weights import moments_file

_PICTURES = 10  # in a run


C = TypeVar("C", bound=Crop)


class Trainable(Recipe[C], Protocol[C]):
    """A recipe that tells where its crops come from."""

    @property
    def crops(self) -> Crops[C]: ...  # noqa: D102


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
    """

    device: str = "auto"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False


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
    keep_freed_memory()
    target, optimizer = execution.target, moments_file(execution.target)
    section, may_replace = execution.section, options.overwrite or options.resume
    for path in (target, optimizer):
        require_new(path, overwrite=may_replace, another=f"another {section}.path")
    require_writable(target.parent)
    where = choose_device(options.device)
    with process_group(where) as world, claimed_run(execution.folder, world):
        folder = None
        if world.is_first:
            resolved = _resolved(config, execution, options)
            folder = RunFolder(
                execution.folder,
                resolved,
                resume=options.resume,
                overwrite=options.overwrite,
                another=f"another {section}.savefig_path",
            )
        last = read_last(execution.folder) if options.resume else None
        recipe = make_recipe(world)
        if folder is not None:
            folder.begin()
            make_folder(target.parent)
        world.wait()
        loop = Loop(
            epochs=execution.loop.n_epochs,
            learning_rate=execution.loop.lr,
            epochs_key=f"{section}.n_epochs in {config.name}.json",
            rate_key=f"{section}.lr",
            batch_size=execution.loop.batch_size,
            clip_norm=execution.clip_norm,
            seed=options.seed,
            validate_every=max(execution.loop.n_epochs // _PICTURES, 1),
            save_every=execution.loop.n_epochs,
            plateau=Plateau(),
            early_stop=EarlyStop(execution.loop.es_patience),
            keep_moments=True,
            on_epoch=recipe.crops.begin_epoch,
        )
        train(recipe, loop, folder, world, last, moments() if last is None else None)
        if world.is_first:
            best = read_checkpoint(execution.folder / "checkpoints" / "best.pt")
            beside = {"moments": best["training"]["moments"], "params": best.get("params")}
            write_checkpoint(optimizer, beside, overwrite=True)
            write_checkpoint(target, best["state"], overwrite=True)
            say(f"{target}: the best weights, of epoch {best['training']['epoch']}")


def _resolved(config: Config, execution: Execution, options: RunOptions) -> dict[str, Any]:
    content = config.model_dump(mode="json")
    for name in ("pretrain_loop", "train_loop"):
        if content[name] is not None:
            content[name].pop("n_epochs")
    return {
        "version": __version__,
        "command": execution.command,
        "epochs": execution.loop.n_epochs,
        "seed": options.seed,
        **dict(execution.extra),
        **content,
    }


def require_file(path: Path, remedy: str) -> None:
    """Raise `UserError` if there is no such file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {remedy}")
