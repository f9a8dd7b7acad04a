"""How soon serenet learns: the published recipe and the fast one, each from random weights.

Both see the same simulated scenes for the same time. Now and then the network reconstructs unseen
scenes from noisy views; what that takes does not count.
"""

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from bench.timing import Bench
from optics import (
    LightFieldMicroscope,
    LightFieldOperator,
    add_camera_noise,
    phase_space_psf,
    psf_shift,
    sample_views,
)
from scopekit.metrics import correlation
from scopekit.training.loop import train
from scopekit.training.processes import World
from scopekit.training.trial import fitting_epochs
from serenet import build_model, reconstruct, subtract_background
from serenet.simulation.scenes import tubes_and_bubbles
from serenet.training.build import build_recipe
from serenet.training.serenet_family import FamilyRecipe
from serenet.training.settings import TrainingSettings, load_settings

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Neither for training nor for validation does the program draw these.
_FIRST_SEED, _SCENES = 30_000, 6
_PHOTONS, _READ_NOISE = 500.0, 3.0
_POINTS = 16


@dataclass
class Curve:
    """Mean correlation with the truth of unseen scenes, while a network learns.

    Attributes
    ----------
    name
        The recipe.
    seconds
        CPU time of training, all threads together; wall time on CUDA.
    correlations
        At these times.
    """

    name: str
    seconds: list[float]
    correlations: list[float]

    def __str__(self) -> str:
        points = ", ".join(
            f"{c:.3f} after {s:.0f} s" for s, c in zip(self.seconds, self.correlations, strict=True)
        )
        return f"{self.name}: correlation {points}"


class Examination:
    """Unseen scenes, recorded with noise."""

    def __init__(self, microscope: LightFieldMicroscope, psf_size: int | None, count: int) -> None:
        psf = phase_space_psf(microscope, size=psf_size)
        operator = LightFieldOperator(psf)
        self._scale, self._shift = microscope.lateral_scale, psf_shift(psf)
        self._views, self._truths = [], []
        for seed in range(_FIRST_SEED, _FIRST_SEED + count):
            truth = torch.from_numpy(tubes_and_bubbles(seed, microscope))
            clean = sample_views(operator.forward(truth), self._scale).clamp(min=0)
            generator = torch.Generator().manual_seed(seed)
            noisy = add_camera_noise(
                clean, photons=_PHOTONS, read_noise=_READ_NOISE, generator=generator
            )
            self._views.append(subtract_background(noisy))
            self._truths.append(truth.numpy())

    def mark(self, state: dict[str, Any]) -> float:
        """Return the mean correlation of a network of these weights."""
        model = build_model("serenet")
        model.load_state_dict(state)
        marks = []
        for views, truth in zip(self._views, self._truths, strict=True):
            volume = reconstruct(views, model, self._shift, self._scale)
            marks.append(correlation(truth, volume.numpy()))
        return float(np.mean(marks))


def settings_of(recipe: str, *, tiny: bool) -> TrainingSettings:
    """Return the demo's settings with one recipe or the other."""
    kept = {"method", "optics", "depths", "psf_size", "data", "validation", "crop", "noise"}
    shared = load_settings("demo").model_dump(mode="json", include=kept)
    if tiny:
        shared |= {"depths": 5, "psf_size": 39, "data": {"simulated": 2}}
    # The perceptual loss needs weights that have to be downloaded.
    return TrainingSettings.model_validate(
        {"recipe": recipe, "perceptual": {"weight": 0}, **shared}
    )


def learn(name: str, bench: Bench, folder: Path) -> Curve:
    """Train by a recipe; examine the network about 16 times."""
    settings = settings_of(name, tiny=bench.tiny)
    world = World(0, 1, bench.device)
    recipe = build_recipe(settings, name, folder, world, resume=True)
    assert isinstance(recipe, FamilyRecipe)
    n_scenes = 1 if bench.tiny else _SCENES
    examination = Examination(recipe.microscope, settings.psf_size, n_scenes)
    clock = time.perf_counter if bench.device.type == "cuda" else time.process_time
    curve = Curve(f"{name} recipe", [], [])
    spent, started = 0.0, 0.0

    epochs = 2
    if not bench.tiny:
        loop = dataclasses.replace(settings.loop(), validate_every=10**9)
        epochs, _ = fitting_epochs(recipe, loop, world, 60 * bench.minutes)
    settings = settings.model_copy(update={"epochs": epochs})

    def examine(epoch: int) -> None:
        nonlocal spent, started
        spent += clock() - started if epoch else 0.0
        if epoch % max(epochs // _POINTS, 1) == 0 or epoch == epochs:
            curve.seconds.append(spent)
            curve.correlations.append(examination.mark(recipe.checkpoint()["state"]))
        started = clock()

    train(recipe, dataclasses.replace(settings.loop(), on_epoch=examine), None, world)
    examine(epochs)
    return curve


def bench_learning(bench: Bench) -> list[Curve]:
    """Return a curve for each recipe."""
    with tempfile.TemporaryDirectory() as folder:
        # The second one keeps the scenes of the first.
        return [learn(name, bench, Path(folder)) for name in ("published", "fast")]


def draw(path: Path, curves: list[Curve]) -> None:
    """Draw the curves."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for curve in curves:
        axes.plot(curve.seconds, curve.correlations, "o-", label=curve.name, markersize=3)
    axes.set_xlabel("CPU time of training, s")
    axes.set_ylabel("correlation with the truth, unseen scenes")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)
    plt.close(figure)
