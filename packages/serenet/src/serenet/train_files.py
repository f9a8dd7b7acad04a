"""``serenet train``: from a training YAML to a run's folder."""

from pathlib import Path

import torch
from torch import nn

from optics import LightFieldOperator, LightFieldPreset, phase_space_psf, psf_shift
from scopekit.distributed import World, process_group
from scopekit.errors import UserError
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.progress import say
from scopekit.run_folder import RunFolder, read_last
from scopekit.training import train
from serenet import __version__
from serenet.microscope import load_preset
from serenet.models import build_model, load_checkpoint, network_for_scale
from serenet.networks import SeReNet
from serenet.perceptual import load_lpips
from serenet.recipes import AxialFineTuning, Optics, SelfSupervised, Supervised
from serenet.small_scenes import write_scenes
from serenet.training_data import TrainingData
from serenet.training_settings import Data, TrainingSettings, load_settings
from serenet.view_psf import psf_of_views

# Scenes made for validation, by seeds of their own.
_VALIDATION_SEED = 10_000


def train_method(
    name_or_file: str, out: Path, *, device: str, resume: bool, overwrite: bool
) -> None:
    """Train a network; its run's folder is ``out``.

    Parameters
    ----------
    name_or_file
        Training YAML, or the name of a preset that ships.
    out
        The run's folder, see `scopekit.run_folder`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    resume
        Go on with the run in ``out``, or start it if there is none.
    overwrite
        Start anew where ``out`` holds a run.
    """
    keep_freed_memory()
    settings = load_settings(name_or_file)
    where = choose_device(device)
    if settings.precision == "float16" and where.type != "cuda":
        raise UserError("precision: float16 needs CUDA; take bfloat16 or float32")
    with process_group(where) as world:
        folder = None
        if world.is_first:
            resolved = {"version": __version__, **settings.model_dump(mode="json")}
            folder = RunFolder(out, resolved, resume=resume, overwrite=overwrite)
        recipe = _recipe(settings, out, world)
        if folder is not None:
            folder.begin()
        world.wait()
        train(recipe, settings.loop(), folder, world, read_last(out))
    if world.is_first:
        say(f"{out / 'checkpoints' / 'best.pt'}: use it with serenet reconstruct --checkpoint")
        if settings.depths is not None:
            make = f"serenet psf {settings.optics} --depths {settings.depths} --out psf.h5"
            say(f"and --psf with a PSF of its depths: {make}")


def _recipe(
    settings: TrainingSettings, out: Path, world: World
) -> SelfSupervised | Supervised | AxialFineTuning:
    optics = _optics(settings, world.device)
    training, validation = _data(settings, optics, out, world)
    model = _model(settings, optics.preset).to(world.device)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    parts = (model, optics, training, validation, settings)
    if settings.method == "renet":
        return Supervised(*parts)
    if settings.method == "fserenet":
        return AxialFineTuning(*parts)
    return SelfSupervised(*parts, perceptual=_perceptual(settings, world))


def _optics(settings: TrainingSettings, device: torch.device) -> Optics:
    preset = load_preset(settings.optics)
    if settings.psf is None:
        if settings.depths is not None:
            preset = preset.with_middle_depths(settings.depths)
        psf = phase_space_psf(preset, size=settings.psf_size or preset.psf_size)
    else:
        view_psf, preset = psf_of_views(settings.psf, preset)
        psf = torch.cat([view_psf(channel) for channel in range(len(preset.views))])
    return Optics(preset, LightFieldOperator(psf.to(device)), psf_shift(psf).to(device))


def _data(
    settings: TrainingSettings, optics: Optics, out: Path, world: World
) -> tuple[TrainingData, TrainingData]:
    preset, crop = optics.preset, settings.crop
    wanted = {"training": settings.data, "validation": settings.validation or settings.data}
    for n, (name, data) in enumerate(wanted.items()):
        if data.simulated is not None:
            folder = out / "simulated" / name
            if world.is_first:
                seeds = range(n * _VALIDATION_SEED + 1, n * _VALIDATION_SEED + 1 + data.simulated)
                write_scenes(folder, seeds, preset, optics.operator.psf)
            wanted[name] = Data(
                views=folder / "views", volumes=folder / "volumes", repeat=data.repeat
            )
    world.wait()
    supervised = settings.method != "serenet"
    training = TrainingData(wanted["training"], preset, crop, paired=supervised)
    with_truth = wanted["validation"].volumes is not None
    validation = TrainingData(wanted["validation"], preset, crop, paired=with_truth)
    return training, validation


def _model(settings: TrainingSettings, preset: LightFieldPreset) -> SeReNet:
    torch.manual_seed(settings.seed)
    n_views = len(preset.views)
    start = load_checkpoint(settings.start_from) if settings.start_from else None
    if start is not None and start.n_views != n_views:
        raise UserError(
            f"start_from: {settings.start_from} takes {start.n_views} views, the optics have "
            f"{n_views}: give a network of this microscope"
        )
    if settings.method == "fserenet":
        assert start is not None
        model = build_model("fserenet", inChannels=n_views)
        if start.second_up != model.second_up:
            raise UserError(
                f"start_from: {settings.start_from} enlarges {start.enlargement} times, fserenet "
                f"{model.enlargement} times: its first layers do not fit"
            )
    else:
        model = build_model(network_for_scale(preset.lateral_scale), inChannels=n_views)
        if start is not None and start.published_name != model.published_name:
            raise UserError(
                f"start_from: {settings.start_from} is a {start.published_name}; "
                f"{settings.method} of these optics is a {model.published_name}"
            )
    if start is not None and type(start) is type(model):
        model.load_state_dict(start.state_dict())
    elif start is not None:
        model.coarse.load_state_dict(start.coarse.state_dict())
        model.middle.load_state_dict(start.middle.state_dict())
    model.method = settings.method
    return model


def _perceptual(settings: TrainingSettings, world: World) -> nn.Module | None:
    wanted = settings.perceptual
    return load_lpips(wanted.vgg, wanted.linear).to(world.device) if wanted.weight else None
