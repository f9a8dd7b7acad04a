"""Score a network of any microscope on mixed scenes that it has not seen, beside refocusing.

The checkpoint tells the microscope. Views get 500 photons in the brightest pixel and read noise 3.

Example: python tools/studies/unseen_scenes.py my_run --scenes 8
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from optics import add_camera_noise, phase_space_psf, psf_shift
from scopekit.images.files import open_stack
from scopekit.metrics import correlation
from serenet import decompose, load_checkpoint, reconstruct, subtract_background
from serenet.simulation.training_scenes import write_scenes

PHOTONS, READ_NOISE, FIRST_SEED = 500.0, 3.0, 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="run of serenet train, or shipped weights")
    parser.add_argument("--scenes", type=int, default=8)
    arguments = parser.parse_args()
    model = load_checkpoint(arguments.checkpoint)
    assert model.learned_optics is not None
    microscope = model.learned_optics.microscope
    psf = phase_space_psf(microscope, size=microscope.psf_size)
    shift, scale = psf_shift(psf), microscope.lateral_scale
    marks = []
    with tempfile.TemporaryDirectory() as temporary:
        folder, seeds = Path(temporary), range(FIRST_SEED, FIRST_SEED + arguments.scenes)
        write_scenes(folder, "mixed", seeds, microscope, psf, keep=False)
        for seed, file in zip(seeds, sorted((folder / "views").glob("*.tif")), strict=True):
            truth = open_stack(folder / "volumes" / file.name).read()
            noisy = add_camera_noise(
                torch.from_numpy(open_stack(file).read()),
                photons=PHOTONS,
                read_noise=READ_NOISE,
                generator=torch.Generator().manual_seed(seed),
            )
            views = subtract_background(noisy)
            mean = decompose(views, shift / scale).mean(dim=0)
            refocused = F.interpolate(mean[None], size=truth.shape[1:], mode="bilinear")[0]
            volume = reconstruct(views, model, shift, scale)
            marks.append([correlation(truth, v.numpy()) for v in (refocused, volume)])
            print("refocused mean {:.3f}, network {:.3f}".format(*marks[-1]), flush=True)
    means = np.mean(marks, axis=0)
    print("mean: refocused {:.3f}, network {:.3f}".format(*means))


if __name__ == "__main__":
    main()
