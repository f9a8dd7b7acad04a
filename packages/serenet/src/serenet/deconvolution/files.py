"""``serenet deconvolve``: view stacks on disk to deconvolved volumes on disk, resumable."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optics import LightFieldMicroscope, richardson_lucy, volume_sieve
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection, StackFile
from scopekit.images.target import Target
from scopekit.inputs import run_all
from scopekit.memory import choose_device, memory_budget, return_freed_memory
from scopekit.progress import Advance, progress_bar, say
from serenet import __version__
from serenet.deconvolution.earlier import EarlierResult, earlier_result, tell
from serenet.deconvolution.fit import FIT, Fit, advice_on_depths, draw_fit
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.resume import SavedSweeps
from serenet.deconvolution.stopping import FOUND, MOST_SWEEPS, is_enough, told
from serenet.deconvolution.subsets import (
    EXPONENT,
    CountedSubsets,
    ViewSubsets,
    flat_start,
    split_pedestal,
)
from serenet.deconvolution.windows import Window, plan_windows, room_beside
from serenet.networks.shipped import checkpoint_file
from serenet.networks.vsnet import VsNet
from serenet.results.contents import digests
from serenet.results.writer import ResultOptions, ResultWriter
from serenet.views.brightness import exact_gain, subtract_background
from serenet.views.files import find_stacks, open_views, read_views, warn_if_dark
from serenet.views.microscope import load_microscope, with_voxels
from serenet.views.psf import ViewPSF, psf_of_views
from serenet.virtual_scanning.frame import load_scan, scanned, warn_of_sampling


@dataclass(frozen=True, kw_only=True)
class DeconvolveOptions(ResultOptions):
    """The command's options, see ``serenet deconvolve --help``."""

    psf: Path | None = None
    microscope: str | None = None
    iterations: int | None = None
    tv: float = 0.0
    stop_at_change: float = 0.0
    supersample: int | None = None
    background: float | None = None
    selection: Selection = WHOLE_FILE
    virtual_scan: Path | None = None
    max_memory_gb: float | None = None
    device: str = "auto"


def deconvolve_files(inputs: list[Path], options: DeconvolveOptions) -> list[Path]:
    """Deconvolve every view stack among the inputs; return the volumes' paths."""
    return_freed_memory()
    sources = find_stacks(inputs, folders_are_series=options.format == "zarr")
    device = choose_device(options.device)
    told = load_microscope(options.microscope) if options.microscope else None
    if options.supersample is not None:
        if told is None or options.psf is not None:
            raise UserError(
                f"`supersample={options.supersample}`: a PSF file has its own voxels; leave that "
                "out, and name the microscope instead"
            )
        told = with_voxels(told, options.supersample)
    view_psf, microscope = psf_of_views(options.psf, told)
    scan, recorded, factor = None, microscope, 1
    if options.virtual_scan is not None:
        scan = load_scan(options.virtual_scan, microscope, device)
        recorded, factor = microscope.with_all_views(), scan.factor
    smooth = microscope.scanning == 1
    settings = {
        "method": "deconvolved",
        "serenet_version": __version__,
        "psf": str(options.psf or "computed from the optics"),
        "virtual_scan": str(options.virtual_scan) if options.virtual_scan else None,
        **digests(
            psf=options.psf,
            virtual_scan=options.virtual_scan and checkpoint_file(options.virtual_scan),
        ),
        "optics": microscope.model_dump(mode="json"),
        "iterations": options.iterations or FOUND,
        "step_exponent": EXPONENT,
        "smooth": smooth,
        "tv": options.tv,
        "stop_at_change": options.stop_at_change,
        **options.selection.settings(),
        "background": _background(options, microscope),
        "device": str(device),
        "dtype": options.dtype,
    }

    def finish(stem: Path, frame: int, n_frames: int, record: dict[str, Any]) -> None:
        fit = record.get(FIT)
        if fit is not None:
            if options.preview:
                draw_fit(microscope, stem.with_name(f"{stem.name}_fit.png"), fit)
            record[FIT] = fit["deviance"]  # the maps are in the picture

    writer = ResultWriter(
        options,
        "deconvolved",
        settings,
        finish=finish,
        may_go_on=lambda result: earlier_result(result, settings) is not None,
    )

    def work(path: Path) -> Path:
        stack, pages = open_views(path, recorded, options.selection)
        warn_of_sampling(stack, microscope, scans=scan is not None)
        shape = microscope.volume_shape(tuple(factor * n for n in stack.shape[-2:]))
        state = SavedSweeps(writer.result(path), writer.stamp(stack))
        earlier = None if options.overwrite else earlier_result(writer.result(path), settings)
        if earlier is not None and smooth:
            say(f"{earlier.path}: smoother than what it was made of, so begun anew")
            earlier = None
        if earlier is not None:
            tell(earlier)
        solver = _Solver(view_psf, microscope, options, pages, state, device, scan, earlier)
        result = writer.write(stack, shape, microscope.voxel_um, solver, kept=state.forget)
        state.remove()
        return result

    return run_all(writer.pending(sources), work)


def _background(options: DeconvolveOptions, microscope: LightFieldMicroscope) -> float | str:
    if options.background is not None:
        return options.background
    return "1 % quantile of each view" if microscope.scanning == 1 else "1 % quantile"


def _brightest_first(windows: list[Window], views: Tensor) -> list[int]:
    """Return the numbers of windows as they are computed: the first finds the number of sweeps."""
    light = [float(views[(slice(None), *window.core_views)].sum()) for window in windows]
    return sorted(range(len(windows)), key=lambda number: -light[number])


class _Solver:
    """Deconvolves one frame of a view stack, window by window."""

    def __init__(
        self,
        view_psf: ViewPSF,
        microscope: LightFieldMicroscope,
        options: DeconvolveOptions,
        pages: list[int],
        state: SavedSweeps,
        device: torch.device,
        scan: VsNet | None,
        earlier: EarlierResult | None,
    ) -> None:
        sieve = volume_sieve(microscope) if microscope.scanning == 1 else None
        self._operators = ViewOperators(view_psf, microscope, sieve=sieve)
        self._microscope = microscope
        self._options = options
        self._pages = pages
        self._state = state
        self._device = device
        self._scan = scan
        self._earlier = earlier
        self._windows: list[Window] | None = None

    def __call__(self, stack: StackFile, frame: int, target: Target) -> dict[str, Any]:
        recorded = read_views(stack, self._pages, frame)
        views = subtract_background(recorded, self._options.background)
        warn_if_dark(stack, views)
        gain = exact_gain(views)
        pedestal = None
        if self._operators.sieve is None:
            views *= gain
        else:
            views, pedestal = split_pedestal(recorded, self._options.background, gain)
        label = stack.frame_name(frame)
        if self._scan is not None:
            room = self._options.max_memory_gb
            finer = scanned(views, self._scan, label, half=False, max_memory_gb=room)
            views = finer[list(self._microscope.views)]
        if self._windows is None:
            self._windows = self._plan((views.shape[-2], views.shape[-1]))
        windows = self._windows
        volume_yx = (target.shape[-2], target.shape[-1])
        order = self._microscope.oblique_first
        subsets = ViewSubsets(views, self._operators, volume_yx, order, pedestal)
        fits: dict[int, list[float]] = {}
        light = np.zeros(target.shape[0])
        fit = Fit.of(views) if pedestal is not None and frame == 0 else None
        wanted = self._options.iterations or self._state.sweeps()
        steps = len(windows) * (wanted or MOST_SWEEPS) * len(subsets)
        with progress_bar(label, steps) as advance:
            for number in _brightest_first(windows, views):
                window = windows[number]
                name = f"frame{frame}_window{number}"
                inside = subsets.inside(window, self._device)
                earlier = None
                if self._earlier is not None:
                    earlier = self._earlier.start(frame, number, len(windows), window, gain)
                estimate, sweeps = self._window(inside, window, name, earlier, wanted, advance)
                if wanted is None:
                    wanted = len(sweeps)
                    say(f"{label}: {told(sweeps)}")
                    self._state.keep_sweeps(wanted)
                    advance((MOST_SWEEPS - wanted) * len(subsets) * len(windows))
                if fit is not None:
                    fit.add(inside, window, estimate)
                part = window.crop(inside.volume(estimate)).div_(gain).cpu().numpy()
                light += part.sum((1, 2), dtype=np.float64)
                target.put((slice(None), *window.core), part)
                fits[number] = [deviance / gain for deviance in sweeps]
        advice = advice_on_depths(light, self._microscope)
        if advice is not None:
            say(f"{label}: {advice}")
        by_window = [fits[number] for number in range(len(windows))]
        record = {"frame": frame, "windows": len(windows), "deviance_per_sweep": by_window}
        return record if fit is None else record | {FIT: fit.record(gain)}

    def _plan(self, field: tuple[int, int]) -> list[Window]:
        """Cut the field into windows; the memory they leave is for the operators."""
        size = max(self._operators.view_psf(0).shape[-2:])
        budget = memory_budget(self._device, self._options.max_memory_gb)
        needs = {"tv": self._options.tv > 0, "compares": self._options.stop_at_change > 0}
        windows = plan_windows(field, self._microscope, size, budget, **needs)
        self._operators.room = room_beside(windows, self._microscope, size, budget, **needs)
        return windows

    def _window(
        self,
        subsets: ViewSubsets,
        window: Window,
        name: str,
        earlier: tuple[Tensor, list[float]] | None,
        wanted: int | None,
        advance: Advance,
    ) -> tuple[Tensor, list[float]]:
        kept = self._state.load(name, window)
        if kept is None and earlier is not None:
            estimate, fits, finished = earlier[0].to(self._device), earlier[1], False
        elif kept is None:
            estimate, fits, finished = flat_start(subsets), [], False
        else:
            estimate, fits, finished = kept[0].to(self._device), kept[1], kept[2]
            del kept
        # Sweeps that a finished window did without are done too.
        advance((len(fits) if wanted is None or not finished else wanted) * len(subsets))
        if finished or (wanted is None and is_enough(fits)):
            return estimate, fits

        counted = CountedSubsets(subsets, advance)

        def on_sweep(_: int, current: Tensor, deviance: float) -> bool:
            fits.append(deviance)
            self._state.save(name, window, current, fits, finished=False)
            counted.note = f"deviance {deviance:.4g}"
            return wanted is None and is_enough(fits)

        estimate = richardson_lucy(
            counted,
            estimate,
            iterations=wanted or MOST_SWEEPS,
            exponent=EXPONENT,
            tv_weight=self._options.tv,
            relative_change=self._options.stop_at_change,
            first_iteration=len(fits),
            on_sweep=on_sweep,
        )
        self._state.save(name, window, estimate, fits, finished=True)
        return estimate, fits
