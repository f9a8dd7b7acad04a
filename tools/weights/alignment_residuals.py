"""Residual shifts of vibrating stacks, aligned by the network that ships and by correlation.

``python tools/weights/alignment_residuals.py CONFIG`` prints a table for unseen phantoms of the
published bead model. A residual is the root mean square over slices, axes and stacks of what is
left of the true shifts, in pixels, their mean removed: of all (whole), with the linear trend of
the estimate left in the stack (trend kept: the default of ``tenet.alignment.shifts.align``), and
the trend of what is left aside (trend aside; also of the median and of the worst stack).
"""

import argparse
import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation
from torch import Tensor
from train_alignment import field, slanted_field

from optics import add_two_photon_noise
from tenet.alignment.shifts import correlate_neighbours, load_alignment, remove_trend
from tenet.alignment.vibration import Strength, draw_shifts, shift_slices
from tenet.config.files import load_config

FIRST, SIDE = 20_000, 128
NOISES = {"published noise": (1e-3, 1e-3), "noisy": (0.05, 0.02)}
VIBRATIONS = {"with drift": Strength(0.2, 2, 2, 2), "without drift": Strength(0, 2, 2, 2)}
Estimate = Callable[[Tensor], Tensor]


def whitened(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Phase correlation proper of neighbouring slices."""
    steps = [np.zeros(2)]
    for previous, current in pairwise(stack):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            steps.append(phase_cross_correlation(current, previous, upsample_factor=20)[0])
    shifts = np.cumsum(steps, axis=0)
    centred: NDArray[np.float32] = (shifts - shifts.mean(axis=0)).astype(np.float32)
    return centred


def methods() -> dict[str, Estimate]:
    model = load_alignment()

    def by_network(stack: Tensor) -> Tensor:
        with torch.no_grad():
            shifts: Tensor = model(stack[None, None])[-1, 0]
        return shifts

    return {
        "nothing": lambda stack: torch.zeros(len(stack), 2),
        "phase correlation": lambda stack: torch.from_numpy(whitened(stack.numpy())),
        "cross-correlation": lambda stack: torch.from_numpy(correlate_neighbours(stack.numpy())),
        "network": by_network,
    }


def shaken(still: Tensor, shifts: Tensor, noise: tuple[float, float], seed: int) -> Tensor:
    """Return the middle of a shaken field, so that no border shows, with noise."""
    margin = (still.shape[-1] - SIDE) // 2
    inner = slice(margin, margin + SIDE)
    moved = shift_slices(still[None, None], shifts[None])[0, 0, :, inner, inner]
    generator = torch.Generator().manual_seed(seed)
    return add_two_photon_noise(moved, *noise, generator).clamp(0, 1)


def rms(values: list[Tensor]) -> float:
    return float(torch.stack(values).square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="the published configuration of the beads")
    parser.add_argument("--fields", type=int, default=12)
    parser.add_argument("--vibrations", type=int, default=2, help="of every field")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    fields = [torch.from_numpy(field(config, FIRST + number)) for number in range(arguments.fields)]
    print("vibration | noise | method | whole | trend kept | trend aside | median | worst | s")
    for vibration, strength in VIBRATIONS.items():
        for noise, levels in NOISES.items():
            for method, estimate in methods().items():
                whole, kept, aside, seconds = [], [], [], 0.0
                for number in range(arguments.fields * arguments.vibrations):
                    still = fields[number % arguments.fields]
                    rng = np.random.default_rng(number)
                    shifts = torch.from_numpy(draw_shifts(strength, len(still), rng))
                    stack = shaken(still, shifts, levels, number)
                    start = time.perf_counter()
                    found = estimate(stack)
                    seconds += time.perf_counter() - start
                    whole.append(found - shifts)
                    kept.append(remove_trend(found) - shifts)
                    aside.append(remove_trend(found - shifts))
                stacks = sorted(rms([left]) for left in aside)
                print(
                    f"{vibration} | {noise} | {method} | {rms(whole):.2f} | {rms(kept):.2f} | "
                    f"{rms(aside):.2f} | {np.median(stacks):.2f} | {stacks[-1]:.2f} | "
                    f"{seconds / len(whole):.2f}",
                    flush=True,
                )
    still = torch.from_numpy(slanted_field(config))
    stack = shaken(still, torch.zeros(len(still), 2), NOISES["published noise"], 0)
    for method, estimate in methods().items():
        found = estimate(stack)
        bent = rms([remove_trend(found)])
        slope = (found[-1] - found[0]) / (len(found) - 1)
        print(
            f"lines that slant by 1 pixel a slice along y, still | {method} | takes away "
            f"{float(slope[0]):.2f} pixels a slice, and bends by {bent:.2f} pixels"
        )


if __name__ == "__main__":
    main()
