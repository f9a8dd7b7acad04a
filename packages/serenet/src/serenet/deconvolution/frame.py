"""Views of one time point to a volume: what ``serenet deconvolve`` does with a frame."""

from typing import Any

import numpy as np
from torch import Tensor

from optics import richardson_lucy
from scopekit.images.files import StackFile
from scopekit.images.target import Target
from scopekit.memory import memory_budget
from scopekit.progress import Advance, progress_bar, say
from serenet.deconvolution.earlier import EarlierResult
from serenet.deconvolution.fit import FIT, Fit, advice_on_depths
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.resume import SavedSweeps
from serenet.deconvolution.setup import Setup
from serenet.deconvolution.stopping import (
    MOST_SWEEPS,
    first_is_enough,
    is_doubtful,
    is_enough,
    is_noise,
    told,
)
from serenet.deconvolution.subsets import (
    EXPONENT,
    CountedSubsets,
    ViewSubsets,
    flat_start,
    split_pedestal,
)
from serenet.deconvolution.windows import Window, plan_windows, room_beside
from serenet.views.brightness import exact_gain, subtract_background
from serenet.views.files import read_views, warn_if_dark, warn_if_uniform
from serenet.virtual_scanning.frame import scanned


def _brightest_first(windows: list[Window], views: Tensor) -> list[int]:
    """Return the numbers of windows as they are computed: the first finds the number of sweeps."""
    light = [float(views[(slice(None), *window.core_views)].sum()) for window in windows]
    return sorted(range(len(windows)), key=lambda number: -light[number])


class FrameDeconvolver:
    """Deconvolves the frames of a view stack, window by window.

    Parameters
    ----------
    setup
        What all files share.
    pages
        Which pages of the stack are the views wanted.
    state
        Keeps the sweeps that are done.
    earlier
        A result to go on from, if there is one.
    """

    def __init__(
        self,
        setup: Setup,
        pages: list[int],
        state: SavedSweeps,
        earlier: EarlierResult | None = None,
    ) -> None:
        microscope = setup.microscope
        self._operators = ViewOperators(setup.view_psf, microscope, sieve=setup.sieve)
        self._microscope, self._options = microscope, setup.options
        self._device, self._scan = setup.device, setup.scan
        self._pages, self._state, self._earlier = pages, state, earlier
        self._windows: list[Window] | None = None

    def __call__(self, stack: StackFile, frame: int, target: Target) -> dict[str, Any]:
        """Fill ``target``, (D, H, W), from one frame, see `scopekit.series.pipeline`."""
        recorded = read_views(stack, self._pages, frame)
        warn_if_uniform(stack, recorded)
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
        margin = self._operators.margin
        windows = plan_windows(field, self._microscope, size, budget, margin=margin, **needs)
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
        # Sieves and total variation let little noise through.
        is_plain = self._operators.sieve is None and self._options.tv == 0
        may_doubt = wanted is None and is_plain
        may_give_up = wanted is None and self._operators.sieve is not None

        def on_sweep(_: int, current: Tensor, deviance: float) -> bool:
            fits.append(deviance)
            counted.note = f"deviance {deviance:.4g}"
            if may_doubt and is_doubtful(fits):
                self._state.save(f"{name}_second", window, current, fits, finished=False)
                return True
            if may_give_up and is_noise(fits):
                return True
            self._state.save(name, window, current, fits, finished=False)
            return wanted is None and is_enough(fits)

        def sweep(start: Tensor) -> Tensor:
            return richardson_lucy(
                counted,
                start,
                iterations=wanted or MOST_SWEEPS,
                exponent=EXPONENT,
                tv_weight=self._options.tv,
                relative_change=self._options.stop_at_change,
                first_iteration=len(fits),
                on_sweep=on_sweep,
            )

        estimate = sweep(estimate)
        if may_doubt and is_doubtful(fits):
            del estimate
            first = first_is_enough(subsets)
            found = self._state.load(name if first else f"{name}_second", window)
            assert found is not None
            estimate, fits[:] = found[0].to(self._device), found[1]
            if first:
                advance(-len(subsets))
            elif not is_enough(fits):
                estimate = sweep(estimate)
        if may_give_up and is_noise(fits):
            del estimate
            found = self._state.load(name, window)
            assert found is not None
            estimate, fits[:] = found[0].to(self._device), found[1]
            advance(-len(subsets))
        self._state.save(name, window, estimate, fits, finished=True)
        return estimate, fits
