"""Scenes of mixed kinds for any microscope: tubes, shells, balls and beads, sparse or dense.

Sizes are drawn in units of a quarter of a view pixel, which is about what a network resolves, so
that the scenes of every microscope are as difficult. Many sizes, numbers, depths and brightnesses
are drawn, because a network knows only what it was shown.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from optics import LightFieldMicroscope

Volume = NDArray[np.float32]

_CURVE_POINTS = 1500
# Numbers of objects are for a square of so many units.
_AREA = 240**2
_MOST_KINDS = 4
_ONE_KIND = 0.4
_LEAST_BRIGHTNESS = 20.0


def scene_shape(microscope: LightFieldMicroscope, lenses: int) -> tuple[int, int, int]:
    """Return (D, H, W) of scenes so many microlenses wide."""
    side = lenses * microscope.n_num
    return len(microscope.depths_um), side, side


def draw_scene(rng: Generator, microscope: LightFieldMicroscope, lenses: int) -> Volume:
    """Draw one scene.

    Parameters
    ----------
    rng
        Source of all that is random.
    microscope
        The microscope, which gives the voxels.
    lenses
        Width of the field in microlenses.

    Returns
    -------
    ndarray
        (D, H, W), brightness 0 to a few hundred.
    """
    shape = scene_shape(microscope, lenses)
    total = np.zeros(shape, np.float32)
    while total.max() < _LEAST_BRIGHTNESS:
        n_kinds = 1 if rng.random() < _ONE_KIND else int(rng.integers(2, _MOST_KINDS + 1))
        for index in rng.choice(len(_KINDS), n_kinds, p=list(_KINDS.values())):
            canvas = _Canvas(microscope, lenses, rng)
            list(_KINDS)[index](canvas, rng)
            # From as fine as thin tubes to as coarse as a view pixel.
            sigma = _log_uniform(rng, 0.4, 3) * canvas.unit
            total += gaussian_filter(
                canvas.volume, (sigma / canvas.anisotropy, sigma, sigma), mode="nearest"
            )
    return total


class _Canvas:
    """A volume to draw on, and where objects may lie in it."""

    def __init__(self, microscope: LightFieldMicroscope, lenses: int, rng: Generator) -> None:
        self.volume: Volume = np.zeros(scene_shape(microscope, lenses), np.float32)
        self.unit = microscope.lateral_scale / 4
        self.anisotropy = microscope.depth_step_um / microscope.pixel_um
        self.crowd = (lenses * microscope.n_num / self.unit) ** 2 / _AREA
        # Thick and thin samples: objects within a part of the range.
        depths = self.volume.shape[0]
        thickness = depths * (1.0 if rng.random() < 0.5 else rng.uniform(0.2, 1))
        first = rng.uniform(0, depths - thickness)
        self.depth_range = (first, first + thickness)

    def places(self, rng: Generator, count: int, beyond: float = 0.0) -> NDArray[np.float64]:
        """Return (count, 3) positions; laterally also ``beyond`` times the side outside."""
        side = self.volume.shape[1]
        z = rng.uniform(*self.depth_range, count)
        yx = rng.uniform(-beyond * side, (1 + beyond) * side, (count, 2))
        return np.column_stack([z, yx])

    def stamp(
        self,
        centre: NDArray[np.float64],
        value: float,
        radii: tuple[float, float, float],
        inner: float = 0.0,
    ) -> None:
        """Add an ellipsoid; hollow within ``inner`` times the radii."""
        window, grids = [], []
        for c, r, n in zip(centre, radii, self.volume.shape, strict=True):
            first, last = max(math.ceil(c - r), 0), min(math.floor(c + r) + 1, n)
            if first >= last:
                return
            window.append(slice(first, last))
            grids.append((np.arange(first, last) - c) / r)
        z, y, x = np.ix_(*grids)
        rho = z**2 + y**2 + x**2
        self.volume[tuple(window)] += np.float32(value) * ((rho <= 1) & (rho >= inner**2))

    def ball(self, radius: float) -> tuple[float, float, float]:
        """Return the radii in voxels of a ball of a radius in lateral voxels."""
        return max(radius / self.anisotropy, 0.5), radius, radius

    def thick_curve(self, points: NDArray[np.float64], value: float, radius: float) -> None:
        """Brighten all voxels within a radius of a curve to a value."""
        reach = self.ball(radius)
        sizes = [np.arange(-math.floor(r), math.floor(r) + 1) / r for r in reach]
        z, y, x = np.ix_(*sizes)
        offsets = np.argwhere(z**2 + y**2 + x**2 <= 1) - [len(s) // 2 for s in sizes]
        voxels = np.unique(np.rint(points).astype(np.int64), axis=0)
        flat = self.volume.reshape(-1)
        for offset in offsets:
            moved = voxels + offset
            inside = ((moved >= 0) & (moved < self.volume.shape)).all(axis=1)
            places = np.ravel_multi_index(tuple(moved[inside].T), self.volume.shape)
            flat[places] = np.maximum(flat[places], np.float32(value))


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _count(canvas: _Canvas, rng: Generator, low: float, high: float) -> int:
    return max(round(_log_uniform(rng, low, high) * canvas.crowd), 1)


def _tubes(canvas: _Canvas, rng: Generator) -> None:
    radius = _log_uniform(rng, 0.8, 3.5) * canvas.unit
    t = np.linspace(0, 1, _CURVE_POINTS)[:, None]
    for _ in range(_count(canvas, rng, 4, 40)):
        start, end = canvas.places(rng, 2, beyond=0.3)
        middle = (start + end) / 2 + rng.uniform(-0.25, 0.25, 3) * canvas.volume.shape
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        canvas.thick_curve(curve, 20 + rng.uniform(0, 500), radius)


def _shells_and_balls(canvas: _Canvas, rng: Generator) -> None:
    size = _log_uniform(rng, 6, 35) * canvas.unit
    wall = _log_uniform(rng, 1, 3) * canvas.unit
    for centre in canvas.places(rng, _count(canvas, rng, 2, 16), beyond=0.1):
        radius = size * rng.uniform(0.7, 1.3)
        # Thinner walls would fall between planes.
        inner = 0.0 if rng.random() < 0.5 else max(1 - max(wall, canvas.anisotropy) / radius, 0.3)
        canvas.stamp(centre, 20 + rng.uniform(0, 200), canvas.ball(radius), inner)


def _beads(canvas: _Canvas, rng: Generator) -> None:
    flat = rng.uniform(0.5, 1)
    for centre in canvas.places(rng, _count(canvas, rng, 8, 250), beyond=0.02):
        radius = rng.uniform(1, 5) * canvas.unit
        z, y, x = canvas.ball(radius)
        canvas.stamp(centre, 40 + rng.uniform(0, 200), (max(z * flat, 0.5), y, x))


def _big_beads(canvas: _Canvas, rng: Generator) -> None:
    for centre in canvas.places(rng, _count(canvas, rng, 1, 5)):
        radius = rng.uniform(8, 70) * canvas.unit
        z, y, x = canvas.ball(radius)
        flat = rng.uniform(0.08, 0.3)
        canvas.stamp(centre, 10 + rng.uniform(0, 100), (max(z * flat, 0.6), y, x))


_KINDS: dict[Callable[[_Canvas, Generator], None], float] = {
    _tubes: 0.35,
    _shells_and_balls: 0.2,
    _beads: 0.25,
    _big_beads: 0.2,
}
"""Kinds and how often they are drawn: big flat ones, which are hard, more often than in bubtub."""
