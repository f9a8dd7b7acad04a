"""Results, records and rows whose numbers are known."""

import numpy as np

from tenet.evaluation.scores import Record, Result, Row
from tenet.evaluation.statistics import Statistics
from tenet.objects.measurements import ObjectMeasurement


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def result(method="tenet", *, seed=0, truth=True, brightness=True):
    """Return a result of random volumes; planes are twice as fine as the image's."""
    volumes = {
        "image": random(4, 10, 12, seed=seed),
        "structure": random(8, 10, 12, seed=seed + 1),
        "brightness": random(8, 10, 12, seed=seed + 2) if brightness else None,
        "reconstruction": 0.5 * random(4, 10, 12, seed=seed + 3),
        "truth": (random(8, 10, 12, seed=seed + 4) > 0.5).astype(np.float32) if truth else None,
    }
    return Result("cell", method, voxel_um=(0.4, 0.2, 0.2), **volumes)


def measured(label, brightness):
    return ObjectMeasurement(
        label=label,
        centroid_um=(1.0, 2.0, 3.0),
        volume_um3=4.0,
        surface_um2=5.0,
        sphericity=0.6,
        z_xy_ratio=0.7,
        mean_intensity=brightness,
        touches_border=False,
    )


def record(threshold=0.5, objects=(), **values):
    return Record("cell", "tenet", threshold, values, objects)


def row(*, best=False, threshold=0.5, **scores):
    """Return a row whose scores are (number, mean, sd, ci95)."""
    summary = {score: Statistics(*numbers) for score, numbers in scores.items()}
    return Row("tenet", threshold, best, summary)
