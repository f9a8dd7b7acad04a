"""``serenet refocus``: view stacks on disk to refocused ones, with a picture by depth."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, PartialVoxelSize, Selection, StackFile
from scopekit.images.target import Target
from scopekit.inputs import run_all
from scopekit.outputs import whole_file
from scopekit.preview import draw_scale_bar, printable
from serenet import __version__
from serenet.results.landing import Planes
from serenet.results.writer import ResultOptions, ResultWriter
from serenet.views.brightness import subtract_background
from serenet.views.files import find_stacks, open_views, read_views, warn_if_dark
from serenet.views.microscope import load_microscope
from serenet.views.refocusing import ray_shift, refocus

# Pixels a lens: views that are shifted by parts of one tell finer detail together.
_PIXELS_A_LENS = 5
_SHOWN = 12
_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class RefocusOptions(ResultOptions):
    """The command's options, see ``serenet refocus --help``."""

    microscope: str
    time_points: tuple[int, ...] | None = None
    selection: Selection = WHOLE_FILE


@dataclass(frozen=True, kw_only=True)
class _SomeTimes(StackFile):
    """Some time points of a series."""

    series: StackFile
    time_points: tuple[int, ...]

    def stored(
        self,
        pages: Sequence[int],
        rows: slice = slice(None),
        columns: slice = slice(None),
        frame: int = 0,
    ) -> Iterator[NDArray[Any]]:
        return self.series.stored(pages, rows, columns, self.time_points[frame])


def _some_times(stack: StackFile, time_points: tuple[int, ...] | None) -> StackFile:
    """Return a stack of these time points alone; raise `UserError` if it has none such."""
    if time_points is None:
        return stack
    for point in time_points:
        if not 0 <= point < stack.n_frames:
            raise UserError(
                f"{stack.path}: time point {point} of {stack.n_frames}; allowed: 0 to "
                f"{stack.n_frames - 1}"
            )
    return _SomeTimes(
        path=stack.path,
        shape=(len(time_points), *stack.shape[-3:])[-3 if len(time_points) == 1 else -4 :],
        dtype=stack.dtype,
        steps=stack.steps,
        full_scale=stack.full_scale,
        series=stack,
        time_points=time_points,
    )


def depths_around(microscope: LightFieldMicroscope) -> list[float]:
    """Return depths as far apart as a microscope's planes, half as far again, um."""
    first, last, step = (
        microscope.depths_um[0],
        microscope.depths_um[-1],
        microscope.depth_step_um,
    )
    more = math.ceil((last - first) / 4 / step)
    count = len(microscope.depths_um) + 2 * more
    return [round(first + (n - more) * step, 6) for n in range(count)]


def refocus_files(inputs: list[Path], options: RefocusOptions) -> list[Path]:
    """Refocus every view stack among the inputs; return the stacks' paths."""
    microscope = load_microscope(options.microscope)
    depths = depths_around(microscope)
    finer = max(round(_PIXELS_A_LENS / microscope.scanning), 1)
    pixel_um = microscope.view_pixel_um / finer
    shift = (ray_shift(microscope, depths) / microscope.view_pixel_um).float()
    settings = {
        "method": "refocused",
        "serenet_version": __version__,
        "optics": microscope.model_dump(mode="json"),
        "depths_um": {"first": depths[0], "last": depths[-1], "count": len(depths)},
        **options.selection.settings(),
        **({} if options.time_points is None else {"time_points": list(options.time_points)}),
        "background": "1 % quantile",
    }

    def draw(
        picture: Path,
        title: str,
        source: StackFile,
        planes: Callable[[], Planes],
        voxel_um: PartialVoxelSize,
    ) -> None:
        stack = np.stack(list(planes()))
        draw_refocused(picture, title, stack, depths, microscope.depths_um, pixel_um)

    writer = ResultWriter(options, "refocused", settings, draw=draw)

    def work(path: Path) -> Path:
        series, pages = open_views(path, microscope, options.selection)
        stack = _some_times(series, options.time_points)

        def solve(stack: StackFile, frame: int, target: Target) -> dict[str, Any]:
            views = subtract_background(read_views(stack, pages, frame), None)
            warn_if_dark(stack, views)
            target.put(slice(None), refocus(views, shift, finer).numpy())
            return {"frame": frame if options.time_points is None else options.time_points[frame]}

        height, width = (finer * n for n in stack.shape[-2:])
        voxel_um = (microscope.depth_step_um, pixel_um, pixel_um)
        return writer.write(stack, (len(depths), height, width), voxel_um, solve)

    return run_all(writer.pending(find_stacks(inputs)), work)


def sharpness(stack: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean square of lateral differences in each plane (Z, Y, X), of the highest.

    An eighth of every border is left out, where shifted views end.
    """
    rows, columns = (slice(n // 8, n - n // 8) for n in stack.shape[1:])
    found = np.zeros(len(stack))
    for number, plane in enumerate(stack):  # in double precision all would take a lot of memory
        inside = plane[rows, columns].astype(np.float64)
        found[number] = sum((np.diff(inside, axis=axis) ** 2).mean() for axis in (0, 1))
    return found / max(float(found.max()), 1e-30)


def planes_shown(sharp: NDArray[np.float64]) -> list[int]:
    """Return the numbers of planes to draw: evenly spaced, but for the sharpest, which is one.

    Parameters
    ----------
    sharp
        (D,), sharpness of each plane.
    """
    shown = np.unique(np.linspace(0, len(sharp) - 1, _SHOWN).round().astype(int))
    sharpest = int(sharp.argmax())
    shown[abs(shown - sharpest).argmin()] = sharpest
    return [int(number) for number in shown]


def draw_refocused(
    picture: Path,
    title: str,
    stack: NDArray[np.float32],
    depths_um: Sequence[float],
    present_um: Sequence[float],
    pixel_um: float,
) -> None:
    """Draw planes of a refocused stack, and how sharp each is.

    Parameters
    ----------
    picture
        The PNG to write; an existing one is replaced.
    title
        Its title.
    stack, depths_um
        (D, H, W) and the depths of its planes.
    present_um
        The depths that the microscope names, which are marked.
    pixel_um
        Lateral step.
    """
    sharp = sharpness(stack)
    shown = planes_shown(sharp)
    rows = math.ceil(len(shown) / _COLUMNS)
    height = 2.2 * stack.shape[1] / stack.shape[2] + 0.3
    figure = Figure(figsize=(2.2 * _COLUMNS, rows * height + 2.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[height] * rows + [2.2])
    low, high = np.percentile(stack, (1, 99.9))
    size_um = (stack.shape[2] * pixel_um, stack.shape[1] * pixel_um)
    for place, number in enumerate(shown):
        axes = figure.add_subplot(grid[place // _COLUMNS, place % _COLUMNS])
        axes.imshow(
            stack[number],
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-12),
            extent=(0, size_um[0], size_um[1], 0),
        )
        axes.set_title(f"{depths_um[number]:g} \N{MICRO SIGN}m", fontsize=9)
        axes.set_axis_off()
        if place == 0:
            gap_um = 0.03 * size_um[0]
            draw_scale_bar(axes, size_um, 0.02 * size_um[1], gap_um, fontsize=7)
    axes = figure.add_subplot(grid[rows, :])
    _draw_curve(axes, sharp, depths_um, present_um)
    figure.suptitle(printable(title), parse_math=False)
    with whole_file(picture, overwrite=True) as partial:
        figure.savefig(partial, format="png")


def _draw_curve(
    axes: Axes,
    values: NDArray[np.float64],
    depths_um: Sequence[float],
    present_um: Sequence[float],
) -> None:
    axes.axvspan(present_um[0], present_um[-1], color="0.9", label="depths_um of the microscope")
    axes.plot(depths_um, values, label="sharpness")
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 1.5)
    axes.set_xlabel("depth, \N{MICRO SIGN}m")
    axes.set_ylabel("of the sharpest plane")
    axes.legend(loc="upper right")
