"""Let a shipped network go on learning from light fields alone, of samples unlike its scenes.

The samples are folded, textured sheets; the network has seen tubes and bubbles. It gets noisy light
fields of twelve of them, no volume, and learns by the deconvolved light fields (teacher) and by the
likelihood of its projections. Twelve others tell what that is worth. Minutes on one core.

Example: python tools/studies/own_light_fields.py --out own_light_fields
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from optics import LightFieldOperator, add_camera_noise, phase_space_psf, presets, sample_views
from scopekit.images.files import open_stack, write_volume
from scopekit.metrics import correlation
from serenet import deconvolve, load_checkpoint, reconstruct, subtract_background

DEPTHS, PSF_SIZE, LENSES = 41, 99, 20
MICROSCOPE = presets["nnum13"].with_middle_depths(DEPTHS)
PHOTONS, READ_NOISE = 500.0, 3.0
TO_LEARN_FROM, TO_JUDGE_BY = range(1, 13), range(101, 113)
MIXTURES = {
    "teacher": {"teacher": 1.0},
    "likelihood": {"likelihood": 1.0},
    "teacher and likelihood": {"teacher": 1.0, "likelihood": 1.0},
}


def folded_sheets(seed: int) -> NDArray[np.float32]:
    """Draw two smooth, textured, holed surfaces: (D, H, W)."""
    rng = np.random.default_rng(seed)
    side = LENSES * MICROSCOPE.n_num
    volume = np.zeros((DEPTHS, side, side), np.float32)
    rows, columns = np.indices((side, side))
    for _ in range(2):
        height = gaussian_filter(
            rng.standard_normal((side, side)), rng.uniform(25, 50), mode="wrap"
        )
        height *= rng.uniform(4, 8) / height.std()
        texture = gaussian_filter(rng.standard_normal((side, side)), rng.uniform(2, 5), mode="wrap")
        bright = np.clip(texture / texture.std() + 0.3, 0, None) * rng.uniform(40, 120)
        planes = np.clip(np.rint(height + rng.uniform(12, DEPTHS - 12)), 0, DEPTHS - 1).astype(int)
        volume[planes, rows, columns] += bright
    blurred: NDArray[np.float32] = gaussian_filter(volume, (0.6, 1, 1))
    return blurred


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", default="demo", help="weights to start from")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    arguments = parser.parse_args()
    out: Path = arguments.out
    psf = phase_space_psf(MICROSCOPE, size=PSF_SIZE)
    record(out, psf)
    print_scores(out, psf, "before", arguments.start)
    for name, losses in MIXTURES.items():
        run = out / name.replace(" ", "_")
        settings: dict[str, Any] = {
            "recipe": "fast",
            "method": "serenet",
            "optics": "nnum13",
            "depths": DEPTHS,
            "psf_size": PSF_SIZE,
            "start_from": arguments.start,
            "data": {"views": str(out / "recorded")},
            "crop": 24,
            "crop_depths": None,
            "losses": losses,
            "learning_rate": arguments.learning_rate,
            "epochs": arguments.epochs,
            "validate_every": arguments.epochs,
            "save_every": arguments.epochs,
        }
        path = out / f"{run.name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "serenet", "train", path, "--out", run]
        if not (run / "checkpoints" / f"epoch-{arguments.epochs:04d}.pt").exists():
            subprocess.run([*map(str, command), "--resume"], check=True)
        print_scores(out, psf, name, str(run / "checkpoints" / "last.pt"))


def record(out: Path, psf: torch.Tensor) -> None:
    """Write noisy views to learn from, truths and noisy views to judge by."""
    operator = LightFieldOperator(psf)
    step_um = MICROSCOPE.view_pixel_um
    for seed in (*TO_LEARN_FROM, *TO_JUDGE_BY):
        folder = "recorded" if seed in TO_LEARN_FROM else "unseen"
        views_file = out / folder / f"sheet{seed:03d}.tif"
        if views_file.exists():
            continue
        truth = folded_sheets(seed)
        clean = sample_views(operator.forward(torch.from_numpy(truth)), MICROSCOPE.lateral_scale)
        generator = torch.Generator().manual_seed(seed)
        noisy = add_camera_noise(
            clean.clamp(min=0), photons=PHOTONS, read_noise=READ_NOISE, generator=generator
        )
        write_volume(out / "truth" / views_file.name, truth, MICROSCOPE.voxel_um, overwrite=True)
        write_volume(views_file, noisy.numpy(), (1.0, step_um, step_um), overwrite=True)


def print_scores(out: Path, psf: torch.Tensor, name: str, checkpoint: str) -> None:
    """Print the mean correlation with the truth over the unseen sheets."""
    model = load_checkpoint(checkpoint)
    marks: dict[str, list[float]] = {name: [], "deconvolved, 3 sweeps": []}
    for seed in TO_JUDGE_BY:
        file = out / "unseen" / f"sheet{seed:03d}.tif"
        views = subtract_background(torch.from_numpy(open_stack(file).read()))
        truth = open_stack(out / "truth" / file.name).read()
        inner = (slice(None), slice(20, -20), slice(20, -20))
        shift = model.learned_optics.shift if model.learned_optics else None
        volume = reconstruct(views, model, shift, MICROSCOPE.lateral_scale).numpy()
        marks[name].append(correlation(truth[inner], volume[inner]))
        if name == "before":
            volume = deconvolve(views, psf, 3, microscope=MICROSCOPE).numpy()
            marks["deconvolved, 3 sweeps"].append(correlation(truth[inner], volume[inner]))
    for title, values in marks.items():
        if values:
            print(
                f"{title}: {np.mean(values):.3f} ({min(values):.2f} - {max(values):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
