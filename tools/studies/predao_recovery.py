r"""What preDAO and the fitted aberrations regain of the correlation that aberrations cost.

Examples: python tools/studies/predao_recovery.py --waves 0.1 0.2 0.3
          python tools/studies/predao_recovery.py --volume cell.tif --checkpoint serenet.pth \
        --border 20 50
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import shift as move
from skimage.registration import phase_cross_correlation
from torch import Tensor

import serenet
from optics import (
    LightFieldMicroscope,
    LightFieldOperator,
    add_camera_noise,
    phase_space_psf,
    presets,
    psf_shift,
    sample_views,
)
from scopekit.images.files import open_stack
from scopekit.metrics import correlation
from serenet.aberrations.correlation import shift_views
from serenet.aberrations.fit import aberration_shifts, fit_aberrations
from serenet.simulation.scenes import tubes_and_bubbles

ABERRATIONS = {
    "astigmatism": {"astigmatism": 1.0},
    "coma": {"coma_x": 1.0},
    "both": {"astigmatism": 0.5**0.5, "coma_x": 0.5**0.5},
}
METHODS = ("aberrated", "preDAO", "preDAO, moved onto the truth", "fitted")
PHOTONS, READ_NOISE = 500.0, 3.0
VIEWS_AT_ONCE = 7


def record(
    volumes: list[Tensor],
    microscope: LightFieldMicroscope,
    size: int,
    aberrations: dict[str, float],
) -> tuple[list[Tensor], Tensor]:
    """Return the noisy views of every volume, and the PSF's shift."""
    parts: list[list[Tensor]] = [[] for _ in volumes]
    shifts = []
    for first in range(0, len(microscope.views), VIEWS_AT_ONCE):
        views = microscope.views[first : first + VIEWS_AT_ONCE]
        psf = phase_space_psf(microscope, views=views, size=size, aberrations=aberrations)
        shifts.append(psf_shift(psf))
        operator = LightFieldOperator(psf)
        for volume, part in zip(volumes, parts, strict=True):
            part.append(sample_views(operator.forward(volume), microscope.lateral_scale))
    generator = torch.Generator().manual_seed(0)
    noisy = [
        add_camera_noise(
            torch.cat(part).clamp(min=0),
            photons=PHOTONS,
            read_noise=READ_NOISE,
            generator=generator,
        )
        for part in parts
    ]
    return [serenet.subtract_background(views) for views in noisy], torch.cat(shifts)


def moved_onto(truth: Tensor, result: Tensor) -> Tensor:
    """Return a result moved as a whole, in y and x: preDAO leaves it where the central view is."""
    pair = truth.numpy().max(axis=0), result.numpy().max(axis=0)
    offset = phase_cross_correlation(*pair, upsample_factor=10, normalization=None)[0]
    return torch.from_numpy(move(result.numpy(), (0, *offset), order=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("demo"))
    parser.add_argument("--volume", type=Path, help="(101, Y, X) TIFF instead of small scenes")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--waves", type=float, nargs="+", default=[0.2], help="rms")
    parser.add_argument("--border", type=int, nargs=2, default=(3, 16), metavar=("Z", "XY"))
    arguments = parser.parse_args()
    model = serenet.load_checkpoint(arguments.checkpoint)
    if arguments.volume is None:
        microscope, size = presets["nnum13"].with_middle_depths(41), 99
        seeds = range(20_000, 20_000 + arguments.scenes)
        truths = [torch.from_numpy(tubes_and_bubbles(seed, microscope)) for seed in seeds]
    else:
        microscope, size = presets["nnum13"], 195
        truths = [torch.from_numpy(open_stack(arguments.volume).read())]
    scale = microscope.lateral_scale
    cuts = (arguments.border[0], arguments.border[1], arguments.border[1])
    inner = tuple(slice(n, -n or None) for n in cuts)

    def scores(fields: list[Tensor], *, placed: bool = False) -> float:
        found = []
        for truth, views in zip(truths, fields, strict=True):
            volume = serenet.reconstruct(views, model, shift, scale).clamp(min=0)
            volume = moved_onto(truth, volume) if placed else volume
            found.append(correlation(truth[inner].numpy(), volume[inner].numpy()))
        return float(np.mean(found))

    fields, shift = record(truths, microscope, size, {})
    best = scores(fields)
    print(f"correlation without aberrations: {best:.3f}")
    print("aberration (waves rms): correlation by " + "; ".join(METHODS) + "; (share regained)")
    for waves in arguments.waves:
        for name, parts in ABERRATIONS.items():
            given = {part: share * waves for part, share in parts.items()}
            fields, _ = record(truths, microscope, size, given)
            aligned = [serenet.predao(v, microscope.views, microscope.n_num, scale) for v in fields]
            fits = [fit_aberrations(v, microscope) for v in fields]
            undone = [
                shift_views(v, aberration_shifts(fit, microscope) / scale)
                for v, fit in zip(fields, fits, strict=True)
            ]
            before = scores(fields)
            after = [scores(aligned), scores(aligned, placed=True), scores(undone)]
            told = [f"{n:.3f} ({(n - before) / (best - before):.0%})" for n in after]
            print(f"{name} ({waves:g}): {before:.3f}; " + "; ".join(told), flush=True)


if __name__ == "__main__":
    main()
