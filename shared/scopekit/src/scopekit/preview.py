"""Pictures of volumes: orthogonal maximum projections and sections, with a scale bar."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from scopekit.images.files import PartialVoxelSize
from scopekit.outputs import whole_file

Projections = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
# A pixel that is bright alone is no object.
_OBJECT = 5
_BAR_LENGTHS_UM = np.outer(10.0 ** np.arange(-1, 5), (1, 2, 5)).ravel()
# So that white is seen on white.
_OUTLINE = [withStroke(linewidth=2, foreground="black")]


def orthogonal_projections(volume: Iterable[NDArray[np.float32]]) -> Projections:
    """Return the maximum projections (Y, X), (Z, X) and (Y, Z) of the planes of a volume."""
    xy: NDArray[np.float32] | None = None
    zx_rows, zy_rows = [], []
    for plane in volume:
        values = np.asarray(plane, dtype=np.float32)
        xy = values.copy() if xy is None else np.maximum(xy, values)
        zx_rows.append(values.max(axis=0))
        zy_rows.append(values.max(axis=1))
    if xy is None:
        raise ValueError("a volume needs at least one plane")
    return xy, np.stack(zx_rows), np.stack(zy_rows, axis=1)


@dataclass(frozen=True)
class Sections:
    """Three planes of a volume that meet in a voxel.

    Attributes
    ----------
    panels
        (Y, X), (Z, X) and (Y, Z).
    place
        The voxel's plane, row and column.
    """

    panels: Projections
    place: tuple[int, int, int]


def sections(planes: Callable[[], Iterable[NDArray[np.float32]]]) -> Sections:
    """Return the sections of a volume through its brightest object.

    Parameters
    ----------
    planes
        Gives the planes (Y, X), which are gone through twice: the brightest object is where the
        mean over 5 x 5 pixels is highest.
    """
    brightest = -np.inf
    place = (0, 0, 0)
    for number, plane in enumerate(planes()):
        values = np.array(plane, dtype=np.float32)
        around = F.avg_pool2d(
            torch.from_numpy(values)[None], _OBJECT, 1, _OBJECT // 2, count_include_pad=False
        )
        if float(around.max()) > brightest:
            brightest = float(around.max())
            place, xy = (number, *divmod(int(around.argmax()), values.shape[1])), values
    if brightest == -np.inf:
        raise ValueError("a volume needs at least one plane")
    _, row, column = place
    lines = [(plane[row].copy(), plane[:, column].copy()) for plane in planes()]
    zx, zy = (np.stack(many).astype(np.float32) for many in zip(*lines, strict=True))
    return Sections((xy, zx, zy.T), place)


def printable(name: str) -> str:
    """Return a name with what is no text in it as escapes: names of files may hold any bytes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def draw_preview(
    volumes: Mapping[str, Iterable[NDArray[np.float32]] | Sections],
    voxel_um: PartialVoxelSize,
    captions: Sequence[str] = (),
) -> Figure:
    """Draw orthogonal maximum projections of volumes side by side, each on its own grey scale.

    Parameters
    ----------
    volumes
        Title to volume (Z, Y, X), or its sections, which are drawn instead; all of one shape.
    voxel_um
        (z, y, x) step in um, for the proportions and the scale bar. Unknown ones are drawn as
        long as the known.
    captions
        A line under each title.
    """
    drawn = [
        (volume.panels, volume.place)
        if isinstance(volume, Sections)
        else (orthogonal_projections(volume), None)
        for volume in volumes.values()
    ]
    xy, zx, _ = drawn[0][0]
    known = [step for step in voxel_um if step]
    z_um, y_um, x_um = (step or max(known, default=1.0) for step in voxel_um)
    width_um, height_um = xy.shape[1] * x_um, xy.shape[0] * y_um
    depth_um = zx.shape[0] * z_um
    gap_um = 0.02 * max(width_um, height_um)
    total_um = (width_um + gap_um + depth_um, height_um + gap_um + depth_um)

    inches = 5.2 / max(total_um)
    header = 0.62
    size = (
        total_um[0] * inches * len(drawn) + 0.15 * (len(drawn) + 1),
        total_um[1] * inches + header,
    )
    figure = Figure(figsize=size, facecolor="black", dpi=160)
    FigureCanvasAgg(figure)
    lines = list(captions) + [""] * (len(drawn) - len(captions))
    for column, (title, (panels, place)) in enumerate(zip(volumes, drawn, strict=True)):
        left = (0.15 * (column + 1) + column * total_um[0] * inches) / size[0]
        axes = figure.add_axes(
            (left, 0.0, total_um[0] * inches / size[0], total_um[1] * inches / size[1])
        )
        _draw(axes, panels, (width_um, height_um, depth_um), gap_um, to_scale=bool(voxel_um[2]))
        if place is not None:
            steps = (z_um, y_um, x_um)
            z, y, x = ((n + 0.5) * step for n, step in zip(place, steps, strict=True))
            _mark(axes, (z, y, x), (width_um, height_um), gap_um)
        # File names may hold what would begin a formula.
        look: dict[str, Any] = {"parse_math": False}
        bright, dim = look | {"color": "white", "fontsize": 11}, look | {"color": "0.8"}
        figure.text(left, 1 - 0.28 / size[1], printable(title), weight="bold", **bright)
        figure.text(left, 1 - 0.50 / size[1], lines[column], fontsize=9, **dim)
    return figure


def save_preview(
    path: Path,
    volumes: Mapping[str, Iterable[NDArray[np.float32]] | Sections],
    voxel_um: PartialVoxelSize,
    *,
    overwrite: bool,
    captions: Sequence[str] = (),
) -> None:
    """Write the picture of `draw_preview` as PNG.

    Parameters
    ----------
    path
        The PNG to write.
    volumes, voxel_um, captions
        As in `draw_preview`.
    overwrite
        Whether an existing picture may be replaced.
    """
    figure = draw_preview(volumes, voxel_um, captions)
    with whole_file(path, overwrite=overwrite) as partial:
        figure.savefig(partial, format="png", facecolor="black")


def _draw(
    axes: Axes,
    panels: Projections,
    size_um: tuple[float, float, float],
    gap_um: float,
    *,
    to_scale: bool,
) -> None:
    """Lay out XY, below it ZX, to its right YZ, in um, and a scale bar if the scale is known."""
    width, height, depth = size_um
    xy, zx, yz = panels
    low, high = np.percentile(xy, (1, 99.9))
    limits = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-12), "aspect": "auto"}
    bottom = height + gap_um
    axes.imshow(xy, extent=(0, width, height, 0), **limits)
    axes.imshow(zx, extent=(0, width, bottom + depth, bottom), **limits)
    axes.imshow(yz, extent=(width + gap_um, width + gap_um + depth, height, 0), **limits)
    axes.set_xlim(0, width + gap_um + depth)
    axes.set_ylim(bottom + depth, 0)
    axes.set_axis_off()
    label_look: dict[str, Any] = {"color": "white", "fontsize": 8, "va": "top"}
    label_look["path_effects"] = _OUTLINE
    for x, y, label in ((0, 0, "xy"), (0, bottom, "xz"), (width + gap_um, 0, "zy")):
        axes.text(x + gap_um / 2, y + gap_um / 2, label, **label_look)

    if to_scale:
        draw_scale_bar(axes, (width, height), 0.012 * height, gap_um, fontsize=9)


def _mark(
    axes: Axes,
    place_um: tuple[float, float, float],
    size_um: tuple[float, float],
    gap_um: float,
) -> None:
    """Mark in the gaps between panels where sections through a place (z, y, x) cut the others."""
    (z, y, x), (width, height) = place_um, size_um
    look: dict[str, Any] = {"color": "tab:orange", "linewidth": 1.5}
    axes.plot((x, x), (height, height + gap_um), **look)
    axes.plot((width, width + gap_um), (y, y), **look)
    axes.plot((width, width + gap_um), (height + gap_um + z,) * 2, **look)
    axes.plot((width + gap_um + z,) * 2, (height, height + gap_um), **look)


def draw_scale_bar(
    axes: Axes,
    size_um: tuple[float, float],
    thickness_um: float,
    margin_um: float,
    fontsize: float,
) -> None:
    """Draw a scale bar of about a fifth of the width, and its length, at the lower right.

    Parameters
    ----------
    axes
        In um, y downwards.
    size_um
        Width and height of the picture, whose upper left corner is at 0, 0.
    thickness_um, margin_um
        Of the bar, and around it.
    fontsize
        Of the length.
    """
    width, height = size_um
    bar = float(_BAR_LENGTHS_UM[np.abs(_BAR_LENGTHS_UM - width / 5).argmin()])
    left, top = width - bar - margin_um, height - margin_um - thickness_um
    axes.add_patch(
        Rectangle((left, top), bar, thickness_um, facecolor="white", path_effects=_OUTLINE)
    )
    axes.text(
        left + bar / 2,
        top - thickness_um,
        f"{bar:g} µm",
        color="white",
        fontsize=fontsize,
        ha="center",
        va="bottom",
        path_effects=_OUTLINE,
    )
