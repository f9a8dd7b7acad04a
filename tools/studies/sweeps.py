"""How many sweeps a deconvolution needs: correlation with the truth after each, by photons.

``python tools/studies/sweeps.py [VESICLE_FOLDER]`` simulates the demo's scanned light field, an
unscanned one of the recorded vesicle's microscope, made of 15 voxels a lens and solved with 5, and
takes the simulated vesicle of the folder (see `real_light_fields`). It prints the correlation after
every sweep, and how many ``serenet deconvolve`` makes by itself.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from real_light_fields import GUV, Result, truth_correlation
from torch import Tensor

from optics import BandLimitedOperator, LightFieldMicroscope, richardson_lucy, volume_sieve
from optics.lightfield.band import Sampling
from scopekit.images.files import open_stack
from scopekit.metrics import correlation
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.stopping import MOST_SWEEPS, is_enough, is_noise
from serenet.deconvolution.subsets import EXPONENT, ViewSubsets, flat_start, split_pedestal
from serenet.demo import make_light_field
from serenet.rectification.files import rectify_files
from serenet.simulation.scenes import tubes_and_bubbles
from serenet.views.brightness import subtract_background
from serenet.views.microscope import load_microscope
from serenet.views.psf import ViewPSF, psf_of_views, view_groups

COARSE = 5
PHOTONS = (3000, 300, 100, 30, 10)
READ_NOISE = 3.0
Score = Callable[[NDArray[np.float32]], float]


def study(name: str, clean: Tensor, psf: ViewPSF, m: LightFieldMicroscope, score: Score) -> None:
    """Print the scores of a light field without noise and with some."""
    sieve = volume_sieve(m) if m.scanning == 1 else None
    operators = ViewOperators(psf, m, math.inf, sieve)
    _, height, width = m.volume_shape(clean.shape[-2:])
    rng = np.random.default_rng(0)
    for photons in (math.inf, *PHOTONS):
        views = clean / clean.max() * min(photons, 1e4)
        if photons < math.inf:
            noisy = rng.poisson(views.numpy()) + rng.normal(10, READ_NOISE, views.shape)
            views = torch.from_numpy(noisy)
        pedestal = None
        if sieve is None:
            views = subtract_background(views.double())
        else:
            views, pedestal = split_pedestal(views.double())
        subsets = ViewSubsets(views, operators, (height, width), m.oblique_first, pedestal)
        scores, found = scores_of(subsets, score)
        best = int(np.argmax(scores))
        print(
            f"{name}, {photons:g} photons: three sweeps {scores[2]:.3f}, found {found} "
            f"{scores[found - 1]:.3f}, best {best + 1} {scores[best]:.3f}",
            flush=True,
        )


def scores_of(subsets: ViewSubsets, score: Score) -> tuple[list[float], int]:
    """Return the score after every sweep, and how many the command makes."""
    scores: list[float] = []
    fits: list[float] = []
    found: list[int] = []

    def on_sweep(count: int, estimate: Tensor, deviance: float) -> None:
        fits.append(deviance)
        scores.append(score(subsets.volume(estimate).numpy()))
        if is_enough(fits):
            gives_up = subsets.pedestal is not None and is_noise(fits)
            found.append(count - gives_up)

    start = flat_start(subsets)
    richardson_lucy(subsets, start, iterations=MOST_SWEEPS, exponent=EXPONENT, on_sweep=on_sweep)
    return scores, found[0]


def demo() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        m, truth = make_light_field(folder, torch.device("cpu"), seed=0, overwrite=True)
        psf, m = psf_of_views(folder / "psf.h5", m)
        clean = projected(truth, psf, m)
        study("demo, scanned", clean, psf, m, lambda volume: correlation(truth, volume))


def unscanned() -> None:
    m = load_microscope(str(GUV)).with_depths([float(z) for z in range(-13, 14)])
    truth = tubes_and_bubbles(1, m)
    clean = projected(truth, psf_of_views(None, m)[0], m)
    coarse = m.with_voxels_a_lens(COARSE)
    step = m.n_num // COARSE
    depths, height, width = truth.shape
    means = truth.reshape(depths, height // step, step, width // step, step).mean((2, 4))
    psf = psf_of_views(None, coarse)[0]
    study("unscanned", clean, psf, coarse, lambda volume: correlation(means, volume))


def projected(truth: NDArray[np.float32], psf: ViewPSF, m: LightFieldMicroscope) -> Tensor:
    """Return the views of a volume without noise."""
    yx = truth.shape[1], truth.shape[2]
    field = round(yx[0] / m.lateral_scale), round(yx[1] / m.lateral_scale)
    views = torch.empty((len(m.views), *field))
    for group in view_groups(m):
        kernels = torch.cat([psf(channel) for channel in group])
        sampling: Sampling = "point" if m.scanning == 1 else "mean"
        operator = BandLimitedOperator(kernels, yx, field, sampling=sampling)
        views[group] = operator.forward(torch.from_numpy(truth))
    return views.clamp_(min=0)


def vesicle(folder: Path) -> None:
    m = load_microscope(str(folder / "vesicle.yaml")).with_voxels_a_lens(COARSE)
    truth = tifffile.imread(folder / "vesicle_truth.tif")
    with TemporaryDirectory() as name:
        views = Path(name) / "views.tif"
        radiometry = folder / "vesicle_radiometry.tif"
        rectify_files([folder / "vesicle_simulated.tif"], views, m, radiometry=radiometry)
        clean = torch.from_numpy(open_stack(views).read()[list(m.views)]).clamp_(min=0)
    empty = Result("", np.empty(0, np.float32), np.array(m.depths_um), m.pixel_um, m.view_pixel_um)

    def score(volume: NDArray[np.float32]) -> float:
        return truth_correlation(replace(empty, volume=volume), truth)

    study("vesicle, unscanned", clean, psf_of_views(None, m)[0], m, score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="holds the simulated vesicle")
    folder = parser.parse_args().folder
    if folder is not None:
        vesicle(folder)
    demo()
    unscanned()


if __name__ == "__main__":
    main()
