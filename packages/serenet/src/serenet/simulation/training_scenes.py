"""Light fields to learn from, and the volumes they are of, simulated from seeds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optics import BandLimitedOperator, LightFieldMicroscope, sampled_size
from scopekit.images.files import write_volume
from scopekit.progress import progress_bar
from serenet.simulation.mixed_scenes import draw_scene
from serenet.simulation.scenes import tubes_and_bubbles

Volume = NDArray[np.float32]
# Wide enough for a window with the light of its surroundings; of unscanned views, which have one
# pixel a lens, a window holds more lenses.
_MIXED_LENSES, _UNSCANNED_LENSES = 20, 32
# All frequencies of all views take many GB; what lies above is less than the noise of a camera.
_UNSCANNED_BAND = 4.0


def _mixed(seed: int, microscope: LightFieldMicroscope) -> Volume:
    lenses = _UNSCANNED_LENSES if microscope.scanning == 1 else _MIXED_LENSES
    return draw_scene(np.random.default_rng(seed), microscope, lenses)


SCENES: dict[str, Callable[[int, LightFieldMicroscope], Volume]] = {
    "small": tubes_and_bubbles,
    "mixed": _mixed,
}
"""Kinds of scenes by name: a function of seed and microscope that returns (D, H, W)."""


def write_scenes(
    folder: Path,
    kind: str,
    seeds: range,
    microscope: LightFieldMicroscope,
    psf: Tensor,
    *,
    keep: bool,
) -> None:
    """Write ``views/sceneNNNN.tif`` and ``volumes/sceneNNNN.tif`` for every seed.

    Parameters
    ----------
    folder
        Where to.
    kind
        One of `SCENES`.
    seeds
        One scene each.
    microscope
        The microscope.
    psf
        (A, D, h, w) of its views and depths.
    keep
        Keep the scenes that are there, as an interrupted run left them; else replace them.
    """
    step_um = microscope.view_pixel_um
    operator: BandLimitedOperator | None = None
    with progress_bar("simulating scenes", len(seeds)) as advance:
        for seed in seeds:
            name = f"scene{seed:04d}.tif"
            views_file, volume_file = folder / "views" / name, folder / "volumes" / name
            if keep and views_file.exists() and volume_file.exists():
                advance()
                continue
            volume = SCENES[kind](seed, microscope)
            if operator is None:
                height, width = volume.shape[1:]
                scale = microscope.lateral_scale
                views_yx = (sampled_size(height, scale), sampled_size(width, scale))
                # Without scanning there is one sample a lens, at its centre.
                unscanned = microscope.scanning == 1
                operator = BandLimitedOperator(
                    psf,
                    (height, width),
                    views_yx,
                    sampling="point" if unscanned else "cubic",
                    band=_UNSCANNED_BAND if unscanned else None,
                )
            views = operator.forward(torch.from_numpy(volume).to(psf.device)).clamp_(min=0)
            write_volume(volume_file, volume, microscope.voxel_um, overwrite=True)
            size_um = (1.0, step_um, step_um)
            write_volume(views_file, views.cpu().numpy(), size_um, overwrite=True)
            advance()
