"""``serenet reconstruct``: view stacks on disk to volumes on disk."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optics import LightFieldPreset
from scopekit.errors import UserError
from scopekit.memory import choose_device, memory_budget, return_freed_memory
from scopekit.progress import progress_bar, say
from scopekit.volumes import StackFile
from serenet import __version__
from serenet.aberration_fit import aberration_shifts, fit_aberrations
from serenet.batch import Batch, run_all
from serenet.inputs import find_stacks, open_views, read_views, warn_if_dark
from serenet.iterative import ViewSubsets, oblique_first
from serenet.microscope import load_preset, microscope_of_views, shift_for_model
from serenet.models import load_checkpoint
from serenet.network import Network, VolumeNetwork
from serenet.reconstruction import check_inputs, plan_tiles, prepare, reconstruct_tile
from serenet.refinement import refine
from serenet.rl_network import RLNet
from serenet.scan_network import VsNet
from serenet.tiling import volume_shape
from serenet.view_alignment import shift_views, view_shifts, write_shift_map
from serenet.view_networks import HyLFMNet, VCDNet
from serenet.view_psf import psf_of_views
from serenet.views import subtract_background
from serenet.virtual_scan import virtual_scan
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
    virtual_scan: Path | None = None
    predao: Literal["no", "fit", "correlation", "subpixel"] = "no"
    half: bool = False
    max_memory_gb: float | None = None
    device: str = "auto"
    refine: int = 0
    dtype: str = "float32"
    preview: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class _Setup:
    """What all files share.

    Attributes
    ----------
    model
        Makes the volumes.
    scan
        Makes an unscanned light field a scanned one first, or ``None``.
    shift
        PSF shift (A, D, 2), object pixels, where the model wants it.
    preset
        The microscope, with the model's views and depths.
    options
        The command's.
    """

    model: Network
    scan: VsNet | None
    shift: Tensor | None
    preset: LightFieldPreset
    options: ReconstructOptions

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def recorded(self) -> LightFieldPreset:
        """The microscope with the views that are read from a file."""
        if self.scan is None:
            return self.preset
        return self.preset.model_copy(update={"views": tuple(range(self.preset.n_num**2))})

    def volume_shape(self, field: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the volume of views of that height and width."""
        if self.scan is not None:
            field = tuple(n * self.scan.factor for n in field)
        return volume_shape(len(self.preset.depths_um), field, self.preset.lateral_scale)


def reconstruct_files(inputs: list[Path], options: ReconstructOptions) -> list[Path]:
    """Reconstruct every view stack among the inputs; return the volumes' paths."""
    return_freed_memory()
    sources = find_stacks(inputs)
    setup = _set_up(options)
    microscope = setup.preset
    batch = Batch(
        out=options.out,
        method=setup.model.method,
        voxel_um=(microscope.depth_step_um, microscope.pixel_um, microscope.pixel_um),
        settings=_settings(setup),
        dtype=options.dtype,
        preview=options.preview,
        overwrite=options.overwrite,
    )

    def work(path: Path) -> Path:
        stack, pages = open_views(path, setup.recorded)
        _check_scanned(stack, setup)
        solver = _Solver(setup, pages)
        result = batch.run(stack, setup.volume_shape(stack.shape[-2:]), solver)
        for frame, shifts in enumerate(solver.view_shifts):
            name = f"{result.stem}_shifts" + (f"_{frame:04d}" if stack.n_frames > 1 else "")
            write_shift_map(
                result.with_name(f"{name}.png"),
                result.with_name(f"{name}.csv"),
                shifts,
                microscope.views,
                microscope.n_num,
                microscope.pixel_um,
                overwrite=True,
            )
        return result

    return run_all(batch.pending(sources), work)


def _set_up(options: ReconstructOptions) -> _Setup:
    device = choose_device(options.device)
    model = load_checkpoint(options.checkpoint, device)
    if not isinstance(model, VolumeNetwork | RLNet):
        instead = {"vsnet": "--virtual-scan", "twnet": "serenet correct-motion --checkpoint"}
        raise UserError(
            f"{options.checkpoint}: a {model.published_name} makes no volumes: give it to "
            f"{instead[model.published_name]}"
        )
    if options.refine and not model.in_counts:
        raise UserError(
            f"--refine: a {model.method} gives relative brightness, which cannot be compared "
            "with the recorded views; use a network of the SeReNet family, or serenet deconvolve"
        )
    preset = load_preset(options.preset) if options.preset else None
    shift = None
    if isinstance(model, VCDNet | HyLFMNet):
        if options.predao == "fit":
            raise UserError(
                f"--predao: aberrations are fitted to the bright views that a serenet takes; a "
                f"{model.method} takes all of them, add --predao-by subpixel"
            )
        microscope = microscope_of_views(model.n_views, model.n_depths, options.psf, preset)
    else:
        n_views = model.n_views if isinstance(model, VolumeNetwork) else None
        shift, microscope = shift_for_model(n_views, options.psf, options.psf_shift, preset)
    scan = None
    if options.virtual_scan is not None:
        found = load_checkpoint(options.virtual_scan, device)
        if not isinstance(found, VsNet) or found.side != microscope.n_num:
            raise UserError(
                f"--virtual-scan {options.virtual_scan}: not a vsnet for {microscope.n_num} x "
                f"{microscope.n_num} views"
            )
        scan = found
    return _Setup(model, scan, shift, microscope, options)


def _settings(setup: _Setup) -> dict[str, Any]:
    options = setup.options
    return {
        "method": setup.model.method,
        "serenet_version": __version__,
        "checkpoint": str(options.checkpoint),
        "psf": str(options.psf or options.psf_shift or "computed from the optics"),
        "optics": setup.preset.model_dump(mode="json"),
        "background": "1 % quantile" if options.background is None else options.background,
        "virtual_scan": str(options.virtual_scan) if options.virtual_scan else None,
        "predao": options.predao,
        "refine_view_updates": options.refine,
        "precision": "half" if options.half else "float32",
        "device": str(setup.device),
        "dtype": options.dtype,
    }


def _check_scanned(stack: StackFile, setup: _Setup) -> None:
    """Warn if the pixel size says that a light field to be scanned virtually is scanned, or not."""
    preset = setup.preset
    scanned_um = preset.pixel_um * preset.lateral_scale
    if stack.voxel_um is None or preset.scanning == 1:
        return
    found_um, unscanned_um = stack.voxel_um[2], scanned_um * preset.scanning
    expected_um, other_um = scanned_um, unscanned_um
    remedy = "not scanned, it seems: give --virtual-scan"
    if setup.scan is not None:
        expected_um, other_um = unscanned_um, scanned_um
        remedy = "scanned already, it seems: leave --virtual-scan out"
    if abs(found_um - other_um) < 0.1 * other_um:
        say(
            f"warning: {stack.path} has pixels of {found_um:.3g} um, not {expected_um:.3g}; "
            + remedy
        )


class _Solver:
    """Reconstructs one frame of a view stack, tile by tile, and refines it if asked to.

    Attributes
    ----------
    view_shifts
        What digital adaptive optics found in every frame, (A, 2) in object pixels.
    """

    def __init__(self, setup: _Setup, pages: list[int]) -> None:
        self._setup = setup
        self._options = setup.options
        self._preset = setup.preset
        self._pages = pages
        self.view_shifts: list[Tensor] = []

    def __call__(
        self,
        stack: StackFile,
        frame: int,
        target: NDArray[np.float32],
        release: Callable[[], None],
    ) -> dict[str, Any]:
        label = stack.frame_name(frame)
        record: dict[str, Any] = {"frame": frame}
        views = subtract_background(read_views(stack, self._pages, frame), self._options.background)
        if self._setup.scan is not None:
            views = self._scanned(views, self._setup.scan, label)
        if self._options.predao != "no":
            views, record["predao"] = self._aligned(views)
        check_inputs(views, self._setup.model, self._setup.shift)
        warn_if_dark(stack, views)
        gain = brightness_gain(views) if self._setup.model.in_counts else 1.0
        if gain != 1:
            say(
                f"{stack.path.name}: brightest pixel below {_DIMMEST_PEAK:g} counts; "
                f"reconstructed {gain:.3g} times brighter and scaled back"
            )
        record["brightness_gain"] = float(gain)
        record["tiles"] = self._apply_network(views, gain, target, release, label)
        if self._options.refine:
            record["refinement"] = self._refine(views, target, release, label)
        return record

    def _scanned(self, views: Tensor, scan: VsNet, label: str) -> Tensor:
        options = self._options
        with progress_bar(f"{label} virtual scan", 1) as advance:
            finer = virtual_scan(
                views,
                scan,
                half=options.half,
                max_memory_gb=options.max_memory_gb,
                advance=advance,
            )
        return finer[list(self._preset.views)]

    def _aligned(self, views: Tensor) -> tuple[Tensor, dict[str, Any]]:
        preset, scale, by = self._preset, self._preset.lateral_scale, self._options.predao
        record: dict[str, Any] = {}
        if by == "fit":
            found = fit_aberrations(views, preset)
            record["waves_rms"] = {name: round(value, 4) for name, value in found.items()}
            shifts = aberration_shifts(found, preset)
        else:
            shifts = view_shifts(
                views, preset.views, preset.n_num, scale, subpixel=by == "subpixel"
            )
        self.view_shifts.append(shifts)
        # Cubic interpolation overshoots.
        aligned = shift_views(views, shifts / scale).clamp_(min=0)
        return aligned, {**record, "largest_shift_pixels": float(shifts.abs().max())}

    def _apply_network(
        self,
        views: Tensor,
        gain: float,
        target: NDArray[np.float32],
        release: Callable[[], None],
        label: str,
    ) -> int:
        model, shift, scale = self._setup.model, self._setup.shift, self._preset.lateral_scale
        half = self._options.half
        field = (views.shape[-2], views.shape[-1])
        if gain != 1:
            views = views * gain
        prepared = prepare(views, model, shift, scale)
        budget = memory_budget(self._setup.device, self._options.max_memory_gb)
        tiles = plan_tiles(model, field, len(target), scale, budget, half=half)
        with progress_bar(label, len(tiles)) as advance:
            for tile in tiles:
                part = reconstruct_tile(prepared, model, shift, scale, tile, half=half)
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
        budget = memory_budget(self._setup.device, self._options.max_memory_gb)
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
                device=self._setup.device,
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
