"""Views of one time point to a volume: what ``serenet reconstruct`` does with a frame."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.images.files import StackFile
from scopekit.images.target import Target
from scopekit.memory import memory_budget, to_cpu
from scopekit.progress import progress_bar, say, say_time
from serenet.aberrations.correlation import shift_views, view_shifts
from serenet.aberrations.fit import aberration_shifts, fit_aberrations
from serenet.aberrations.shift_map import write_shift_map
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.subsets import ViewSubsets
from serenet.deconvolution.windows import plan_windows, room_beside
from serenet.networks.tiling import Tile
from serenet.reconstruction.refinement import refine
from serenet.reconstruction.setup import Setup
from serenet.reconstruction.volume import expected_seconds, plan_tiles, volume_parts
from serenet.views.brightness import (
    DIMMEST_PEAK,
    brightness_gain,
    exact_gain,
    subtract_background,
)
from serenet.views.files import read_views, warn_if_dark, warn_if_uniform
from serenet.views.psf import psf_of_views
from serenet.virtual_scanning.frame import scanned

# In the record of a frame.
_SHIFTS = "view_shifts"


class FrameReconstructor:
    """Reconstructs the frames of a view stack, tile by tile, and refines them if asked to.

    All frames have the tiles that the first one got.

    Parameters
    ----------
    setup
        What all files share.
    pages
        Which pages of the stack are the views wanted.
    """

    def __init__(self, setup: Setup, pages: list[int]) -> None:
        self._setup, self._options, self._microscope = setup, setup.options, setup.microscope
        self._pages = pages
        self._tiles: list[Tile] | None = None

    def __call__(self, stack: StackFile, frame: int, target: Target) -> dict[str, Any]:
        """Fill ``target``, (D, H, W), from one frame, see `scopekit.series.pipeline`.

        Returns
        -------
        dict
            What was done; under ``view_shifts`` what digital adaptive optics found, in object
            pixels, see `draw_shifts`.
        """
        label = stack.frame_name(frame)
        record: dict[str, Any] = {"frame": frame}
        views = read_views(stack, self._pages, frame)
        warn_if_uniform(stack, views)
        if self._setup.subtracts_background:
            views = subtract_background(views, self._options.background)
        views = views.float()
        unit = exact_gain(views)
        views = views * unit
        if self._setup.scan is not None:
            half, room = self._options.half, self._options.max_memory_gb
            finer = scanned(views, self._setup.scan, label, half=half, max_memory_gb=room)
            views = finer[list(self._microscope.views)]
        if self._options.predao != "no":
            views, shifts, record["predao"] = self._aligned(views)
            record[_SHIFTS] = shifts.tolist()
        warn_if_dark(stack, views)
        gain = brightness_gain(views) if self._setup.model.in_counts else 1.0
        if gain != 1:
            say(
                f"{stack.path.name}: brightest pixel below {DIMMEST_PEAK:g} counts; "
                f"reconstructed {gain:.3g} times brighter and scaled back"
            )
        record["brightness_gain"] = float(gain)
        record["tiles"] = self._apply_network(views, gain, target, stack, label)
        if self._options.refine:
            record["refinement"] = self._refine(views, target, label)
        if unit != 1 and self._setup.model.in_counts:
            for z in range(len(target.array)):
                plane = slice(z, z + 1)
                target.put(plane, target.take(plane) / np.float32(unit))
        return record

    def _aligned(self, views: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return the views aligned, their shifts (A, 2) in object pixels, and what was found."""
        microscope, scale, by = (
            self._microscope,
            self._microscope.lateral_scale,
            self._options.predao,
        )
        record: dict[str, Any] = {}
        if by == "fit":
            found = fit_aberrations(views, microscope)
            record["waves_rms"] = {name: round(value, 4) for name, value in found.items()}
            shifts = aberration_shifts(found, microscope)
        else:
            shifts = view_shifts(
                views, microscope.views, microscope.n_num, scale, subpixel=by == "subpixel"
            )
        # Cubic interpolation overshoots.
        aligned = shift_views(views, shifts / scale).clamp_(min=0)
        record["largest_shift_pixels"] = float(shifts.abs().max())
        return aligned, shifts, record

    def _apply_network(
        self, views: Tensor, gain: float, target: Target, stack: StackFile, label: str
    ) -> int:
        model, shift, scale = self._setup.model, self._setup.shift, self._microscope.lateral_scale
        half = self._options.half
        if gain != 1:
            views = views * gain
        if self._tiles is None:
            field = (views.shape[-2], views.shape[-1])
            budget = memory_budget(model.device, self._options.max_memory_gb)
            self._tiles = plan_tiles(model, field, target.shape[0], scale, budget, half=half)
            seconds = expected_seconds(views, model, shift, scale, self._tiles, half=half)
            say_time(stack.path.name, stack.n_frames * seconds)
        parts = volume_parts(views, model, shift, scale, self._tiles, half=half)
        with progress_bar(label, len(self._tiles)) as advance:
            for place, part in parts:
                target.put(place, to_cpu(part.div_(gain)).numpy())
                del part
                advance()
        return len(self._tiles)

    def _refine(self, views: Tensor, target: Target, label: str) -> dict[str, Any]:
        view_psf, _ = psf_of_views(self._options.psf, self._microscope)
        budget = memory_budget(self._setup.model.device, self._options.max_memory_gb)
        field = (views.shape[-2], views.shape[-1])
        size = max(view_psf(0).shape[-2:])
        windows = plan_windows(field, self._microscope, size, budget, tv=False)
        volume_yx = target.shape[1:]
        order = self._microscope.oblique_first
        room = room_beside(windows, self._microscope, size, budget, tv=False)
        operators = ViewOperators(view_psf, self._microscope, room)
        subsets = ViewSubsets(views, operators, volume_yx, order)
        n_updates = self._options.refine
        with (
            TemporaryDirectory(dir=self._options.out, prefix=".refining") as folder,
            progress_bar(f"{label} refining", n_updates * len(windows)) as advance,
        ):
            done = refine(
                target,
                subsets,
                windows,
                n_updates,
                Path(folder),
                device=self._setup.model.device,
                advance=advance,
            )
        say(f"{label}: {done}")
        return {"windows": len(windows), **asdict(done)}


def draw_shifts(
    microscope: LightFieldMicroscope, stem: Path, frame: int, n_frames: int, record: dict[str, Any]
) -> None:
    """Write the map of the shifts that digital adaptive optics found in a frame, if it looked.

    Parameters
    ----------
    microscope
        The microscope.
    stem
        The result's name without ending.
    frame, n_frames
        The frame, and how many there are: one alone is not numbered.
    record
        Of the frame; the shifts are taken out of it.
    """
    shifts = record.pop(_SHIFTS, None)
    if shifts is None:
        return
    name = f"{stem.name}_shifts" + (f"_{frame:04d}" if n_frames > 1 else "")
    write_shift_map(
        stem.with_name(f"{name}.png"),
        stem.with_name(f"{name}.csv"),
        torch.tensor(shifts),
        microscope.views,
        microscope.n_num,
        microscope.pixel_um,
        overwrite=True,
    )
