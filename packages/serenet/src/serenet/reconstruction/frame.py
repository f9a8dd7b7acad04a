"""Views of one time point to a volume: what ``serenet reconstruct`` does with a frame."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.memory import choose_device, memory_budget, to_cpu
from scopekit.progress import progress_bar, say
from serenet.aberrations.correlation import shift_views, view_shifts
from serenet.aberrations.fit import aberration_shifts, fit_aberrations
from serenet.aberrations.shift_map import write_shift_map
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.subsets import ViewSubsets
from serenet.deconvolution.windows import plan_windows, room_beside
from serenet.networks.base import Network, VolumeNetwork
from serenet.networks.checkpoints import load_checkpoint
from serenet.networks.rlnet import RLNet
from serenet.networks.tiling import Tile
from serenet.networks.view_networks import HyLFMNet, VCDNet
from serenet.networks.vsnet import VsNet
from serenet.reconstruction.refinement import refine
from serenet.reconstruction.virtual_scan import virtual_scan
from serenet.reconstruction.volume import check_inputs, plan_tiles, prepare, reconstruct_tile
from serenet.views.files import read_views, warn_if_dark
from serenet.views.microscope import load_microscope, microscope_of_views
from serenet.views.psf import psf_of_views, shift_for_model
from serenet.views.refocusing import subtract_background

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
    microscope: str | None = None
    background: float | None = None
    virtual_scan: Path | None = None
    predao: Literal["no", "fit", "correlation", "subpixel"] = "no"
    half: bool = False
    max_memory_gb: float | None = None
    device: str = "auto"
    refine: int = 0
    format: str | None = None
    dask: str | None = None
    dtype: str = "float32"
    preview: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class Setup:
    """What all files share.

    Attributes
    ----------
    model
        Makes the volumes.
    scan
        Makes an unscanned light field a scanned one first, or ``None``.
    shift
        PSF shift (A, D, 2), object pixels, where the model wants it.
    microscope
        The microscope, with the model's views and depths.
    options
        The command's.
    """

    model: Network
    scan: VsNet | None
    shift: Tensor | None
    microscope: LightFieldMicroscope
    options: ReconstructOptions

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    @property
    def recorded(self) -> LightFieldMicroscope:
        """The microscope with the views that are read from a file."""
        if self.scan is None:
            return self.microscope
        return self.microscope.with_all_views()

    def volume_shape(self, field: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the volume of views of that height and width."""
        if self.scan is not None:
            field = tuple(n * self.scan.factor for n in field)
        return self.microscope.volume_shape(field)


def set_up(options: ReconstructOptions) -> Setup:
    """Load what all frames share: networks, PSF shift, microscope.

    Raises
    ------
    UserError
        If they do not fit each other.
    """
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
    told = load_microscope(options.microscope) if options.microscope else None
    shift = None
    if isinstance(model, VCDNet | HyLFMNet):
        if options.predao == "fit":
            raise UserError(
                f"--predao: aberrations are fitted to the bright views that a serenet takes; a "
                f"{model.method} takes all of them, add --predao-by subpixel"
            )
        microscope = microscope_of_views(model.n_views, model.n_depths, options.psf, told)
    else:
        n_views = model.n_views if isinstance(model, VolumeNetwork) else None
        shift, microscope = shift_for_model(n_views, options.psf, options.psf_shift, told)
    scan = None
    if options.virtual_scan is not None:
        found = load_checkpoint(options.virtual_scan, device)
        if not isinstance(found, VsNet) or found.side != microscope.n_num:
            raise UserError(
                f"--virtual-scan {options.virtual_scan}: not a vsnet for {microscope.n_num} x "
                f"{microscope.n_num} views"
            )
        scan = found
    return Setup(model, scan, shift, microscope, options)


class FrameReconstructor:
    """Reconstructs the frames of a view stack, tile by tile, and refines them if asked to.

    All frames have the tiles that the first one got.

    Attributes
    ----------
    view_shifts
        What digital adaptive optics found, by frame, (A, 2) in object pixels.
    """

    def __init__(self, setup: Setup, pages: list[int]) -> None:
        self._setup = setup
        self._options = setup.options
        self._microscope = setup.microscope
        self._pages = pages
        self.view_shifts: dict[int, Tensor] = {}
        self._tiles: list[Tile] | None = None

    def __call__(
        self,
        stack: StackFile,
        frame: int,
        target: NDArray[np.float32],
        release: Callable[[], None],
    ) -> dict[str, Any]:
        """Fill ``target``, (D, H, W), from one frame, see `scopekit.series.pipeline`."""
        label = stack.frame_name(frame)
        record: dict[str, Any] = {"frame": frame}
        views = subtract_background(read_views(stack, self._pages, frame), self._options.background)
        if self._setup.scan is not None:
            views = self._scanned(views, self._setup.scan, label)
        if self._options.predao != "no":
            views, record["predao"] = self._aligned(views, frame)
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
        return finer[list(self._microscope.views)]

    def _aligned(self, views: Tensor, frame: int) -> tuple[Tensor, dict[str, Any]]:
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
        self.view_shifts[frame] = shifts
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
        model, shift, scale = self._setup.model, self._setup.shift, self._microscope.lateral_scale
        half = self._options.half
        field = (views.shape[-2], views.shape[-1])
        if gain != 1:
            views = views * gain
        prepared = prepare(views, model, shift, scale)
        if self._tiles is None:
            budget = memory_budget(self._setup.device, self._options.max_memory_gb)
            self._tiles = plan_tiles(model, field, len(target), scale, budget, half=half)
        with progress_bar(label, len(self._tiles)) as advance:
            for tile in self._tiles:
                part = reconstruct_tile(prepared, model, shift, scale, tile, half=half)
                rows, columns = slice(*tile.volume_rows), slice(*tile.volume_columns)
                target[:, rows, columns] = to_cpu(part.div_(gain)).numpy()
                del part
                release()
                advance(1)
        return len(self._tiles)

    def _refine(
        self, views: Tensor, target: NDArray[np.float32], release: Callable[[], None], label: str
    ) -> dict[str, Any]:
        view_psf, _ = psf_of_views(self._options.psf, self._microscope)
        budget = memory_budget(self._setup.device, self._options.max_memory_gb)
        field = (views.shape[-2], views.shape[-1])
        size = max(view_psf(0).shape[-2:])
        windows = plan_windows(field, self._microscope, size, budget, tv=False)
        volume_yx = (target.shape[-2], target.shape[-1])
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
                device=self._setup.device,
                release=release,
                advance=advance,
            )
        say(f"{label}: {done}")
        return {"windows": len(windows), **asdict(done)}


def draw_shifts(
    solver: FrameReconstructor, setup: Setup, stem: Path, frame: int, n_frames: int
) -> None:
    """Write the map of the shifts that digital adaptive optics found in a frame, if it looked.

    Parameters
    ----------
    solver
        Has just made the frame; it forgets the shifts.
    setup
        Its own.
    stem
        The results' name without ending.
    frame, n_frames
        The frame, and how many there are: one alone is not numbered.
    """
    shifts = solver.view_shifts.pop(frame, None)
    if shifts is None:
        return
    name = f"{stem.name}_shifts" + (f"_{frame:04d}" if n_frames > 1 else "")
    write_shift_map(
        stem.with_name(f"{name}.png"),
        stem.with_name(f"{name}.csv"),
        shifts,
        setup.microscope.views,
        setup.microscope.n_num,
        setup.microscope.pixel_um,
        overwrite=True,
    )


def brightness_gain(views: Tensor) -> float:
    """Return the factor that lifts dim views (such as those scaled to [0, 1]) to counts.

    1 for views in counts and for empty ones.
    """
    peak = float(views.max())
    return _TRAINED_PEAK / peak if 0 < peak < _DIMMEST_PEAK else 1.0
