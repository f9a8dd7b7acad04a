"""The methods of an evaluation, applied to an image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tenet.array_kinds import Array, to_array
from tenet.enhancement.stack import enhance_into, fine_shape, own_range
from tenet.evaluation.baselines import (
    ITERATIONS,
    TV_WEIGHT,
    interpolate,
    microscope_operator,
    rl_tv,
)
from tenet.evaluation.other_volumes import OtherVolumes
from tenet.evaluation.scores import Result, Sample
from tenet.evaluation.scratch import IN_MEMORY, Parts, Scratch, is_mapped
from tenet.network.jnet import JNet

TENET, RL_TV, INTERPOLATION = "tenet", "RL-TV", "interpolation"
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Methods:
    """JNet, and what it is compared with.

    Attributes
    ----------
    model
        The network, on its device.
    baselines
        Whether to try RL-TV and interpolation too.
    iterations, tv_weight
        Of RL-TV.
    max_memory_gb, with_hill
        See `tenet.enhance`.
    models
        Other networks for the same voxels, and their names.
    volumes
        What other programs made of the images.
    scratch
        Where large results of networks lie.
    """

    model: JNet
    baselines: bool = False
    iterations: int = ITERATIONS
    tv_weight: float = TV_WEIGHT
    max_memory_gb: float | None = None
    with_hill: bool = True
    models: tuple[tuple[str, JNet], ...] = ()
    volumes: tuple[OtherVolumes, ...] = ()
    scratch: Scratch = IN_MEMORY

    @property
    def names(self) -> tuple[str, ...]:
        """The methods in the order tried."""
        baselines = (RL_TV, INTERPOLATION) if self.baselines else ()
        return (TENET, *(n for n, _ in self.models), *(v.name for v in self.volumes), *baselines)

    def apply(self, sample: Sample, on_progress: Progress | None = None) -> Iterator[Result]:
        """Yield what each method makes of an image.

        Results of others than networks are scaled from their minimum to their maximum, so that
        thresholds mean shares of the brightest, and imaged again by the configuration's microscope.
        ``on_progress`` is called with the share of the current method that is done.
        """
        report = on_progress or (lambda share: None)
        for name, model in ((TENET, self.model), *self.models):
            yield self._enhanced(name, model, sample, report)
        if not (self.volumes or self.baselines):
            return
        operator = microscope_operator(self.model.params, self.model.image.analytic)
        recorded = torch.from_numpy(sample.image).to(self.model.device)

        def result(name: str, volume: Tensor) -> Result:
            again, fine = to_array(operator.forward(volume)), _unit_range(to_array(volume))
            found = sample.image, fine, None, again, self.model.voxel_um
            return Result(sample.name, name, *found, sample.truth, sample.truth_brightness)

        for other in self.volumes:
            made = other.read(sample.name, fine_shape(self.model, sample.image.shape))
            yield result(other.name, torch.from_numpy(made).to(recorded))
            report(1.0)
        if self.baselines:
            volume = rl_tv(
                recorded,
                operator,
                iterations=self.iterations,
                tv_weight=self.tv_weight,
                on_iteration=lambda n: report(n / self.iterations),
            )
            yield result(RL_TV, volume)
            yield result(INTERPOLATION, interpolate(recorded, operator.scale))
            report(1.0)

    def _enhanced(self, name: str, model: JNet, sample: Sample, report: Progress) -> Result:
        image, room = sample.image, self.scratch.room
        found_range = own_range(model, Parts(image)) if sample.own_scale else None
        if found_range is not None:
            zero, one = (np.float32(level) for level in found_range)
            image = self.scratch.made(lambda part: ((part - zero) / (one - zero)).clip(0, 1), image)
        fine = fine_shape(model, image.shape)
        structure, brightness, reconstruction = room(fine), room(fine), room(image.shape)
        volumes = (structure, brightness, reconstruction)
        enhance_into(
            model,
            Parts(image),
            (0.0, 1.0),
            (Parts(structure), Parts(brightness), Parts(reconstruction)),
            with_hill=self.with_hill,
            max_memory_gb=self.max_memory_gb,
            held=sum(volume.nbytes for volume in volumes if not is_mapped(volume)),
            on_progress=lambda done, total: report(done / total),
        )
        params = model.params
        return Result(
            sample.name,
            name,
            image,
            structure,
            brightness,
            reconstruction,
            model.voxel_um,
            sample.truth,
            sample.truth_brightness,
            params.threshold if params.use_x_quantized else None,
        )


def _unit_range(volume: Array) -> Array:
    low, high = float(volume.min()), float(volume.max())
    return ((volume - np.float32(low)) / np.float32(max(high - low, 1e-30))).astype(np.float32)


class Steps:
    """Turns the share that is done of one method after another into steps of a bar.

    Parameters
    ----------
    advance
        Told how many steps were made.
    """

    of_method = 100

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance, self._done = advance, 0

    def __call__(self, share: float) -> None:
        """Take the share of the current method that is done."""
        wanted = round(share * self.of_method)
        if wanted < self._done:
            self._done = 0
        self._advance(wanted - self._done)
        self._done = 0 if wanted == self.of_method else wanted
