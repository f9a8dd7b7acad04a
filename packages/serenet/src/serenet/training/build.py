"""From a run's settings to its recipe: a row in a table for every method.

A new method is a recipe (see `serenet.training.recipe`), its settings, and a row.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from optics import LightFieldMicroscope, LightFieldOperator, phase_space_psf, psf_shift
from scopekit.errors import UserError
from scopekit.training.processes import World
from scopekit.training.recipe import Recipe
from serenet.networks.base import Network, ViewNetwork
from serenet.networks.rlnet import RLNet
from serenet.networks.twnet import TWNet
from serenet.networks.vsnet import VsNet
from serenet.simulation.moving_scenes import write_moving_scenes
from serenet.simulation.scenes import write_scenes
from serenet.training.baselines import FromRefocused, FromViews, VirtualScanning
from serenet.training.crops import TrainingData
from serenet.training.initial_network import family_network, published_network
from serenet.training.motion import MotionCorrection
from serenet.training.motion_views import read_scanned_views
from serenet.training.perceptual import load_lpips
from serenet.training.recipe import Task
from serenet.training.serenet_family import AxialFineTuning, Projector, SelfSupervised, Supervised
from serenet.training.settings import Data, Method, TrainingSettings
from serenet.views.microscope import load_microscope
from serenet.views.psf import psf_of_views
from serenet.views.scan import SIDE

# Scenes made for validation, by seeds of their own.
_VALIDATION_SEED = 10_000

AnyNetwork = TypeVar("AnyNetwork", bound=Network)
WriteScenes = Callable[[Path, range], None]


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
    """

    name: str
    settings: TrainingSettings
    microscope: LightFieldMicroscope
    psf: Callable[[], Tensor]
    out: Path
    world: World

    def network(
        self, make: Callable[[TrainingSettings, LightFieldMicroscope], AnyNetwork]
    ) -> AnyNetwork:
        """Return the network to train on its device; a fault names the settings."""
        try:
            model = make(self.settings, self.microscope).to(self.world.device)
        except UserError as failure:
            raise UserError(f"{self.name}: {failure}") from failure
        model.lay_out()
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

        def write(folder: Path, seeds: range) -> None:
            write_scenes(folder, seeds, self.microscope, self.psf().to(self.world.device))

        training, validation = self.data(write, "volumes")
        # serenet needs no volumes, but is judged by them where they are given.
        judged = settings.method == "serenet" and validation.volumes is not None
        taught = settings.needs_volumes
        read = partial(TrainingData, microscope=self.microscope, crop=settings.crop)
        return Task(
            read(training, paired=taught), read(validation, paired=taught or judged), settings
        )

    def data(self, write: WriteScenes, truth: str) -> tuple[Data, Data]:
        """Return the data of training and validation.

        Parameters
        ----------
        write
            ``write(folder, seeds)`` makes what is to be simulated.
        truth
            Folder inside that, of what belongs to the views.
        """
        wanted = {
            "training": self.settings.data,
            "validation": self.settings.validation or self.settings.data,
        }
        for n, (name, data) in enumerate(wanted.items()):
            if data.simulated is not None:
                folder = self.out / "simulated" / name
                first = n * _VALIDATION_SEED + 1
                if self.world.is_first:
                    write(folder, range(first, first + data.simulated))
                views, volumes = folder / "views", folder / truth
                wanted[name] = Data(views=views, volumes=volumes, repeat=data.repeat)
        self.world.wait()
        return wanted["training"], wanted["validation"]


def build_recipe(settings: TrainingSettings, name: str, out: Path, world: World) -> Recipe[Any]:
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

    Raises
    ------
    UserError
        If settings, files and network do not fit each other.
    """
    microscope, make_psf = _microscope(settings)
    job = Job(name, settings, microscope, functools.cache(make_psf), out, world)
    return _BUILDERS[settings.method].recipe(job)


def _microscope(settings: TrainingSettings) -> tuple[LightFieldMicroscope, Callable[[], Tensor]]:
    """Return the microscope with the network's views and depths, and its PSF if it is needed."""
    microscope = _BUILDERS[settings.method].views(load_microscope(settings.optics))
    if settings.depths is not None:
        microscope = microscope.with_middle_depths(settings.depths)
    if settings.psf is not None:
        view_psf, microscope = psf_of_views(settings.psf, microscope)
        return microscope, lambda: torch.cat([view_psf(a) for a in range(len(microscope.views))])
    return microscope, lambda: phase_space_psf(microscope, size=settings.psf_size)


def _views_in_use(microscope: LightFieldMicroscope) -> LightFieldMicroscope:
    return microscope


def _all_views(microscope: LightFieldMicroscope) -> LightFieldMicroscope:
    return microscope.with_all_views()


def _central_view(microscope: LightFieldMicroscope) -> LightFieldMicroscope:
    return microscope.with_views([microscope.central_view])


def _serenet(job: Job) -> SelfSupervised:
    model, task, projector = job.network(family_network), job.task(), job.projector()
    wanted = job.settings.perceptual
    perceptual = None
    if wanted.weight:
        perceptual = load_lpips(wanted.vgg, wanted.linear).to(job.world.device)
    return SelfSupervised(model, projector, task, perceptual=perceptual)


def _renet(job: Job) -> Supervised:
    model, task = job.network(family_network), job.task()
    return Supervised(model, job.projector(), task)


def _fserenet(job: Job) -> AxialFineTuning:
    model, task = job.network(family_network), job.task()
    return AxialFineTuning(model, job.projector(), task)


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

    def write(folder: Path, seeds: range) -> None:
        write_moving_scenes(folder, seeds, microscope, job.operator())

    training, validation = (
        read_scanned_views(data, settings.crop) for data in job.data(write, "still")
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
    recipe: Callable[[Job], Recipe[Any]]


_BUILDERS: dict[Method, _Builder] = {
    "serenet": _Builder(_views_in_use, _serenet),
    "renet": _Builder(_views_in_use, _renet),
    "fserenet": _Builder(_views_in_use, _fserenet),
    "vcdnet": _Builder(_all_views, _from_views),
    "hylfmnet": _Builder(_all_views, _from_views),
    "rlnet": _Builder(_views_in_use, _rlnet),
    "vsnet": _Builder(_all_views, _vsnet),
    "twnet": _Builder(_central_view, _twnet),
}
