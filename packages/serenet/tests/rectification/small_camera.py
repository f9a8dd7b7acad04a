"""A small camera behind microlenses whose lattice is turned: frames and the views they hold."""

import math

import numpy as np

N_NUM = 9


PITCH = 9.4


TURN = math.radians(1.1)


STEPS = PITCH * np.array([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])


START = np.array([7.3, 8.1])


SHAPE = (200, 220)


def vignetting(i, j):
    return np.exp(-(((i - 9) / 22) ** 2) - ((j - 11) / 24) ** 2)


def uniform(i, j, u, v):
    """Light at (u, v) under lens (i, j), in pitches from its centre: a blurred pupil."""
    return 1 / (1 + np.exp((np.hypot(u, v) - 0.42) / 0.05)) + 0.03


def sample(i, j, u, v):
    """As `uniform`, times a smooth object seen shifted from view to view."""
    return uniform(i, j, u, v) * (1.5 + np.sin(0.5 * i + 2 * u) * np.cos(0.4 * j - 3 * v))


def expose(light, generator=None):
    """A camera frame: `light` averaged over each pixel, vignetted, on a dark level of 100."""
    frame = np.zeros(SHAPE)
    parts = np.linspace(-0.375, 0.375, 4)
    for dy in parts:
        for dx in parts:
            points = np.stack(
                np.meshgrid(np.arange(SHAPE[0]) + dy, np.arange(SHAPE[1]) + dx, indexing="ij"), -1
            )
            i, j = np.moveaxis((points - START) @ np.linalg.inv(STEPS), -1, 0)
            lens = np.round(i), np.round(j)
            frame += vignetting(*lens) * light(*lens, i - lens[0], j - lens[1])
    counts = 2000 * frame / len(parts) ** 2
    return 100 + (counts if generator is None else generator.poisson(counts))


def expected_views(light, lattice):
    """What the views should hold, averaged over the samples' width."""
    first = np.round(
        (np.array([lattice.offset_y, lattice.offset_x]) - START) @ np.linalg.inv(STEPS)
    )
    i, j = np.arange(lattice.rows)[:, None] + first[0], np.arange(lattice.columns) + first[1]
    shift = (np.arange(N_NUM) - N_NUM // 2) / N_NUM
    u, v = shift[:, None, None, None], shift[:, None, None]
    parts = np.linspace(-0.375, 0.375, 4) / N_NUM
    views = sum(light(i, j, u + du, v + dv) for du in parts for dv in parts) / len(parts) ** 2
    views = np.broadcast_to(views, (N_NUM, N_NUM, lattice.rows, lattice.columns))
    return 2000 * views.reshape(N_NUM**2, lattice.rows, lattice.columns), vignetting(i, j)
