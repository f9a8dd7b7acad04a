"""How long beads are along z in the volumes of networks for nnum13, and how wide.

Ten beads of 0.5 um lie apart in the whole depth range, in each of three noisy light fields (500
photons, read noise 3). Width is the full width at half maximum through the brightest voxel near the
bead, median over all beads.

Example: python tools/studies/bead_widths.py serenet_nnum13 fserenet_nnum13
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from optics import (
    LightFieldOperator,
    add_camera_noise,
    phase_space_psf,
    presets,
    psf_shift,
    sample_views,
)
from serenet import load_checkpoint, reconstruct, subtract_background

MICROSCOPE = presets["nnum13"]
SIDE, BEADS, FIELDS, RADIUS_UM = 299, 10, 3, 0.25
PHOTONS, READ_NOISE = 500.0, 3.0
NEAR = (10, 8, 8)  # voxels around a bead in which it is looked for
APART = 40.0


def beads(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a volume (D, H, W) of balls, and their centres."""
    rng = np.random.default_rng(seed)
    depths = len(MICROSCOPE.depths_um)
    volume = np.zeros((depths, SIDE, SIDE), np.float32)
    voxel_um = np.array(MICROSCOPE.voxel_um)
    centres: list[NDArray[np.int64]] = []
    while len(centres) < BEADS:
        new = rng.integers((12, 50, 50), (depths - 12, SIDE - 50, SIDE - 50))
        if all(np.hypot(*(new - c)[1:]) > APART for c in centres):
            centres.append(new)
    reach = np.ceil(RADIUS_UM / voxel_um).astype(int)
    offsets = np.indices(tuple(2 * reach + 1)).reshape(3, -1).T - reach
    offsets = offsets[(np.square(offsets * voxel_um).sum(1)) <= RADIUS_UM**2]
    for centre in centres:
        volume[tuple((centre + offsets).T)] = 100
    return volume, np.array(centres)


def full_width(profile: NDArray[np.float32], peak: int) -> float:
    """Return the width at half of the value at ``peak``, in samples."""
    half = profile[peak] / 2
    ends = []
    for side in (profile[peak::-1], profile[peak:]):
        below = np.flatnonzero(side < half)
        if not len(below):
            return float("nan")
        n = int(below[0])
        ends.append(n - 1 + float((side[n - 1] - half) / (side[n - 1] - side[n])))
    return sum(ends)


def widths(volume: NDArray[np.float32], centres: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Return axial and lateral width of each bead, um."""
    found = []
    for centre in centres:
        window = tuple(slice(c - n, c + n + 1) for c, n in zip(centre, NEAR, strict=True))
        near = volume[window]
        z, y, x = (
            int(p) + s.start
            for p, s in zip(np.unravel_index(near.argmax(), near.shape), window, strict=True)
        )
        axial = full_width(volume[:, y, x], z) * MICROSCOPE.voxel_um[0]
        found.append((axial, full_width(volume[z, y], x) * MICROSCOPE.voxel_um[2]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    arguments = parser.parse_args()
    psf = phase_space_psf(MICROSCOPE, size=MICROSCOPE.psf_size)
    operator, shift = LightFieldOperator(psf), psf_shift(psf)
    models = {name: load_checkpoint(name) for name in arguments.checkpoints}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for seed in range(FIELDS):
        truth, centres = beads(seed)
        clean = sample_views(operator.forward(torch.from_numpy(truth)), MICROSCOPE.lateral_scale)
        noisy = add_camera_noise(
            clean.clamp(min=0),
            photons=PHOTONS,
            read_noise=READ_NOISE,
            generator=torch.Generator().manual_seed(seed),
        )
        views = subtract_background(noisy)
        for name, model in models.items():
            volume = reconstruct(views, model, shift, MICROSCOPE.lateral_scale).numpy()
            found[name] += widths(volume, centres)
    for name, pairs in found.items():
        axial, lateral = np.nanmedian(np.array(pairs), axis=0)
        print(f"{name}: {axial:.2f} um along z, {lateral:.2f} um across")


if __name__ == "__main__":
    main()
