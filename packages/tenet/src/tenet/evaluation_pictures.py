"""The pictures of an evaluation: views of a result, scores over thresholds, the PSF."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.config_sections import Visualization
from tenet.evaluation import Result, Summary, brightness_gain
from tenet.measurements import Statistics

Array = NDArray[np.float32]
_CELL_INCHES = 2.1
_PERCENTILE = 99.9
_NAMES = {
    "volume_um3": "volume (µm³)",
    "sphericity": "sphericity",
    "z_xy_ratio": "z / xy diameter",
    "iou": "IoU",
    "volume_error": "error of the volume",
}

_RANGES: dict[str, tuple[float, float | None]] = {
    "volume_um3": (0, None),
    "sphericity": (0, 1.05),
    "z_xy_ratio": (0, 6),
    "iou": (0, 1.05),
    "volume_error": (-1, 3),
}


@dataclass(frozen=True)
class Windows:
    """What is projected: shares of the depth, of the height and of the width."""

    z: tuple[float, float]
    y: tuple[float, float]
    x: tuple[float, float]

    @classmethod
    def of(cls, section: Visualization | None, image_shape: tuple[int, ...]) -> "Windows":
        """Return the windows for a recorded image (Z, Y, X).

        ``mip`` planes from ``z_stack``, rows and columns from ``x_slice``, moved inside where they
        begin or end beyond the image; everything without a section.
        """
        if section is None:
            return cls((0, 1), (0, 1), (0, 1))
        starts = (section.z_stack, section.x_slice, section.x_slice)
        shares = []
        for start, n in zip(starts, image_shape, strict=True):
            width = min(section.mip, n)
            first = min(start, n - width)
            shares.append((first / n, (first + width) / n))
        return cls(*shares)

    def views(self, volume: Array, project: Callable[..., Array]) -> tuple[Array, Array, Array]:
        """Return the projections (Y, X), (Z, X) and (Z, Y) of a volume."""
        found = []
        for axis, (low, high) in enumerate((self.z, self.y, self.x)):
            n = volume.shape[axis]
            first = round(low * n)
            part = volume.take(range(first, max(round(high * n), first + 1)), axis=axis)
            found.append(project(part, axis=axis))
        return found[0], found[1], found[2]


def draw_results(
    results: Sequence[Result], threshold: float, section: Visualization | None = None
) -> Figure:
    """Draw what methods made of an image: JNet's result in full, of others the structure.

    Columns: the image, the truth where it is known, structure (outlined at the threshold),
    brightness and reconstruction, what the reconstruction leaves of the image, and the structure
    by other methods. Rows: maximum projections along z, y and x, the difference as a mean.

    Parameters
    ----------
    results
        Of one image, JNet's first.
    threshold
        What counts as structure.
    section
        What is projected, see `Windows.of`.
    """
    first, *others = results
    gain = brightness_gain(first.reconstruction, first.image)
    fitted = (gain * first.reconstruction).astype(np.float32)
    columns: list[tuple[str, Array]] = [("image", first.image)]
    if first.truth is not None:
        columns.append(("truth", first.truth))
    columns.append(("structure", first.structure))
    if first.brightness is not None:
        columns.append(("structure × brightness", first.structure * first.brightness))
    columns += [("reconstruction", fitted), ("difference", fitted - first.image)]
    columns += [(result.method, result.structure) for result in others]

    depth, height, width = (
        n * step for n, step in zip(first.structure.shape, first.voxel_um, strict=True)
    )
    inches = _CELL_INCHES / max(width, height, depth)
    rows = (height, depth, depth)
    figure = Figure(
        figsize=(
            max(width, height) * inches * len(columns) + 1.2,
            sum(rows) * inches + 1.4,
        ),
        dpi=110,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    figure.suptitle(f"{first.name}: xy, xz, yz (µm)")
    axes = figure.subplots(3, len(columns), squeeze=False, height_ratios=rows)
    windows = Windows.of(section, first.image.shape)
    peak = max(float(np.percentile(first.image, _PERCENTILE)), 1e-6)
    for column, (title, volume) in enumerate(columns):
        is_difference = title == "difference"
        views = windows.views(volume, np.mean if is_difference else np.max)
        limits = _limits(title, views, peak)
        for row, view in enumerate(views):
            panel = axes[row, column]
            extent = [(0, width, height, 0), (0, width, depth, 0), (0, height, depth, 0)][row]
            shown = panel.imshow(
                view, extent=extent, aspect="equal", interpolation="nearest", **limits
            )
            _outline(panel, title, view, extent, threshold)
            panel.tick_params(labelsize=6, labelleft=column == 0)
        axes[0, column].set_title(title, fontsize=9)
        if is_difference:
            figure.colorbar(shown, ax=axes[:, column], shrink=0.5).ax.tick_params(labelsize=6)
    return figure


def _limits(title: str, views: Sequence[Array], peak: float) -> dict[str, object]:
    if title == "difference":
        limit = max(*(float(np.abs(view).max()) for view in views), 1e-6)
        return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    if title in ("image", "reconstruction"):
        return {"cmap": "gray", "vmin": 0, "vmax": peak}
    if title in ("truth", "structure", "structure × brightness"):
        return {"cmap": "gray", "vmin": 0, "vmax": 1}
    # The brightest voxel of another method may be a spike.
    return {"cmap": "gray", "vmin": 0, "vmax": float(np.percentile(views[0], _PERCENTILE))}


def _outline(
    panel: Axes,
    title: str,
    view: Array,
    extent: tuple[float, float, float, float],
    threshold: float,
) -> None:
    if title == "structure" and view.min() < threshold < view.max():
        right, bottom = extent[1], extent[2]
        places = [(np.arange(n) + 0.5) / n for n in view.shape]
        panel.contour(
            places[1] * right,
            places[0] * bottom,
            view,
            levels=[threshold],
            colors="tab:orange",
            linewidths=0.8,
        )


def draw_sweep(
    summaries: Mapping[str, Mapping[float, Summary]],
    marked: Mapping[str, float | None],
    ideals: Mapping[str, float],
) -> Figure:
    """Draw the scores of each method over the threshold.

    Parameters
    ----------
    summaries
        Method to threshold to scores.
    marked
        The best threshold of each method.
    ideals
        Score to the value that would be right, drawn as a line; only these scores are drawn.
    """
    figure = Figure(figsize=(3.8 * len(ideals) + 0.4, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(ideals), squeeze=False)[0]
    for panel, (score, ideal) in zip(panels, ideals.items(), strict=True):
        for number, (method, by_threshold) in enumerate(summaries.items()):
            found: list[Statistics] = [summary[score] for summary in by_threshold.values()]
            means = np.array([one.mean for one in found])
            half = np.nan_to_num(np.array([one.ci95 for one in found]))
            thresholds, colour = list(by_threshold), f"C{number}"
            panel.plot(thresholds, means, color=colour, label=method)
            panel.fill_between(thresholds, means - half, means + half, color=colour, alpha=0.2)
            best = marked.get(method)
            if best is not None:
                panel.plot(best, by_threshold[best][score].mean, "o", color=colour)
        panel.axhline(ideal, color="0.5", linestyle=":", linewidth=1)
        panel.set(xlabel="threshold", title=_NAMES[score], xlim=(0, 1))
        panel.set_ylim(*_RANGES[score])
        if score == "volume_um3":
            panel.set_ylim(0, 4 * ideal)
    panels[0].legend(frameon=False, fontsize=8)
    return figure
