r"""How much of the error of moving scans motion correction takes away, in scenes it has not seen.

Examples: python tools/studies/motion_scores.py
          python tools/studies/motion_scores.py --checkpoint run/checkpoints/best.pt \
        --speeds 0 0.2 0.5 1
"""

import argparse
import math

import numpy as np
import torch

import serenet
from optics import LightFieldOperator, add_camera_noise, phase_space_psf, presets
from serenet.motion.correction import exposures_by_distance
from serenet.simulation.moving_scenes import moving_scene
from serenet.training.motion import without_outliers

FIRST_SEED = 20_001
DEPTHS, PSF_SIZE = 41, 99
READ_NOISE = 2.0


def main() -> None:
    """Print a table: relative errors (root mean square) against the scene at rest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="demo_twnet")
    parser.add_argument("--speeds", type=float, nargs="+", default=[0, 0.1, 0.2, 0.5, 1])
    parser.add_argument("--photons", type=float, nargs="+", default=[0, 500], help="0: no noise")
    parser.add_argument("--background", type=float, default=0.2, help="share of the peak")
    parser.add_argument("--scenes", type=int, default=6)
    options = parser.parse_args()
    model = serenet.load_checkpoint(options.checkpoint)
    microscope = presets["nnum13"].with_middle_depths(DEPTHS)
    microscope = microscope.with_views((microscope.central_view,))
    operator = LightFieldOperator(phase_space_psf(microscope, size=PSF_SIZE))
    angles = np.random.default_rng(FIRST_SEED).uniform(0, 2 * math.pi, options.scenes)
    print(f"{options.scenes} scenes; relative errors; speed in view pixels per exposure")
    print("photons  speed  scanned  corrected  left   middle exposure  training target")
    squares: dict[tuple[float, float], list[list[float]]] = {}
    for number, angle in enumerate(angles):
        for speed in options.speeds:
            drift = (speed * math.sin(angle), speed * math.cos(angle))
            scene = moving_scene(FIRST_SEED + number, [drift] * 9, microscope, operator)
            for photons in options.photons:
                still, moving = scene
                power = float(still.square().mean())
                background = options.background * float(torch.quantile(moving, 0.999))
                still, moving = still + background, moving + background
                if photons:
                    unit = float(moving.max()) / photons
                    generator = torch.Generator().manual_seed(number)
                    moving = unit * add_camera_noise(
                        moving, photons=photons, read_noise=READ_NOISE, generator=generator
                    )
                middle = exposures_by_distance(moving)[:, 0]
                found = (
                    moving,
                    serenet.correct_motion(moving, model),
                    middle,
                    without_outliers(moving, middle),
                )
                row = [float((views - still).square().mean()) / power for views in found]
                squares.setdefault((photons, speed), []).append(row)
    for (photons, speed), rows in sorted(squares.items()):
        before, after, middle, target = np.sqrt(np.mean(rows, axis=0))
        left = f"{after / before:6.2f}" if before else "     -"
        print(
            f"{photons or 'none':>7}{speed:7.2f}{before:9.3f}{after:11.3f}{left}"
            f"{middle:18.3f}{target:17.3f}"
        )


if __name__ == "__main__":
    main()
