"""What JNet is compared with: interpolation, and Richardson-Lucy with total variation."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from optics import Subset, TwoPhotonOperator, richardson_lucy, section_to_kernel
from tenet.array_kinds import Array, like, to_tensor
from tenet.config.files import Config, as_config
from tenet.config.sections import Params
from tenet.microscope.model import analytic_section, sampling

ITERATIONS = 100
TV_WEIGHT = 0.01


class _Window:
    """A microscope that records a volume reaching beyond the image, whose light gets in too.

    Without that reach, what shines in from outside is explained by bright spots at the border.
    """

    def __init__(self, operator: TwoPhotonOperator, margin: tuple[int, int, int]) -> None:
        self._operator = operator
        self._pad = [n for n in reversed(margin) for _ in range(2)]
        self._crop = tuple(slice(n, -n or None) for n in margin)

    def forward(self, volume: Tensor) -> Tensor:
        return self._operator.forward(volume)[self._crop]

    def adjoint(self, image: Tensor) -> Tensor:
        return self._operator.adjoint(F.pad(image, self._pad))


def microscope_operator(params: Params, section: Tensor | None = None) -> TwoPhotonOperator:
    """Return the microscope of a configuration, from volumes as fine as the result to images.

    ``section`` is the (z, r) section of its PSF; by default the analytic one.
    """
    section = analytic_section(params) if section is None else section
    size_zyx, scale, padding = sampling(params)
    return TwoPhotonOperator(section_to_kernel(section, size_zyx), scale, padding)


def interpolate(image: Tensor, scale: int) -> Tensor:
    """Return an image (Z, Y, X) with ``scale`` times as many planes, linearly between its own."""
    size = (image.shape[0] * scale, *image.shape[1:])
    return F.interpolate(image[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]


@overload
def rl_tv(
    image: Tensor,
    microscope: TwoPhotonOperator | Config | str | Path,
    *,
    iterations: int = ...,
    tv_weight: float = ...,
    on_iteration: Callable[[int], None] | None = ...,
) -> Tensor: ...
@overload
def rl_tv(
    image: NDArray[Any],
    microscope: TwoPhotonOperator | Config | str | Path,
    *,
    iterations: int = ...,
    tv_weight: float = ...,
    on_iteration: Callable[[int], None] | None = ...,
) -> Array: ...
def rl_tv(
    image: NDArray[Any] | Tensor,
    microscope: TwoPhotonOperator | Config | str | Path,
    *,
    iterations: int = ITERATIONS,
    tv_weight: float = TV_WEIGHT,
    on_iteration: Callable[[int], None] | None = None,
) -> Array | Tensor:
    """Deconvolve an image straight to finer planes: Richardson-Lucy with total variation.

    The microscope records only some of the finer planes, so that those between are found rather
    than interpolated.

    Parameters
    ----------
    image
        (Z, Y, X), not negative; a tensor on the device where it is to run.
    microscope
        That of a configuration (itself, its path or name), by its analytic PSF; or an operator,
        see `microscope_operator`.
    iterations, tv_weight
        See `optics.richardson_lucy`.
    on_iteration
        Called with the number of iterations done.

    Returns
    -------
    ndarray or Tensor
        (Z scale, Y, X), not negative, in the unit of the image.

    Examples
    --------
    >>> import numpy as np, tenet
    >>> image = np.random.default_rng(0).random((3, 12, 12))
    >>> tenet.rl_tv(image, "demo", iterations=5).shape
    (12, 12, 12)
    """
    given, image = image, to_tensor(image)
    operator = microscope
    if not isinstance(operator, TwoPhotonOperator):
        operator = microscope_operator(as_config(operator).params)
    scale, reach = operator.scale, operator.padding
    # What shines in from more than half the kernel's reach is faint.
    margin = (math.ceil(reach[0] / scale / 2), reach[1] // 2, reach[2] // 2)
    planes, height, width = (n + 2 * m for n, m in zip(image.shape, margin, strict=True))
    size = (planes * scale, height, width)
    start = torch.full(size, float(image.mean()), dtype=image.dtype, device=image.device)
    found = richardson_lucy(
        [Subset(_Window(operator, margin), image)],
        start,
        iterations=iterations,
        tv_weight=tv_weight,
        on_sweep=None if on_iteration is None else lambda sweep, *_: on_iteration(sweep),
    )
    inside = zip((margin[0] * scale, *margin[1:]), size, strict=True)
    sharp: Array | Tensor = like(found[tuple(slice(m, n - m) for m, n in inside)], given)
    return sharp
