"""A picture of the microlens lattice over its frame, in which sub-pixel errors can be seen."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scopekit.outputs import whole_file
from serenet.rectification.lattice import Lattice

_CROP_LENSES = 5
_CROPS = {
    "top left": (0.0, 0.0),
    "middle": (0.5, 0.5),
    "top right": (0.0, 1.0),
    "bottom left": (1.0, 0.0),
    "bottom right": (1.0, 1.0),
}


def save_lattice_picture(
    path: Path, frame: NDArray[np.floating], lattice: Lattice, *, overwrite: bool
) -> None:
    """Draw the lattice over a frame: all of it, and enlarged in the middle and the corners.

    Parameters
    ----------
    path
        The PNG to write.
    frame
        (Y, X), usually the radiometry frame.
    lattice
        The microlenses; crosses mark their centres, lines the borders between them.
    overwrite
        Whether an existing picture may be replaced.
    """
    figure = Figure(figsize=(15, 6.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic(
        [
            ["frame", "frame", "top left", "middle", "top right"],
            ["frame", "frame", "bottom left", "text", "bottom right"],
        ]
    )
    low, high = np.percentile(frame, (0.5, 99.5))
    for axes in panels.values():
        axes.imshow(frame, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    whole = panels.pop("frame")
    _draw_borders(whole, lattice, every=max(lattice.rows, lattice.columns) // 30 + 1)
    whole.set_title("whole microlenses")
    caption = panels.pop("text")
    caption.clear()
    caption.set_axis_off()
    caption.text(0, 1, _describe(lattice), va="top", transform=caption.transAxes, fontsize=11)

    centres = lattice.centres()
    reach = _CROP_LENSES / 2 * lattice.pitch_y
    for place, (i, j) in _CROPS.items():
        axes = panels[place]
        _draw_borders(axes, lattice, every=1)
        y, x = np.moveaxis(centres, -1, 0)
        axes.plot(x.ravel(), y.ravel(), "+", color="tab:red", markersize=8, markeredgewidth=0.8)
        middle = centres[round(i * (lattice.rows - 1)), round(j * (lattice.columns - 1))]
        y, x = np.clip(middle, reach - 0.5, np.array(frame.shape) - 0.5 - reach)
        axes.set_xlim(x - reach, x + reach)
        axes.set_ylim(y + reach, y - reach)
        axes.set_title(place)
    with whole_file(path, overwrite=overwrite) as partial:
        figure.savefig(partial, format="png")


def _draw_borders(axes: Axes, lattice: Lattice, every: int) -> None:
    """Draw every n-th border between rows and between columns, and the outermost ones."""
    rows, columns = (
        np.unique(np.append(np.arange(0, n, every), n)) - 0.5
        for n in (lattice.rows, lattice.columns)
    )
    ends = [((i, columns[0]), (i, columns[-1])) for i in rows]
    ends += [((rows[0], j), (rows[-1], j)) for j in columns]
    first = np.array([lattice.offset_y, lattice.offset_x])
    lines = (first + np.array(ends) @ lattice.steps)[..., ::-1]
    axes.add_collection(LineCollection(list(lines), colors="tab:orange", linewidths=0.6))


def _describe(lattice: Lattice) -> str:
    return "\n".join(
        [
            f"{lattice.rows} x {lattice.columns} microlenses",
            f"pitch y {lattice.pitch_y:.3f} px",
            f"pitch x {lattice.pitch_x:.3f} px",
            f"rotation {lattice.rotation_deg:.3f}°",
            f"skew {lattice.skew_deg:.3f}°",
            "first centre",
            f"y {lattice.offset_y:.2f}, x {lattice.offset_x:.2f} px",
        ]
    )
