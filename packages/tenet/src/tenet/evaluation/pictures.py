"""The pictures of an evaluation: views of a result, scores over thresholds, the PSF."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scopekit.preview import draw_scale_bar, printable
from tenet.array_kinds import Array, to_array
from tenet.config.files import Config
from tenet.config.sections import Visualization
from tenet.evaluation.scores import SCORES, Result, Summary
from tenet.evaluation.statistics import Statistics
from tenet.metrics import fit_of, slabs
from tenet.microscope.psf import Profiles, draw_sections
from tenet.network.jnet import JNet
from tenet.network.weights import load_model, pretrained_file

Views = tuple[Array, Array, Array]
Combine = Callable[..., Array]
_COLUMN_INCHES, _SPACE_INCHES, _HEADER_INCHES = 1.9, 0.1, 0.72
_PERCENTILE = 99.9
_LOOKED_AT = 2_000_000  # voxels


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

    def views(
        self, *volumes: Array, combine: Combine = lambda volume: volume, mean: bool = False
    ) -> Views:
        """Return the projections (Y, X), (Z, X) and (Z, Y) of a volume, of maxima or means.

        It is what is made of the same parts of all volumes, some planes at a time.
        """
        project, join = (np.mean, np.add) if mean else (np.max, np.maximum)
        depth, height, width = volumes[0].shape
        first, end = _places(self.z, depth)
        rows, columns = (slice(*_places(s, n)) for s, n in ((self.y, height), (self.x, width)))
        zx, zy, start = [], [], 0
        xy = np.full((height, width), 0 if mean else -np.inf, np.float32)
        for parts in slabs(*volumes):
            part = combine(*parts)
            inside = part[max(first - start, 0) : max(end - start, 0)]
            for plane in inside:
                join(xy, plane, out=xy)
            zx.append(project(part[:, rows], axis=1))
            zy.append(project(part[:, :, columns], axis=2))
            start += len(part)
        if mean:
            xy /= end - first
        return xy, np.concatenate(zx), np.concatenate(zy)


def _places(share: tuple[float, float], n: int) -> tuple[int, int]:
    """Return first and last (exclusive) of those places of an axis."""
    first = round(share[0] * n)
    return first, max(round(share[1] * n), first + 1)


def _high(volume: Array) -> float:
    """Return nearly the largest value of a volume, of a large one by some of its voxels."""
    step = -(-volume.size // _LOOKED_AT)
    found = np.concatenate([part.ravel()[::step] for (part,) in slabs(volume)])
    return max(float(np.percentile(found, _PERCENTILE)), 1e-6)


@dataclass(frozen=True)
class _Column:
    """One volume of a picture.

    Attributes
    ----------
    title
        Above it.
    views
        Its projections along z, y and x.
    limits
        Values that are drawn darkest and brightest.
    colours
        Of what is between them.
    outlined_at
        Level of an outline, if there is one.
    """

    title: str
    views: Views
    limits: tuple[float, float] = (0, 1)
    colours: str = "gray"
    outlined_at: float | None = None


def _columns(results: Sequence[Result], threshold: float, windows: Windows) -> list[_Column]:
    """Return what `draw_results` draws, from left to right."""
    first, *others = results
    again, image = first.reconstruction, first.image
    gain, offset = (np.float32(n) for n in fit_of(again, image))
    recorded = (0, _high(image))
    columns = [_Column("image", windows.views(first.image), recorded)]
    if first.truth is not None:
        columns.append(_Column("truth", windows.views(first.truth)))
    structure = windows.views(first.structure)
    columns.append(_Column("structure", structure, outlined_at=threshold))
    if first.brightness is not None:
        bright = windows.views(first.structure, first.brightness, combine=np.multiply)
        columns.append(_Column("structure × brightness", bright))
    fitted = windows.views(again, combine=lambda part: gain * part + offset)
    columns.append(_Column("reconstruction", fitted, recorded))
    difference = windows.views(
        again, image, combine=lambda part, shown: gain * part + offset - shown, mean=True
    )
    most = max(*(float(np.abs(view).max()) for view in difference), 1e-6)
    title = f"difference\n± {most:.2g} of the peak"
    columns.append(_Column(title, difference, (-most, most), "RdBu_r"))
    for other in others:
        views = windows.views(other.structure)
        # The brightest voxel of another method may be a spike.
        high = max(float(np.percentile(views[0], _PERCENTILE)), 1e-6)
        columns.append(_Column(other.method, views, (0, high)))
    return columns


def draw_results(
    results: Sequence[Result], threshold: float, section: Visualization | None = None
) -> Figure:
    """Draw what methods made of an image: JNet's result in full, of others the structure.

    Columns: the image, the truth where it is known, structure (outlined at the threshold),
    brightness and reconstruction, the reconstruction less the image, and the structure
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
    first = results[0]
    columns = _columns(results, threshold, Windows.of(section, first.image.shape))
    z_um, y_um, x_um = (
        n * step for n, step in zip(first.structure.shape, first.voxel_um, strict=True)
    )
    gap = 0.03 * max(y_um, x_um)
    # Left, top, width and height of the views, one below the other.
    boxes = [
        (0, 0, x_um, y_um),
        (0, y_um + gap, x_um, z_um),
        (0, y_um + z_um + 2 * gap, y_um, z_um),
    ]
    wide, high = max(x_um, y_um), y_um + 2 * z_um + 2 * gap
    inches = _COLUMN_INCHES / wide
    step = _COLUMN_INCHES + _SPACE_INCHES
    size = (step * len(columns) + _SPACE_INCHES, high * inches + _HEADER_INCHES)
    figure = Figure(figsize=size, dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    figure.text(
        _SPACE_INCHES / size[0],
        1 - 0.2 / size[1],
        printable(first.name),
        color="white",
        weight="bold",
        parse_math=False,
    )
    for number, column in enumerate(columns):
        left = (_SPACE_INCHES + number * step) / size[0]
        axes = figure.add_axes((left, 0, _COLUMN_INCHES / size[0], high * inches / size[1]))
        for view, box in zip(column.views, boxes, strict=True):
            _show(axes, view, box, column)
        axes.set(xlim=(0, wide), ylim=(high, 0), label=column.title)
        axes.set_axis_off()
        if not number:
            draw_scale_bar(axes, (x_um, y_um), 0.012 * y_um, gap, fontsize=7)
            for (x, y, _, _), name in zip(boxes, ("xy", "xz", "yz"), strict=True):
                axes.text(x + gap / 2, y + gap / 2, name, color="0.7", fontsize=7, va="top")
        figure.text(left, 1 - 0.36 / size[1], column.title, color="0.9", fontsize=8, va="top")
    return figure


def _show(axes: Axes, view: Array, box: tuple[float, float, float, float], column: _Column) -> None:
    """Draw a view in its box, in um, and its outline."""
    left, top, width, height = box
    extent = (left, left + width, top + height, top)
    low, high = column.limits
    how: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "cmap": column.colours}
    axes.imshow(view, extent=extent, vmin=low, vmax=high, **how)
    level = column.outlined_at
    if level is not None and view.min() < level < view.max():
        rows, columns = ((np.arange(n) + 0.5) / n for n in view.shape)
        places = (left + columns * width, top + rows * height)
        axes.contour(*places, view, levels=[level], colors="tab:orange", linewidths=0.8)


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
        panel.set(xlabel="threshold", title=SCORES[score].heading, xlim=(0, 1))
        panel.set_ylim(*SCORES[score].axis)
        if score == "volume_um3":
            panel.set_ylim(0, 4 * ideal)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def draw_psf(model: JNet, config: Config, weights: Path) -> Figure:
    """Draw the PSF before and after fine-tuning: of the pre-trained weights, and of the model.

    Where there are no others, the analytic PSF is what was before.
    """
    earlier = pretrained_file(config)
    if earlier.is_file() and earlier.resolve() != weights.resolve():
        titles = ("before", "after fine-tuning")
        before = load_model(earlier, model.params).image.section()
    else:
        titles, before = ("analytic", "neural"), model.image.analytic
    axial, _, lateral = model.recorded_voxel_um
    pair = (before, model.image.section())
    profiles = [Profiles(to_array(section), axial, lateral) for section in pair]
    return draw_sections(dict(zip(titles, profiles, strict=True)), f"PSF of {weights.stem}")
