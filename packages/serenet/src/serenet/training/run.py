"""``serenet train``: from a training YAML to a run's folder."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optics import LightFieldMicroscope, LightFieldOperator, phase_space_psf, psf_shift
from scopekit.errors import UserError
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.progress import say
from scopekit.training.loop import train
from scopekit.training.processes import World, process_group
from scopekit.training.recipe import Recipe
from scopekit.training.run_folder import RunFolder, read_last
from serenet import __version__
from serenet.networks.base import Network
from serenet.networks.checkpoints import build_model, load_checkpoint, network_for_scale
from serenet.networks.rlnet import RLNet
from serenet.networks.serenet import SeReNet
from serenet.networks.twnet import TWNet
from serenet.networks.vsnet import VsNet
from serenet.simulation.moving_scenes import write_moving_scenes
from serenet.simulation.scenes import write_scenes
from serenet.training.baselines import FromRefocused, FromViews, VirtualScanning
from serenet.training.crops import TrainingData
from serenet.training.motion import MotionCorrection
from serenet.training.motion_views import read_scanned_views
from serenet.training.perceptual import load_lpips
from serenet.training.serenet_family import AxialFineTuning, Optics, SelfSupervised, Supervised
from serenet.training.settings import FAMILY, Data, TrainingSettings, load_settings
from serenet.views.microscope import load_microscope
from serenet.views.psf import psf_of_views
from serenet.views.scan import SIDE

# Scenes made for validation, by seeds of their own.
_VALIDATION_SEED = 10_000
# Not only those that SeReNet's volumes are made from.
_TAKES_ALL_VIEWS = ("vcdnet", "hylfmnet", "vsnet")


def train_method(
    name_or_file: str, out: Path, *, device: str, resume: bool, overwrite: bool
) -> None:
    """Train a network; its run's folder is ``out``.

    Parameters
    ----------
    name_or_file
        Training YAML, or the name of a preset that ships.
    out
        The run's folder, see `scopekit.training.run_folder`.
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
        recipe = _recipe(settings, name_or_file, out, world)
        if folder is not None:
            folder.begin()
        world.wait()
        train(recipe, settings.loop(), folder, world, read_last(out))
    if world.is_first:
        best = out / "checkpoints" / "best.pt"
        use = {"twnet": "correct-motion --checkpoint", "vsnet": "reconstruct --virtual-scan"}
        say(f"{best}: use it with serenet {use.get(settings.method, 'reconstruct --checkpoint')}")
        if settings.method in use:
            return
        if settings.depths is not None:
            make = f"serenet psf {settings.optics} --depths {settings.depths} --out psf.h5"
            say(f"and --psf with a PSF of its depths: {make}")


def _recipe(settings: TrainingSettings, name: str, out: Path, world: World) -> Recipe[Any]:
    microscope, make_psf = _microscope(settings)
    psf = functools.cache(make_psf)
    try:
        model = _model(settings, microscope).to(world.device)
    except UserError as failure:
        raise UserError(f"{name}: {failure}") from failure
    model.lay_out()
    if isinstance(model, TWNet):
        return _motion_recipe(settings, model, microscope, psf, out, world)
    training, validation = _data(settings, microscope, psf, out, world)
    rest = (training, validation, settings)
    if isinstance(model, SeReNet):
        operator = LightFieldOperator(psf().to(world.device))
        parts = (model, Optics(microscope, operator, psf_shift(psf()).to(world.device)), *rest)
        if settings.method == "renet":
            return Supervised(*parts)
        if settings.method == "fserenet":
            return AxialFineTuning(*parts)
        return SelfSupervised(*parts, perceptual=_perceptual(settings, world))
    if isinstance(model, RLNet):
        return FromRefocused(model, microscope, *rest, psf_shift=psf_shift(psf()).to(world.device))
    if isinstance(model, VsNet):
        return VirtualScanning(model, microscope, *rest)
    return FromViews(model, microscope, *rest)


def _microscope(settings: TrainingSettings) -> tuple[LightFieldMicroscope, Callable[[], Tensor]]:
    """Return the microscope with the network's views and depths, and its PSF if it is needed."""
    microscope = load_microscope(settings.optics)
    if settings.method in _TAKES_ALL_VIEWS:
        microscope = microscope.with_all_views()
    elif settings.method == "twnet":
        microscope = microscope.with_views((microscope.central_view,))
    if settings.depths is not None:
        microscope = microscope.with_middle_depths(settings.depths)
    if settings.psf is not None:
        view_psf, microscope = psf_of_views(settings.psf, microscope)
        return microscope, lambda: torch.cat([view_psf(a) for a in range(len(microscope.views))])
    size = settings.psf_size or microscope.psf_size
    return microscope, lambda: phase_space_psf(microscope, size=size)


def _data(
    settings: TrainingSettings,
    microscope: LightFieldMicroscope,
    psf: Callable[[], Tensor],
    out: Path,
    world: World,
) -> tuple[TrainingData, TrainingData]:
    def write(folder: Path, seeds: range) -> None:
        write_scenes(folder, seeds, microscope, psf().to(world.device))

    wanted = _wanted_data(settings, out, world, write, "volumes")
    volumes = settings.needs_volumes
    training = TrainingData(wanted["training"], microscope, settings.crop, paired=volumes)
    # serenet needs none, but is judged by them where they are given.
    volumes = volumes or (settings.method == "serenet" and wanted["validation"].volumes is not None)
    validation = TrainingData(wanted["validation"], microscope, settings.crop, paired=volumes)
    return training, validation


def _wanted_data(
    settings: TrainingSettings,
    out: Path,
    world: World,
    write: Callable[[Path, range], None],
    truth: str,
) -> dict[str, Data]:
    """Return the data of training and validation; ``write(folder, seeds)`` what is simulated."""
    wanted = {"training": settings.data, "validation": settings.validation or settings.data}
    for n, (name, data) in enumerate(wanted.items()):
        if data.simulated is not None:
            folder = out / "simulated" / name
            if world.is_first:
                seeds = range(n * _VALIDATION_SEED + 1, n * _VALIDATION_SEED + 1 + data.simulated)
                write(folder, seeds)
            wanted[name] = Data(views=folder / "views", volumes=folder / truth, repeat=data.repeat)
    world.wait()
    return wanted


def _motion_recipe(
    settings: TrainingSettings,
    model: TWNet,
    microscope: LightFieldMicroscope,
    psf: Callable[[], Tensor],
    out: Path,
    world: World,
) -> MotionCorrection:
    if microscope.scanning != SIDE:
        raise UserError(
            f"twnet learns from {SIDE} x {SIDE} scans; the optics have scanning "
            f"{microscope.scanning}"
        )
    if settings.crop % SIDE:
        raise UserError(f"crop {settings.crop}: twnet needs a multiple of {SIDE}")

    def write(folder: Path, seeds: range) -> None:
        write_moving_scenes(folder, seeds, microscope, LightFieldOperator(psf().to(world.device)))

    wanted = _wanted_data(settings, out, world, write, "still")
    training, validation = (
        read_scanned_views(wanted[name], settings.crop) for name in ("training", "validation")
    )
    return MotionCorrection(model, training, validation, settings)


def _model(settings: TrainingSettings, microscope: LightFieldMicroscope) -> Network:
    torch.manual_seed(settings.seed)
    start = load_checkpoint(settings.start_from) if settings.start_from else None
    if settings.method in FAMILY:
        return _family_model(settings, microscope, start)
    arguments: dict[str, Any] = {}
    if settings.method in ("vcdnet", "hylfmnet"):
        arguments = {"inChannels": len(microscope.views), "outChannels": len(microscope.depths_um)}
    elif settings.method == "vsnet":
        arguments = {"angRes": microscope.n_num}
    elif settings.method == "twnet":
        arguments = {"channels": list(TWNet.published_channels)}
    try:
        model = build_model(settings.method, **arguments | settings.network)
    except UserError as failure:
        raise UserError(f"network: {failure}") from failure
    if start is not None:
        if (start.published_name, start.published_args) != (settings.method, model.published_args):
            raise UserError(
                f"start_from: {settings.start_from} is a {start.published_name} with "
                f"{start.published_args}, not a {settings.method} with {model.published_args}: "
                "give such a one, or leave start_from out"
            )
        model.load_state_dict(start.state_dict())
    return model


def _family_model(
    settings: TrainingSettings, microscope: LightFieldMicroscope, start: Network | None
) -> SeReNet:
    n_views = len(microscope.views)
    name = "fserenet"
    if settings.method != "fserenet":
        name = network_for_scale(microscope.lateral_scale)
    model = build_model(name, inChannels=n_views)
    assert isinstance(model, SeReNet)
    model.method = settings.method
    if start is None:
        return model
    if not isinstance(start, SeReNet):
        raise UserError(
            f"start_from: {settings.start_from} is a {start.published_name}: give a serenet"
        )
    if start.n_views != n_views:
        raise UserError(
            f"start_from: {settings.start_from} takes {start.n_views} views, the optics have "
            f"{n_views}: give a network of this microscope"
        )
    if settings.method == "fserenet":
        if start.second_up != model.second_up:
            raise UserError(
                f"start_from: {settings.start_from} enlarges {start.enlargement} times, fserenet "
                f"{model.enlargement} times: give a serenet of 13 x 13 views"
            )
    elif start.published_name != model.published_name:
        raise UserError(
            f"start_from: {settings.start_from} is a {start.published_name}; "
            f"{settings.method} of these optics is a {model.published_name}: give such a one"
        )
    if type(start) is type(model):
        model.load_state_dict(start.state_dict())
    else:
        model.coarse.load_state_dict(start.coarse.state_dict())
        model.middle.load_state_dict(start.middle.state_dict())
    return model


def _perceptual(settings: TrainingSettings, world: World) -> nn.Module | None:
    wanted = settings.perceptual
    return load_lpips(wanted.vgg, wanted.linear).to(world.device) if wanted.weight else None
