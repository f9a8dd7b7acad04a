"""Small windows of bubtub groups and their views, to train the shipped networks with.

Each window lies around an object of its group, drawn from the seed, and holds all depths of the
microscope: ``OUT/volumes/`` and ``OUT/views/``, the views of the network alone. Groups come in a
cycle of 15 kinds; ``--again`` draws the windows of some kinds from other seeds once more.

Example: python tools/weights/bubtub_windows.py bubtub_windows --cycles 6 --again 4 5 6 14 15
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from datagen.bubtub.scenes import CYCLE, Field, Scene, full_field, make_scene
from datagen.bubtub.volumes import draw_volume
from optics import BandLimitedOperator, phase_space_psf, presets, sampled_size
from scopekit.images.files import write_volume
from scopekit.progress import progress_bar

SIDE = 260
# Windows lie so far from the object's middle, shares of their side.
AWAY = 0.4


def window_of(group: int, seed: int, field: Field, scene: Scene) -> tuple[slice, slice, slice]:
    """Return a window (z, y, x) of all depths around an object of a scene."""
    rng = np.random.default_rng([seed, group, 5])
    points = scene.objects.points()
    point = points[rng.integers(len(points))]
    corners = []
    for axis in (1, 2):
        start = round(point[axis] + rng.uniform(-AWAY, AWAY) * SIDE) - SIDE // 2
        corners.append(int(np.clip(start, 0, field.side - SIDE)))
    row, column = corners
    return slice(0, field.depths), slice(row, row + SIDE), slice(column, column + SIDE)


def main() -> None:
    """Draw and project the windows that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--microscope", default="nnum13", choices=list(presets))
    parser.add_argument("--cycles", type=int, default=6, help="of 15 groups")
    parser.add_argument("--again", type=int, nargs="*", default=[], help="kinds of groups")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    microscope = presets[options.microscope]
    groups = [(options.seed, g) for g in range(1, CYCLE * options.cycles + 1)]
    groups += [(s + 1, g) for s, g in groups if (g - 1) % CYCLE + 1 in options.again]
    views = sampled_size(SIDE, microscope.lateral_scale)
    operator = BandLimitedOperator(
        phase_space_psf(microscope, size=microscope.psf_size),
        (SIDE, SIDE),
        (views, views),
        sampling="cubic",
    )
    field = full_field(microscope)
    step_um = microscope.view_pixel_um
    with progress_bar("drawing windows", len(groups)) as advance:
        for seed, group in groups:
            name = f"seed{seed}_group{group:03d}.tif"
            if not (options.out / "views" / name).exists():
                scene = make_scene(field, seed, group)
                place = window_of(group, seed, field, scene)
                volume = draw_volume(field, scene, place).astype(np.float32)
                recorded = operator.forward(torch.from_numpy(volume)).clamp_(min=0).numpy()
                where = options.out / "volumes" / name
                write_volume(where, volume, microscope.voxel_um, overwrite=True)
                where = options.out / "views" / name
                write_volume(where, recorded, (1.0, step_um, step_um), overwrite=True)
            advance()


if __name__ == "__main__":
    main()
