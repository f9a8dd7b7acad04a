"""Axial width of small beads in the volumes of two or more networks.

Example: python tools/studies/axial_profile.py demo demo_fserenet --depths 41
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import serenet
from optics import (
    LightFieldOperator,
    LightFieldPreset,
    add_camera_noise,
    phase_space_psf,
    presets,
    psf_shift,
    sample_views,
)

SIDE = 156
SIGMA = 1.0  # voxels: a bead of about 0.5 um axially
PHOTONS = 500.0
READ_NOISE = 3.0


def beads(preset: LightFieldPreset, seed: int) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Return a volume (D, SIDE, SIDE) with nine beads far apart, and their centres."""
    rng = np.random.default_rng(seed)
    depth = len(preset.depths_um)
    volume = np.zeros((depth, SIDE, SIDE), np.float32)
    centres = []
    for row in (36, 78, 120):
        for column in (36, 78, 120):
            y, x = rng.integers(-6, 7, 2)
            centres.append([int(rng.integers(8, depth - 8)), row + int(y), column + int(x)])
            volume[tuple(centres[-1])] = 1
    blurred: NDArray[np.float32] = gaussian_filter(volume, SIGMA)
    return blurred * np.float32(300 / blurred.max()), centres


def full_width(profile: NDArray[np.float32], step_um: float) -> float:
    """Return the full width at half maximum around the largest value, um, interpolated."""
    top = int(profile.argmax())
    half = profile[top] / 2
    edges = []
    for side in (profile[top:], profile[top::-1]):
        below = np.flatnonzero(side < half)
        if len(below) == 0:
            return float("nan")
        n = int(below[0])
        edges.append(n - 1 + float((side[n - 1] - half) / (side[n - 1] - side[n])))
    return sum(edges) * step_um


def widths(volume: NDArray[np.float32], centres: list[list[int]], step_um: float) -> list[float]:
    """Return the axial widths of the beads, in the column of their brightest voxel nearby."""
    found = []
    for _, y, x in centres:
        column = volume[:, y - 3 : y + 4, x - 3 : x + 4]
        _, dy, dx = np.unravel_index(column.argmax(), column.shape)
        found.append(full_width(column[:, dy, dx], step_um))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", help="files, or names of shipped weights")
    parser.add_argument("--depths", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=3, help="volumes of nine beads")
    arguments = parser.parse_args()
    preset = presets["nnum13"].with_middle_depths(arguments.depths)
    psf = phase_space_psf(preset, size=99 if arguments.depths <= 41 else preset.psf_size)
    operator, shift, scale = LightFieldOperator(psf), psf_shift(psf), preset.lateral_scale
    models = {name: serenet.load_checkpoint(name) for name in arguments.checkpoints}
    measured: dict[str, list[float]] = {name: [] for name in ("truth", *models)}
    for seed in range(arguments.seeds):
        truth, centres = beads(preset, seed)
        views = sample_views(operator.forward(torch.from_numpy(truth)), scale).clamp(min=0)
        generator = torch.Generator().manual_seed(seed)
        noisy = add_camera_noise(views, photons=PHOTONS, read_noise=READ_NOISE, generator=generator)
        noisy = serenet.subtract_background(noisy)
        volumes = {
            name: serenet.reconstruct(noisy, model, shift, scale).numpy()
            for name, model in models.items()
        }
        for name, volume in {"truth": truth, **volumes}.items():
            measured[name] += widths(volume, centres, preset.depth_step_um)
    for name, values in measured.items():
        print(
            f"{name}: axial FWHM {np.nanmedian(values):.2f} um (median of {len(values)} beads, "
            f"quartiles {np.nanpercentile(values, 25):.2f} to {np.nanpercentile(values, 75):.2f}, "
            f"{int(np.isnan(values).sum())} without a half maximum)"
        )


if __name__ == "__main__":
    main()
