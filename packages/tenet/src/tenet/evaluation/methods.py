"""The methods of an evaluation, applied to an image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.enhancement.stack import enhance
from tenet.evaluation.baselines import (
    ITERATIONS,
    TV_WEIGHT,
    interpolate,
    microscope_operator,
    rl_tv,
)
from tenet.evaluation.kinds import Result
from tenet.network.jnet import JNet

Array = NDArray[np.float32]
TENET, RL_TV, INTERPOLATION = "tenet", "RL-TV", "interpolation"


@dataclass(frozen=True)
class Sample:
    """An image to try methods on.

    Attributes
    ----------
    name
        Of the image.
    image
        (Z, Y, X), from 0 to 1.
    truth
        (Z scale, Y, X), 0 or 1, where it is known.
    """

    name: str
    image: Array
    truth: Array | None = None


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
    max_memory_bytes
        See `tenet.enhancement.stack.enhance`.
    """

    model: JNet
    baselines: bool = False
    iterations: int = ITERATIONS
    tv_weight: float = TV_WEIGHT
    max_memory_bytes: int | None = None

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
        image = sample.image
        device = self.model.a.device
        voxel_um = voxel_of(self.model)
        found = enhance(
            self.model,
            torch.from_numpy(image),
            full_range=(0.0, 1.0),
            max_memory_bytes=self.max_memory_bytes,
            on_progress=lambda done, total: report(done / total),
        )
        volumes = (found.structure, found.brightness, found.reconstruction)
        structure, brightness, reconstruction = (_array(volume) for volume in volumes)
        yield Result(
            sample.name,
            TENET,
            image,
            structure,
            brightness,
            reconstruction,
            voxel_um,
            sample.truth,
        )
        if not self.baselines:
            return
        operator = microscope_operator(self.model.params, self.model.image.analytic)
        recorded = torch.from_numpy(image).to(device)
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
            again = _array(operator.forward(volume))
            fine = _unit_range(_array(volume))
            yield Result(sample.name, name, image, fine, None, again, voxel_um, sample.truth)


def voxel_of(model: JNet) -> tuple[float, float, float]:
    """Return the (z, y, x) step of a model's results, um."""
    lateral = model.params.res_lateral
    return model.params.res_axial / model.image.scale, lateral, lateral


def _unit_range(volume: Array) -> Array:
    low, high = float(volume.min()), float(volume.max())
    return ((volume - np.float32(low)) / np.float32(max(high - low, 1e-30))).astype(np.float32)


def _array(volume: Tensor) -> Array:
    array: Array = volume.detach().float().cpu().numpy()
    return array
