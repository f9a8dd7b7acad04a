"""Scores of the weights that ship, beside refocused views and Richardson-Lucy, on unseen scenes.

Example: python tools/studies/demo_scores.py demo demo_fserenet --scenes 10
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import serenet
from optics import (
    LightFieldOperator,
    add_camera_noise,
    phase_space_psf,
    presets,
    psf_shift,
    sample_views,
    update,
)
from scopekit.metrics import correlation
from serenet.deconvolution.subsets import EXPONENT, ViewSubsets, flat_start, oblique_first
from serenet.simulation.scenes import tubes_and_bubbles

# Away from the seeds that training and validation scenes have.
FIRST_SEED = 20_000
PHOTONS, READ_NOISE = 500.0, 3.0
RL_VIEWS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", help="files, or names of shipped weights")
    parser.add_argument("--scenes", type=int, default=10)
    arguments = parser.parse_args()
    preset = presets["nnum13"].with_middle_depths(41)
    psf = phase_space_psf(preset, size=99)
    operator, shift, scale = LightFieldOperator(psf), psf_shift(psf), preset.lateral_scale
    models = {name: serenet.load_checkpoint(name) for name in arguments.checkpoints}
    channels = list(range(len(preset.views)))

    def refocus(views: Tensor) -> Tensor:
        mean = serenet.decompose(views, shift / scale).mean(dim=0)
        side = round(views.shape[-1] * scale)
        return F.interpolate(mean[None], size=(side, side), mode="bilinear")[0]

    def richardson_lucy(order: list[int], exponent: float) -> Callable[[Tensor], Tensor]:
        def solve(views: Tensor) -> Tensor:
            side = round(views.shape[-1] * scale)
            subsets = ViewSubsets(views, lambda a: psf[a : a + 1], preset, (side, side), order)
            volume = flat_start(subsets)
            for channel in order[:RL_VIEWS]:
                volume, _ = update(volume, subsets.subset(channel), exponent=exponent)
            return volume

        return solve

    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "refocused mean": refocus,
        f"RL, {RL_VIEWS} views from flat": richardson_lucy(channels, 1.0),
        f"RL, {RL_VIEWS} views, oblique first, long steps": richardson_lucy(
            oblique_first(preset), EXPONENT
        ),
    }
    for name, model in models.items():
        methods[name] = lambda views, model=model: serenet.reconstruct(views, model, shift, scale)
    scores: dict[str, list[float]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.scenes):
        truth = tubes_and_bubbles(seed, preset)
        clean = sample_views(operator.forward(torch.from_numpy(truth)), scale).clamp(min=0)
        generator = torch.Generator().manual_seed(seed)
        noisy = add_camera_noise(clean, photons=PHOTONS, read_noise=READ_NOISE, generator=generator)
        views = serenet.subtract_background(noisy)
        for name, method in methods.items():
            start = time.perf_counter()
            volume = method(views)
            seconds[name].append(time.perf_counter() - start)
            scores[name].append(correlation(truth, volume.numpy()))
    for name in methods:
        print(
            f"{name}: correlation {np.mean(scores[name]):.3f} "
            f"({min(scores[name]):.3f} to {max(scores[name]):.3f}), "
            f"{np.median(seconds[name]):.2f} s"
        )


if __name__ == "__main__":
    main()
