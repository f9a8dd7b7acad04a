"""``serenet train``: from a training YAML to a run's folder."""

import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from scopekit.errors import UserError
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.progress import say
from scopekit.settings import read_yaml
from scopekit.training.loop import train
from scopekit.training.processes import World, process_group
from scopekit.training.recipe import Loop
from scopekit.training.run_folder import RunFolder, claimed_run, read_last
from scopekit.training.timetable import Timetable
from scopekit.training.trial import fitting_epochs
from serenet import __version__
from serenet.training.build import build_recipe
from serenet.training.settings import TrainingSettings, load_settings

_USES = {"twnet": "correct-motion --checkpoint", "vsnet": "reconstruct --virtual-scan"}


def train_method(
    name_or_file: str,
    out: Path,
    *,
    microscope: str | None = None,
    minutes: float | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Train a network; its run's folder is ``out``.

    Parameters
    ----------
    name_or_file
        Training YAML, or the name of a preset that ships.
    out
        The run's folder, see `scopekit.training.run_folder`.
    microscope
        Instead of the settings' optics: a microscope's name or YAML.
    minutes
        How long to train, scenes and earlier starts included, instead of the settings' epochs.
    device
        ``auto``, ``cpu`` or ``cuda``.
    resume
        Go on with the run in ``out``, or start it if there is none.
    overwrite
        Start anew where ``out`` holds a run.
    """
    started = time.perf_counter()
    keep_freed_memory()
    settings = load_settings(name_or_file, microscope)
    where = choose_device(device)
    if settings.precision == "float16" and where.type != "cuda":
        raise UserError("precision: float16 needs CUDA; take bfloat16 or float32")
    with process_group(where) as world, claimed_run(out, world):
        settings = _settled(settings, out, world, resume=resume, by_time=minutes is not None)
        folder = None
        if world.is_first:
            # Looks whether all is well, before anything is made.
            folder = RunFolder(out, _content(settings), resume=resume, overwrite=overwrite)
        last = read_last(out) if resume else None
        recipe = build_recipe(settings, name_or_file, out, world, resume=resume)

        def of(epochs: int) -> TrainingSettings:
            return settings.model_copy(update={"epochs": epochs})

        def loop_of(epochs: int) -> Loop:
            return replace(of(epochs).loop(), on_epoch=recipe.begin_epoch)

        def settle(epochs: int) -> None:
            if folder is not None:
                folder.settle(_content(of(epochs)))

        loop, timetable = loop_of(settings.epochs), None
        if minutes is not None:
            samples = f"{recipe.n_samples} samples"
            settles = settle if world.is_first else None
            timetable = Timetable(60 * minutes, started, loop_of, settles, samples)
            if last is None:
                loop = timetable.plan(*fitting_epochs(recipe, loop, world, timetable.left()))
        if folder is not None:
            folder.begin()
        world.wait()
        train(recipe, loop, folder, world, last, timetable=timetable)
    if world.is_first:
        best = out / "checkpoints" / "best.pt"
        say(f"{best}: use it with serenet {_USES.get(settings.method, 'reconstruct --checkpoint')}")


def _content(settings: TrainingSettings) -> dict[str, object]:
    return {"version": __version__, **settings.model_dump(mode="json")}


def _settled(
    settings: TrainingSettings, out: Path, world: World, *, resume: bool, by_time: bool
) -> TrainingSettings:
    """Return the settings with what a run chooses by itself, as it was chosen before if it goes on.

    That is the precision, and the epochs of a run of a given time.
    """
    kept = out / "settings.yaml"
    chosen: dict[str, object] = {}
    if resume and (out / "checkpoints" / "last.pt").exists() and kept.exists():
        before = read_yaml(kept)
        names = ("precision",) * (settings.precision == "auto") + ("epochs",) * by_time
        chosen = {name: before[name] for name in names if name in before}
    elif settings.precision == "auto":
        chosen = {"precision": ("float32", "bfloat16")[int(world.agree(_half_is_faster(world)))]}
    return settings.model_copy(update=chosen)


def _half_is_faster(world: World) -> bool:
    """Whether convolutions in bfloat16 are faster than in float32 on this machine."""
    x = torch.randn(1, 32, 16, 32, 32, device=world.device)
    kernel = torch.randn(32, 32, 3, 3, 3, device=world.device)
    took = {}
    for dtype in (torch.float32, torch.bfloat16):
        values, weights = x.to(dtype), kernel.to(dtype)
        F.conv3d(values, weights)  # makes its plans
        _wait(world)
        started = time.perf_counter()
        for _ in range(3):
            F.conv3d(values, weights)
        _wait(world)
        took[dtype] = time.perf_counter() - started
    return took[torch.bfloat16] < took[torch.float32]


def _wait(world: World) -> None:
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
