"""The scale of a recording: which of its values is the brightness 1 of the network.

Recordings come in any unit. The largest value is no measure: a ball of brightness 1 peaks at a
fifth of it in its image, a large body at all of it. Nor is how well the reconstruction fits: where
objects are as bright as can be, the network takes long dim ones for as likely as short bright ones
that it has never seen, and both fit. In the middle of the brightness that it learnt from nothing
pulls to one side. So the scale is that at which what it finds is so bright.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from scopekit.images.plane_file import Planes
from tenet.array_kinds import Array
from tenet.data.value_range import ValueRange
from tenet.network.jnet import JNet, hill

# The middle of the default range of `tenet.config.sections.Scenes`, on a logarithmic scale.
MIDDLE = 0.4
# What the brightest of a recording may be, in units of brightness 1, and steps between them.
_PEAKS = (0.01, 1.0)
_STEPS = 7
# The deviation of noise alone may count as this: with more, nothing but noise is bright.
_MOST_NOISE = 0.04
# Noise makes single voxels brighter and darker than anything is.
_SMOOTHING = 5
# Voxels of the result that the scale is found from: a second of a CPU for each step.
_VOXELS = 400_000
_LEAST_SIDE = 24
_WITHIN_DEVIATION = 0.683  # share of normal numbers that are nearer to 0


def find_scale(model: JNet, volume: Planes) -> ValueRange | None:
    """Return the values of a recording that count as 0 and 1 to a network for any scale.

    They are found by how bright what the network finds in a part of it is.

    Parameters
    ----------
    model
        The network, in evaluation mode.
    volume
        (Z, Y, X), as recorded; planes are read one by one.

    Returns
    -------
    tuple or None
        ``None`` for a volume that is constant but for its noise, or holds NaN.
    """
    return _scale_of(model, *_brightest_part(volume, _part_shape(model, volume.shape)))


def voxels_looked_at(model: JNet, shape: tuple[int, ...]) -> int:
    """Return how many voxels `find_scale` makes in all of a recording of that shape."""
    if not model.params.any_scale:
        return 0
    return _STEPS * model.image.scale * math.prod(_part_shape(model, shape))


def _scale_of(model: JNet, part: Array, dark: float, bright: float) -> ValueRange | None:
    if not bright > dark:
        return None
    image = torch.from_numpy((part - dark) / (bright - dark)).clamp(min=0)
    image = image.float()[None, None].to(model.device)
    low, high = np.log(_PEAKS)
    high = min(high, math.log(_MOST_NOISE * (bright - dark) / max(_noise(part), 1e-12)))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = _brightness(model, (image * math.exp(middle)).clamp(max=1))
        low, high = (middle, high) if found < MIDDLE else (low, middle)
    return dark, dark + (bright - dark) / math.exp((low + high) / 2)


def _brightness(model: JNet, image: Tensor) -> float:
    """Return the mean brightness, by light, of the structure in an image (1, 1, Z, Y, X).

    By light, because dim tissue around bright cells may have most of the volume.
    """
    with torch.no_grad():
        structure, brightness = model.enhance(hill(image))
    light = structure * brightness
    return float((light * brightness).sum() / light.sum().clamp(min=1e-6))


def part_in_scale(model: JNet, volume: Planes) -> Tensor | None:
    """Return a bright part (1, 1, Z, Y, X) of a recording in the network's scale.

    As recorded, from 0 to 1, by networks that were not trained for any scale. ``None`` where there
    is nothing to see, see `find_scale`.
    """
    part, dark, bright = _brightest_part(volume, _part_shape(model, volume.shape))
    if model.params.any_scale:
        found = _scale_of(model, part, dark, bright)
        if found is None:
            return None
        dark, bright = found
    else:
        dark, bright = float(part.min()), float(part.max())
    if not bright > dark:
        return None
    image = torch.from_numpy((part - dark) / (bright - dark)).float().clamp(0, 1)
    return image[None, None].to(model.device)


def inside(model: JNet, image: Tensor) -> tuple[slice, ...]:
    """Return the part of an image (1, 1, Z, Y, X) that little light from outside of it reaches."""
    scale, kernel = model.image.scale, model.image.size_zyx
    reaches = (kernel[0] // scale // 2, kernel[1] // 2, kernel[2] // 2)
    margins = [min(r, n // 4) for r, n in zip(reaches, image.shape[2:], strict=True)]
    box = (slice(m, n - m) for m, n in zip(margins, image.shape[2:], strict=True))
    return slice(None), slice(None), *box


def _part_shape(model: JNet, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (Z, Y, X) of the part of a recording of that shape that suffices."""
    scale = model.image.scale
    planes = min(shape[0], max(model.image.size_zyx[0], _LEAST_SIDE) // scale)
    side = max(int((_VOXELS / (planes * scale)) ** 0.5), _LEAST_SIDE)
    return planes, min(shape[1], side), min(shape[2], side)


def _brightest_part(volume: Planes, shape: tuple[int, int, int]) -> tuple[Array, float, float]:
    """Return a part (Z, Y, X) of that shape with much light, and the darkest and the brightest.

    These are of all of the volume, without its noise.
    """
    levels = [_levels(_plane(volume, z)) for z in range(volume.shape[0])]
    planes, rows, columns = shape
    first = _best_window(np.array([light for *_, light in levels]), planes)
    flat = np.zeros(volume.shape[1:])
    for z in range(first, first + planes):
        flat += _plane(volume, z)
    top = _best_window(flat.sum(axis=1), rows)
    left = _best_window(flat[top : top + rows].sum(axis=0), columns)
    box = slice(top, top + rows), slice(left, left + columns)
    part = np.stack([_plane(volume, z)[box] for z in range(first, first + planes)])
    dark, bright = min(dark for dark, *_ in levels), max(bright for _, bright, _ in levels)
    return part.astype(np.float32), dark, bright


def _plane(volume: Planes, z: int) -> NDArray[Any]:
    plane: NDArray[Any] = volume[z : z + 1,][0]
    return plane


def _levels(plane: NDArray[Any]) -> tuple[float, float, float]:
    """Return the darkest, the brightest and the mean of a plane without its noise."""
    smooth = uniform_filter(plane.astype(np.float64), _SMOOTHING, mode="nearest")
    return float(smooth.min()), float(smooth.max()), float(smooth.mean())


def _noise(part: Array) -> float:
    """Return the standard deviation of the noise, by neighbours in a plane; 0 without any."""
    if part.shape[-1] == 1:
        return 0.0
    across = np.abs(np.diff(part, axis=-1))
    return float(np.quantile(across, _WITHIN_DEVIATION)) / math.sqrt(2)


def _best_window(light: NDArray[np.float64], width: int) -> int:
    """Return where the brightest window of that width starts."""
    total = np.r_[0.0, light.cumsum()]
    return int((total[width:] - total[:-width]).argmax())
