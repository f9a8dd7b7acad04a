"""The methods of an evaluation, applied to an image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from tenet.array_kinds import Array, to_array
from tenet.enhancement.stack import enhance
from tenet.evaluation.baselines import (
    ITERATIONS,
    TV_WEIGHT,
    interpolate,
    microscope_operator,
    rl_tv,
)
from tenet.evaluation.scores import Result, Sample
from tenet.network.jnet import JNet

TENET, RL_TV, INTERPOLATION = "tenet", "RL-TV", "interpolation"


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
    max_memory_gb
        See `tenet.enhance`.
    """

    model: JNet
    baselines: bool = False
    iterations: int = ITERATIONS
    tv_weight: float = TV_WEIGHT
    max_memory_gb: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The methods in the order tried."""
        return (TENET, RL_TV, INTERPOLATION) if self.baselines else (TENET,)

    def apply(
        self, sample: Sample, on_progress: Callable[[float], None] | None = None
    ) -> Iterator[Result]:
        """Yield what each method makes of an image.

        The baselines' results are scaled from their minimum to their maximum, so that thresholds
        mean shares of the brightest. ``on_progress`` is called with the share of the current
        method that is done.
        """
        report = on_progress or (lambda share: None)
        image, truth, voxel_um = sample.image, sample.truth, self.model.voxel_um
        found = enhance(
            self.model,
            image,
            value_range=(0.0, 1.0),
            max_memory_gb=self.max_memory_gb,
            on_progress=lambda done, total: report(done / total),
        )
        volumes = (found.structure, found.brightness, found.reconstruction)
        yield Result(sample.name, TENET, image, *volumes, voxel_um, truth)
        if not self.baselines:
            return
        operator = microscope_operator(self.model.params, self.model.image.analytic)
        recorded = torch.from_numpy(image).to(self.model.device)
        for name in (RL_TV, INTERPOLATION):
            if name == RL_TV:
                volume = rl_tv(
                    recorded,
                    operator,
                    iterations=self.iterations,
                    tv_weight=self.tv_weight,
                    on_iteration=lambda n: report(n / self.iterations),
                )
            else:
                volume = interpolate(recorded, operator.scale)
                report(1.0)
            again = to_array(operator.forward(volume))
            fine = _unit_range(to_array(volume))
            yield Result(sample.name, name, image, fine, None, again, voxel_um, truth)


def _unit_range(volume: Array) -> Array:
    low, high = float(volume.min()), float(volume.max())
    return ((volume - np.float32(low)) / np.float32(max(high - low, 1e-30))).astype(np.float32)
