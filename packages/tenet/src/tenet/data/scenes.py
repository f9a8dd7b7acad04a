"""Random scenes of known structure: tubes, lines, balls, solids and shells, dense or sparse."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_Point = NDArray[np.float64]
# How often a kind is among those of a scene, and how many there are in a full cube of `_CUBE`.
_KINDS = {
    "tube": (0.20, 10),
    "line": (0.14, 14),
    "axial line": (0.18, 10),
    "ball": (0.24, 12),
    "solid": (0.13, 5),
    "shell": (0.05, 3),
    "speck": (0.12, 30),
}
_CUBE = 64**3
_MOST_KINDS = 3
_SPREAD = 0.5  # of the logarithm of brightness among the objects of a scene, at most


def draw_scene(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    step: float = 1.0,
    brightness: tuple[float, float] = (0.15, 1.0),
) -> tuple[Array, Array]:
    """Draw a scene of one to three kinds of objects.

    Parameters
    ----------
    rng
        Decides all.
    shape
        (Z, Y, X).
    step
        Size of voxels along z, as a multiple of that across. Lengths here count in voxels across:
        radii are 1 to 15.
    brightness
        Range of the scene's brightness; that of its objects differs from it.

    Returns
    -------
    structure, brightness : ndarray
        Of that shape: 1 in objects, else 0; and their brightness, 0 to 1, the brightest on top.
    """
    spacing = np.array([step, 1.0, 1.0])
    size = np.array(shape) * spacing
    shares = np.array([share for share, _ in _KINDS.values()])
    number = int(rng.integers(1, _MOST_KINDS + 1))
    kinds = rng.choice(list(_KINDS), size=number, replace=False, p=shares / shares.sum())
    crowd = rng.uniform(0.2, 1.0) ** 2 * size.prod() / _CUBE
    level = np.exp(rng.uniform(*np.log(brightness)))
    spread = rng.uniform(0, _SPREAD)
    objects = [
        (min(level * float(np.exp(spread * rng.standard_normal())), 1.0), str(kind))
        for kind in kinds
        for _ in range(max(int(rng.poisson(crowd * _KINDS[kind][1])), 1))
    ]
    volume = np.zeros(shape, np.float32)
    for value, kind in sorted(objects):
        _DRAW[kind](_Canvas(volume, spacing, value), size, rng)
    return (volume > 0).astype(np.float32), volume


class _Canvas:
    """A volume in which objects of one brightness are drawn; lengths in voxels across."""

    def __init__(self, volume: Array, spacing: _Point, value: float) -> None:
        self.volume, self.spacing, self.value = volume, spacing, value

    def ellipsoid(
        self, centre: _Point, radii: _Point, axes: _Point, hollow: float | None = None
    ) -> None:
        """Draw an ellipsoid; only what is beyond a share of its radii, if it is ``hollow``."""
        reach = radii.max()
        low = np.maximum(np.ceil((centre - reach) / self.spacing), 0).astype(int)
        high = np.floor((centre + reach) / self.spacing).astype(int) + 1
        high = np.minimum(high, self.volume.shape)
        if (high <= low).any():
            return
        z, y, x = (
            np.arange(a, b) * s - c
            for a, b, s, c in zip(low, high, self.spacing, centre, strict=True)
        )
        grid = z[:, None, None], y[:, None], x
        distance = sum(
            (sum(p * d for p, d in zip(grid, axis, strict=True)) / radius) ** 2
            for axis, radius in zip(axes, radii, strict=True)
        )
        mask = distance <= 1
        if hollow is not None:
            mask &= distance >= hollow**2
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        self.volume[box][mask] = self.value

    def tube(self, points: _Point, radii: _Point) -> None:
        """Draw balls along points (n, 3), so near each other that they make a tube."""
        reach = np.floor(radii.max() / self.spacing).astype(int) + 1
        axes = [np.arange(-n, n + 1) for n in reach]
        ball = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        voxels = np.rint(points / self.spacing).astype(int)
        kept = np.r_[True, (np.diff(np.rint(points), axis=0) != 0).any(axis=1)]
        kept &= ((voxels >= -reach) & (voxels < self.volume.shape + reach)).all(axis=1)
        places = voxels[kept, None] + ball
        distances = np.square(places * self.spacing - points[kept, None]).sum(axis=-1)
        inside = places[distances <= radii[kept, None] ** 2]
        inside = inside[((inside >= 0) & (inside < self.volume.shape)).all(axis=1)]
        self.volume[tuple(inside.T)] = self.value


def _tube(canvas: _Canvas, size: _Point, rng: np.random.Generator) -> None:
    ends = rng.uniform(-0.1, 1.1, (2, 3)) * size
    bend = ends.mean(axis=0) + rng.uniform(-0.3, 0.3, 3) * size
    radius = _between(rng, 1.5, 5)
    t = np.linspace(0, 1, int(1.5 * np.linalg.norm(ends[1] - ends[0])) + 4)[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
    canvas.tube(curve, np.linspace(rng.uniform(0.6, 1) * radius, radius, len(curve)))


def _line(canvas: _Canvas, size: _Point, rng: np.random.Generator, tilt: float = np.inf) -> None:
    """Draw a straight thin line, its direction from the z axis by about so much."""
    across = rng.standard_normal(3)
    direction = across if np.isinf(tilt) else np.array([1, *tilt * across[1:]])
    direction /= np.linalg.norm(direction)
    along = np.arange(-1, 1, 1 / 32)[:, None] * rng.uniform(8, 30)
    points = rng.uniform(0, 1, 3) * size + along * direction
    canvas.tube(points, np.full(len(points), rng.uniform(1, 2.6)))


def _axial_line(canvas: _Canvas, size: _Point, rng: np.random.Generator) -> None:
    _line(canvas, size, rng, tilt=0.15)


def _ball(canvas: _Canvas, size: _Point, rng: np.random.Generator) -> None:
    _place(canvas, size, rng, np.full(3, _between(rng, 2, 9)))


def _speck(canvas: _Canvas, size: _Point, rng: np.random.Generator) -> None:
    _place(canvas, size, rng, np.full(3, rng.uniform(1, 2.5)))


def _solid(canvas: _Canvas, size: _Point, rng: np.random.Generator) -> None:
    _place(canvas, size, rng, np.array([_between(rng, 4, 15) for _ in range(3)]))


def _shell(canvas: _Canvas, size: _Point, rng: np.random.Generator) -> None:
    radii = _between(rng, 6, 14) * rng.uniform(0.7, 1.3, 3)
    _place(canvas, size, rng, radii, hollow=1 - rng.uniform(1.5, 3) / radii.min())


def _place(
    canvas: _Canvas,
    size: _Point,
    rng: np.random.Generator,
    radii: _Point,
    hollow: float | None = None,
) -> None:
    centre = rng.uniform(-0.05, 1.05, 3) * size
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    canvas.ellipsoid(centre, radii, axes, hollow)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a length, its logarithm uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


_DRAW: dict[str, Callable[[_Canvas, _Point, np.random.Generator], None]] = {
    "tube": _tube,
    "line": _line,
    "axial line": _axial_line,
    "ball": _ball,
    "solid": _solid,
    "shell": _shell,
    "speck": _speck,
}
