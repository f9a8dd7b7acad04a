"""A small volume of tubes and solids of known structure, made on the spot."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_TUBES = 12
_SOLIDS = 6
_TUBE_RADII = (2.5, 4.5)
_SOLID_RADII = (5.0, 11.0)
_BRIGHTNESS_SPREAD = 0.5


def tubes_and_solids(seed: int, shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """Draw curved tubes and ellipsoids.

    Parameters
    ----------
    seed
        Of the volume.
    shape
        (Z, Y, X).

    Returns
    -------
    structure, brightness : ndarray
        Of that shape: 1 in objects, else 0; and their brightness, 0 to 1, the brightest on top.
    """
    rng = np.random.default_rng(seed)
    number = _TUBES + _SOLIDS
    brightness = np.minimum(np.exp(_BRIGHTNESS_SPREAD * rng.standard_normal(number)), 1)
    kinds = rng.permutation(number) < _TUBES
    volume = np.zeros(shape, np.float32)
    for is_tube, value in sorted(zip(kinds, brightness, strict=True), key=lambda pair: pair[1]):
        z, y, x = _tube(rng, shape) if is_tube else _ellipsoid(rng, shape)
        volume[z, y, x] = value
    return (volume > 0).astype(np.float32), volume


def _tube(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.int_]:
    ends = rng.uniform(-0.1, 1.1, (2, 3)) * shape
    bend = ends.mean(axis=0) + rng.uniform(-0.3, 0.3, 3) * shape
    t = np.linspace(0, 1, 4 * max(shape))[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
    places = np.unique(np.rint(curve).astype(int), axis=0)
    ball = _ball(np.full(3, rng.uniform(*_TUBE_RADII)))
    return _inside((places[:, None] + ball).reshape(-1, 3), shape)


def _ellipsoid(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.int_]:
    centre = np.rint(rng.uniform(0, 1, 3) * shape).astype(int)
    return _inside(centre + _ball(rng.uniform(*_SOLID_RADII, 3)), shape)


def _ball(radii: NDArray[np.float64]) -> NDArray[np.int_]:
    """Return the voxels (n, 3) of an ellipsoid about the origin."""
    reach = np.ceil(radii).astype(int)
    axes = [np.arange(-n, n + 1) for n in reach]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    ball: NDArray[np.int_] = grid[np.square(grid / radii).sum(axis=1) <= 1]
    return ball


def _inside(places: NDArray[np.int_], shape: tuple[int, int, int]) -> NDArray[np.int_]:
    inside: NDArray[np.int_] = places[((places >= 0) & (places < shape)).all(axis=1)].T
    return inside
