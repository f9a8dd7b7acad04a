"""From a run's settings to its recipe: a row in a table for every method.

A new method is a recipe (see `serenet.training.recipe`), its settings, and a row.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from optics import (
    BandLimitedOperator,
    LightFieldMicroscope,
    LightFieldOperator,
    psf_shift,
    volume_size,
)
from scopekit.errors import UserError
from scopekit.training.processes import World
from serenet.networks.base import LearnedOptics, Network, ViewNetwork
from serenet.networks.rlnet import RLNet
from serenet.networks.serenet import SeReNet
from serenet.networks.twnet import TWNet
from serenet.networks.vsnet import VsNet
from serenet.simulation.moving_scenes import write_moving_scenes
from serenet.simulation.training_scenes import write_scenes
from serenet.training.baselines import FromRefocused, FromViews, VirtualScanning
from serenet.training.crops import TrainingData
from serenet.training.fast import FastTraining
from serenet.training.initial_network import family_network, published_network
from serenet.training.motion import MotionCorrection
from serenet.training.motion_views import read_scanned_views
from serenet.training.perceptual.first_layers import load_first_layers
from serenet.training.perceptual.lpips import load_lpips
from serenet.training.recipe import EpochRecipe, Task
from serenet.training.sections import Data
from serenet.training.serenet_family import AxialFineTuning, Projector, SelfSupervised, Supervised
from serenet.training.settings import Method, TrainingSettings
from serenet.training.teacher import open_teachers, write_teachers
from serenet.views.kept_psf import ComputedPSF
from serenet.views.microscope import load_microscope
from serenet.views.psf import psf_of_views
from serenet.views.scan import SIDE

# Scenes made for validation, by seeds of their own.
_VALIDATION_SEED = 10_000
# Scenes of a second source, too.
_SOURCE_SEED = 100_000

AnyNetwork = TypeVar("AnyNetwork", bound=Network)
WriteScenes = Callable[[Path, range, str], None]


@dataclass(frozen=True)
class Job:
    """A training run: its settings, and what follows from them.

    Attributes
    ----------
    name
        Of the settings, for messages.
    settings
        The run's.
    microscope
        With the network's views and depths.
    psf
        Gives its PSF (A, D, H, W), made when it is first wanted.
    out
        The run's folder.
    world
        The processes that share the work.
    resume
        Whether simulated scenes of an earlier start are kept.
    """

    name: str
    settings: TrainingSettings
    microscope: LightFieldMicroscope
    psf: Callable[[], Tensor]
    out: Path
    world: World
    resume: bool

    def network(
        self, make: Callable[[TrainingSettings, LightFieldMicroscope], AnyNetwork]
    ) -> AnyNetwork:
        """Return the network to train on its device; a fault names the settings."""
        try:
            model = make(self.settings, self.microscope).to(self.world.device)
        except UserError as failure:
            raise UserError(f"{self.name}: {failure}") from failure
        model.lay_out()
        shift = psf_shift(self.psf()).cpu() if isinstance(model, SeReNet | RLNet) else None
        model.learned_optics = LearnedOptics(self.microscope, shift)
        return model

    def operator(self) -> LightFieldOperator:
        """Return the projection onto the views, on the device."""
        return LightFieldOperator(self.psf().to(self.world.device))

    def shift(self) -> Tensor:
        """Return the PSF shift (A, D, 2), object pixels, on the device."""
        return psf_shift(self.psf()).to(self.world.device)

    def projector(self) -> Projector:
        """Return the microscope on the device."""
        return Projector(self.microscope, self.operator(), self.shift())

    def task(self) -> Task:
        """Return what to learn from and to judge by, simulated if it is to be."""
        settings = self.settings

        def write(folder: Path, seeds: range, kind: str) -> None:
            psf = self.psf().to(self.world.device)
            write_scenes(folder, kind, seeds, self.microscope, psf, keep=self.resume)

        def read(sources: Sequence[Data], *, judged: bool) -> TrainingData:
            # serenet and the fast recipe need no volumes, but use those that are given.
            given = settings.recipe == "fast" or (judged and settings.method == "serenet")
            parts = [
                TrainingData(
                    source,
                    self.microscope,
                    settings.crop,
                    paired=source.volumes is not None if given else settings.needs_volumes,
                )
                for source in sources
            ]
            return functools.reduce(TrainingData.joined, parts)

        training, validation = self.data(write, "volumes")
        return Task(read(training, judged=False), read(validation, judged=True), settings)

    def data(self, write: WriteScenes, truth: str) -> tuple[list[Data], list[Data]]:
        """Return the data of training and validation, all of them in folders.

        Parameters
        ----------
        write
            ``write(folder, seeds, kind)`` makes what is to be simulated.
        truth
            Folder inside that, of what belongs to the views.
        """
        judges = (self.settings.validation or self.settings.data,)
        wanted = {"training": self.settings.sources, "validation": judges}
        found: dict[str, list[Data]] = {name: [] for name in wanted}
        for n, (name, sources) in enumerate(wanted.items()):
            for m, data in enumerate(sources):
                source = data
                if data.simulated is not None:
                    folder = self.out / "simulated" / (f"{name}{m + 1}" if m else name)
                    first = n * _VALIDATION_SEED + m * _SOURCE_SEED + 1
                    if self.world.is_first:
                        write(folder, range(first, first + data.simulated), data.scenes)
                    views, volumes = folder / "views", folder / truth
                    source = Data(views=views, volumes=volumes, repeat=data.repeat)
                found[name].append(source)
        self.world.wait()
        return found["training"], found["validation"]


def build_recipe(
    settings: TrainingSettings, name: str, out: Path, world: World, *, resume: bool = False
) -> EpochRecipe[Any]:
    """Return what to train, on what, by which loss.

    Parameters
    ----------
    settings
        The run's.
    name
        Of the settings, for messages.
    out
        The run's folder; what is simulated goes into it.
    world
        The processes that share the work.
    resume
        Whether simulated scenes of an earlier start are kept.

    Raises
    ------
    UserError
        If settings, files and network do not fit each other.
    """
    microscope, make_psf = _microscope(settings)
    job = Job(name, settings, microscope, functools.cache(make_psf), out, world, resume)
    return _BUILDERS[settings.method].recipe(job)


def _microscope(settings: TrainingSettings) -> tuple[LightFieldMicroscope, Callable[[], Tensor]]:
    """Return the microscope with the network's views and depths, and its PSF if it is needed."""
    microscope = _BUILDERS[settings.method].views(load_microscope(settings.optics))
    if settings.depths is not None:
        microscope = microscope.with_middle_depths(settings.depths)
    if settings.psf is not None:
        view_psf, microscope = psf_of_views(settings.psf, microscope)
        return microscope, lambda: torch.cat([view_psf(a) for a in range(len(microscope.views))])
    return microscope, lambda: ComputedPSF(microscope, settings.psf_size).whole()


def _views_in_use(microscope: LightFieldMicroscope) -> LightFieldMicroscope:
    return microscope


def _all_views(microscope: LightFieldMicroscope) -> LightFieldMicroscope:
    return microscope.with_all_views()


def _central_view(microscope: LightFieldMicroscope) -> LightFieldMicroscope:
    return microscope.with_views([microscope.central_view])


def _family(job: Job) -> EpochRecipe[Any]:
    model, task, projector = job.network(family_network), job.task(), job.projector()
    settings = job.settings
    if settings.recipe == "fast":
        return _fast(job, model, task, projector)
    if settings.method == "renet":
        return Supervised(model, projector, task)
    if settings.method == "fserenet":
        return AxialFineTuning(model, projector, task)
    return SelfSupervised(model, projector, task, perceptual=_perceptual(job))


def _fast(job: Job, model: SeReNet, task: Task, projector: Projector) -> FastTraining:
    teacher = windows = None
    settings, perceptual = job.settings, _perceptual(job)
    if settings.losses.teacher:
        folder = job.out / "teacher"
        if job.world.is_first:
            psf = projector.operator.psf
            write_teachers(folder, task.training, job.microscope, psf, settings.teacher)
        job.world.wait()
        taught = open_teachers(folder, task.training, settings.teacher)
        teacher = task.training.taught_by(taught)
    if settings.losses.likelihood or perceptual is not None:
        side = volume_size(settings.crop, job.microscope.lateral_scale)
        views_yx = (settings.crop, settings.crop)
        psf = projector.operator.psf
        windows = BandLimitedOperator(psf, (side, side), views_yx, sampling="cubic")
    return FastTraining(
        model, projector, task, windows=windows, perceptual=perceptual, teacher=teacher
    )


def _perceptual(job: Job) -> nn.Module | None:
    wanted = job.settings.perceptual
    if not wanted.weight:
        return None
    if wanted.kind == "first_layers" and wanted.vgg is not None:
        return load_first_layers(wanted.vgg).to(job.world.device)
    return load_lpips(wanted.vgg, wanted.linear).to(job.world.device)


def _from_views(job: Job) -> FromViews:
    def make(settings: TrainingSettings, microscope: LightFieldMicroscope) -> ViewNetwork:
        n_views, n_depths = len(microscope.views), len(microscope.depths_um)
        return published_network(ViewNetwork, settings, inChannels=n_views, outChannels=n_depths)

    return FromViews(job.network(make), job.microscope, job.task())


def _rlnet(job: Job) -> FromRefocused:
    model = job.network(lambda settings, _: published_network(RLNet, settings))
    return FromRefocused(model, job.microscope, job.task(), psf_shift=job.shift())


def _vsnet(job: Job) -> VirtualScanning:
    model = job.network(
        lambda settings, microscope: published_network(VsNet, settings, angRes=microscope.n_num)
    )
    return VirtualScanning(model, job.microscope, job.task())


def _twnet(job: Job) -> MotionCorrection:
    settings, microscope = job.settings, job.microscope
    channels = list(TWNet.published_channels)
    model = job.network(lambda settings, _: published_network(TWNet, settings, channels=channels))
    if microscope.scanning != SIDE:
        raise UserError(
            f"twnet learns from {SIDE} x {SIDE} scans; the optics have scanning "
            f"{microscope.scanning}"
        )
    if settings.crop % SIDE:
        raise UserError(f"crop {settings.crop}: twnet needs a multiple of {SIDE}")

    def write(folder: Path, seeds: range, _: str) -> None:
        write_moving_scenes(folder, seeds, microscope, job.operator())

    training, validation = (
        read_scanned_views(sources[0], settings.crop) for sources in job.data(write, "still")
    )
    return MotionCorrection(model, training, validation, settings)


class _Builder(NamedTuple):
    """How a method's runs are built.

    Attributes
    ----------
    views
        Gives the microscope the views that the network takes.
    recipe
        Makes the recipe, network included.
    """

    views: Callable[[LightFieldMicroscope], LightFieldMicroscope]
    recipe: Callable[[Job], EpochRecipe[Any]]


_BUILDERS: dict[Method, _Builder] = {
    "serenet": _Builder(_views_in_use, _family),
    "renet": _Builder(_views_in_use, _family),
    "fserenet": _Builder(_views_in_use, _family),
    "vcdnet": _Builder(_all_views, _from_views),
    "hylfmnet": _Builder(_all_views, _from_views),
    "rlnet": _Builder(_views_in_use, _rlnet),
    "vsnet": _Builder(_all_views, _vsnet),
    "twnet": _Builder(_central_view, _twnet),
}
