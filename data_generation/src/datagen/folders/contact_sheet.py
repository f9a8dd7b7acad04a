"""One picture of a whole dataset: maximum projections of every volume, statistics beside."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from scopekit.images.files import VoxelSize
from scopekit.outputs import whole_file
from scopekit.preview import Projections, draw_scale_bar, orthogonal_projections

_PICTURE_INCHES = 2.6
_TEXT_INCHES = 1.35
_TITLE_INCHES = 0.26
_GAP_INCHES = 0.12
_HEADER_INCHES = 0.42
_DPI = 160
# Longest side of a projection kept: what a picture of this size can show.
_KEPT_PIXELS = 640


@dataclass(frozen=True)
class SheetItem:
    """One volume on a contact sheet.

    Attributes
    ----------
    title
        A few words above the picture.
    projections
        Maximum projections (Y, X), (Z, X) and (Y, Z); see `sheet_item`.
    extent_um
        Size of the volume along (z, y, x), um.
    lines
        Statistics, a line each, beside the picture.
    """

    title: str
    projections: Projections
    extent_um: tuple[float, float, float]
    lines: Sequence[str] = ()


def sheet_item(
    title: str,
    volume: Iterable[NDArray] | Projections,
    voxel_um: VoxelSize,
    lines: Sequence[str] = (),
) -> SheetItem:
    """Make an item of a contact sheet, holding no more pixels than the picture shows.

    Parameters
    ----------
    title
        A few words above the picture.
    volume
        Its planes, one after the other, (Y, X) each; or a tuple of its three maximum projections
        (Y, X), (Z, X) and (Y, Z).
    voxel_um
        (z, y, x) step in um.
    lines
        Statistics, a line each.
    """
    projections = volume if isinstance(volume, tuple) else orthogonal_projections(volume)
    xy, zx, _ = projections
    size = (zx.shape[0], *xy.shape)
    extent = tuple(n * step for n, step in zip(size, voxel_um, strict=True))
    small = tuple(_shrunk(image) for image in projections)
    return SheetItem(
        title, (small[0], small[1], small[2]), (extent[0], extent[1], extent[2]), lines
    )


def _shrunk(image: NDArray) -> NDArray[np.float32]:
    """Return the maxima of equal blocks, so that thin structures stay visible."""
    for axis, size in enumerate(image.shape):
        edges = np.linspace(0, size, min(size, _KEPT_PIXELS), endpoint=False).astype(int)
        image = np.maximum.reduceat(image, edges, axis=axis)
    return image.astype(np.float32)


def save_contact_sheet(
    path: Path,
    items: Sequence[SheetItem],
    *,
    overwrite: bool,
    heading: str = "",
) -> None:
    """Draw all volumes of a dataset in a grid, each on its own grey scale and to its own scale.

    Parameters
    ----------
    path
        The PNG to write.
    items
        The volumes, in reading order; at least one.
    overwrite
        Whether an existing picture may be replaced.
    heading
        A line above all.
    """
    if not items:
        raise ValueError("a contact sheet needs at least one item")
    cell = (_PICTURE_INCHES + _TEXT_INCHES + _GAP_INCHES, _PICTURE_INCHES + _TITLE_INCHES)
    # About as wide as four thirds of its height.
    columns = max(1, round(math.sqrt(len(items) * 4 / 3 * cell[1] / cell[0])))
    rows = math.ceil(len(items) / columns)
    header = _HEADER_INCHES if heading else 0.0
    width = columns * cell[0] + _GAP_INCHES
    height = rows * (cell[1] + _GAP_INCHES) + _GAP_INCHES + header
    figure = Figure(figsize=(width, height), facecolor="black", dpi=_DPI)
    FigureCanvasAgg(figure)
    text: dict[str, Any] = {"color": "white", "va": "top"}
    figure.text(_GAP_INCHES / width, 1 - 0.12 / height, heading, fontsize=12, weight="bold", **text)
    for number, item in enumerate(items):
        row, column = divmod(number, columns)
        left = _GAP_INCHES + column * cell[0]
        top = header + _GAP_INCHES + row * (cell[1] + _GAP_INCHES)
        figure.text(left / width, 1 - top / height, item.title, fontsize=10, weight="bold", **text)
        top += _TITLE_INCHES
        depth_um, height_um, width_um = item.extent_um
        gap_um = 0.02 * max(height_um, width_um)
        total_um = (width_um + gap_um + depth_um, height_um + gap_um + depth_um)
        scale = _PICTURE_INCHES / max(total_um)
        size = (total_um[0] * scale, total_um[1] * scale)
        axes = figure.add_axes(
            (left / width, 1 - (top + size[1]) / height, size[0] / width, size[1] / height)
        )
        _draw(axes, item, gap_um, um_per_inch=1 / scale)
        figure.text(
            (left + size[0] + 0.06) / width,
            1 - top / height,
            "\n".join(item.lines),
            fontsize=8,
            linespacing=1.5,
            **text,
        )
    with whole_file(path, overwrite=overwrite) as partial:
        figure.savefig(partial, format="png", facecolor="black")


def _draw(axes: Axes, item: SheetItem, gap_um: float, um_per_inch: float) -> None:
    """Lay out XY, below it XZ, to its right ZY, in um, and draw a scale bar with its length."""
    depth, height, width = item.extent_um
    xy, zx, yz = item.projections
    high = max(np.percentile(xy[xy > 0], 99), 1e-12) if (xy > 0).any() else 1.0
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": high, "aspect": "auto"}
    bottom, right = height + gap_um, width + gap_um
    axes.imshow(xy, extent=(0, width, height, 0), **look)
    axes.imshow(zx, extent=(0, width, bottom + depth, bottom), **look)
    axes.imshow(yz, extent=(right, right + depth, height, 0), **look)
    axes.set_xlim(0, right + depth)
    axes.set_ylim(bottom + depth, 0)
    axes.set_axis_off()
    for left, top, side, down in (
        (0, 0, width, height),
        (0, bottom, width, depth),
        (right, 0, depth, height),
    ):
        axes.add_patch(
            Rectangle((left, top), side, down, fill=False, edgecolor="0.35", linewidth=0.5)
        )
    thick, margin = 0.025 * um_per_inch, 0.06 * um_per_inch
    draw_scale_bar(axes, (width, height), thick, margin, fontsize=6.5)
