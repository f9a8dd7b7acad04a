"""``serenet reconstruct``: view stacks on disk to volumes on disk."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optics import LightFieldPreset
from scopekit.memory import choose_device, memory_budget, return_freed_memory
from scopekit.progress import progress_bar, say
from scopekit.volumes import StackFile
from serenet import __version__
from serenet.batch import Batch, run_all
from serenet.inputs import find_stacks, open_views, read_views
from serenet.iterative import ViewSubsets, oblique_first
from serenet.microscope import load_preset, shift_for_model
from serenet.models import load_checkpoint
from serenet.networks import SeReNet
from serenet.reconstruction import check_inputs, plan_tiles, reconstruct_tile, volume_shape
from serenet.refinement import refine
from serenet.view_psf import psf_of_views
from serenet.views import subtract_background
from serenet.windows import plan_windows

# The networks were trained on camera counts; below this peak their biases would dominate.
_DIMMEST_PEAK = 20.0
_TRAINED_PEAK = 500.0


@dataclass(frozen=True)
class ReconstructOptions:
    """The command's options, see ``serenet reconstruct --help``."""

    checkpoint: Path
    out: Path
    psf: Path | None = None
    psf_shift: Path | None = None
    preset: str | None = None
    background: float | None = None
    half: bool = False
    max_memory_gb: float | None = None
    device: str = "auto"
    refine: int = 0
    dtype: str = "float32"
    preview: bool = True
    overwrite: bool = False


def reconstruct_files(inputs: list[Path], options: ReconstructOptions) -> list[Path]:
    """Reconstruct every view stack among the inputs; return the volumes' paths."""
    return_freed_memory()
    sources = find_stacks(inputs)
    device = choose_device(options.device)
    model = load_checkpoint(options.checkpoint, device)
    preset = load_preset(options.preset) if options.preset else None
    shift, microscope = shift_for_model(model.n_views, options.psf, options.psf_shift, preset)
    batch = Batch(
        out=options.out,
        method=model.method,
        voxel_um=(microscope.depth_step_um, microscope.pixel_um, microscope.pixel_um),
        settings=_settings(options, model, microscope, device),
        dtype=options.dtype,
        preview=options.preview,
        overwrite=options.overwrite,
    )

    def work(path: Path) -> Path:
        stack, pages = open_views(path, microscope)
        shape = volume_shape(shift.shape[1], stack.shape[-2:], microscope.lateral_scale)
        return batch.run(stack, shape, _Solver(model, shift, microscope, options, pages))

    return run_all(batch.pending(sources), work)


def _settings(
    options: ReconstructOptions, model: SeReNet, preset: LightFieldPreset, device: torch.device
) -> dict[str, Any]:
    return {
        "method": model.method,
        "serenet_version": __version__,
        "checkpoint": str(options.checkpoint),
        "psf": str(options.psf or options.psf_shift or "computed from the optics"),
        "optics": preset.model_dump(mode="json"),
        "background": "1 % quantile" if options.background is None else options.background,
        "refine_view_updates": options.refine,
        "precision": "half" if options.half else "float32",
        "device": str(device),
        "dtype": options.dtype,
    }


class _Solver:
    """Reconstructs one frame of a view stack, tile by tile, and refines it if asked to."""

    def __init__(
        self,
        model: SeReNet,
        shift: Tensor,
        preset: LightFieldPreset,
        options: ReconstructOptions,
        pages: list[int],
    ) -> None:
        self._model = model
        self._shift = shift
        self._preset = preset
        self._options = options
        self._pages = pages
        self._device = next(model.parameters()).device

    def __call__(
        self,
        stack: StackFile,
        frame: int,
        target: NDArray[np.float32],
        release: Callable[[], None],
    ) -> dict[str, Any]:
        views = subtract_background(read_views(stack, self._pages, frame), self._options.background)
        check_inputs(views, self._model, self._shift)
        gain = brightness_gain(views)
        if gain != 1:
            say(
                f"{stack.path.name}: brightest pixel below {_DIMMEST_PEAK:g} counts; "
                f"reconstructed {gain:.3g} times brighter and scaled back"
            )
        label = stack.path.name if stack.n_frames == 1 else f"{stack.path.name} [{frame}]"
        record: dict[str, Any] = {"frame": frame, "brightness_gain": float(gain)}
        record["tiles"] = self._apply_network(views, gain, target, release, label)
        if self._options.refine:
            record["refinement"] = self._refine(views, target, release, label)
        return record

    def _apply_network(
        self,
        views: Tensor,
        gain: float,
        target: NDArray[np.float32],
        release: Callable[[], None],
        label: str,
    ) -> int:
        scale, half = self._preset.lateral_scale, self._options.half
        field = (views.shape[-2], views.shape[-1])
        if gain != 1:
            views = views * gain
        budget = memory_budget(self._device, self._options.max_memory_gb)
        tiles = plan_tiles(self._model, field, self._shift.shape[1], scale, budget, half=half)
        with progress_bar(label, len(tiles)) as advance:
            for tile in tiles:
                part = reconstruct_tile(views, self._model, self._shift, scale, tile, half=half)
                rows, columns = slice(*tile.volume_rows), slice(*tile.volume_columns)
                target[:, rows, columns] = part.div_(gain).cpu().numpy()
                del part
                release()
                advance(1)
        return len(tiles)

    def _refine(
        self, views: Tensor, target: NDArray[np.float32], release: Callable[[], None], label: str
    ) -> dict[str, Any]:
        view_psf, _ = psf_of_views(self._options.psf, self._preset)
        budget = memory_budget(self._device, self._options.max_memory_gb)
        field = (views.shape[-2], views.shape[-1])
        size = max(view_psf(0).shape[-2:])
        windows = plan_windows(field, self._preset, size, budget, tv=False)
        volume_yx = (target.shape[-2], target.shape[-1])
        order = oblique_first(self._preset)
        subsets = ViewSubsets(views, view_psf, self._preset, volume_yx, order)
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
                device=self._device,
                release=release,
                advance=advance,
            )
        say(f"{label}: {done}")
        return {"windows": len(windows), **asdict(done)}


def brightness_gain(views: Tensor) -> float:
    """Return the factor that lifts dim views (such as those scaled to [0, 1]) to counts.

    1 for views in counts and for empty ones.
    """
    peak = float(views.max())
    return _TRAINED_PEAK / peak if 0 < peak < _DIMMEST_PEAK else 1.0
