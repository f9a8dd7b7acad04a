"""A map of the views' shifts: a picture with an arrow for every view, and a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from scopekit.outputs import require_new, whole_file

SHIFT_COLUMNS = ("view", "row", "column", "dy_pixel", "dx_pixel", "dy_um", "dx_um")


def write_shift_map(
    picture: Path,
    table: Path,
    shifts: Tensor,
    view_indices: Sequence[int],
    n_num: int,
    pixel_um: float,
    *,
    overwrite: bool,
) -> None:
    """Write the estimated shifts as a picture, arrows on the grid of views, and as CSV.

    Parameters
    ----------
    picture, table
        The PNG and the CSV to write; columns `SHIFT_COLUMNS`.
    shifts
        (A, 2) from `view_shifts`, in object pixels.
    view_indices, n_num
        As in `predao`.
    pixel_um
        The object pixel, um.
    overwrite
        Whether existing files may be replaced.
    """
    require_new(picture, overwrite=overwrite)
    with whole_file(table, overwrite=overwrite) as partial:
        with partial.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(SHIFT_COLUMNS)
            for a, (dy, dx) in zip(view_indices, shifts.tolist(), strict=True):
                micrometres = [f"{n * pixel_um:.5f}" for n in (dy, dx)]
                writer.writerow([a, *divmod(a, n_num), f"{dy:.3f}", f"{dx:.3f}", *micrometres])
        figure = _draw(shifts.cpu().numpy() * pixel_um, view_indices, n_num)
        with whole_file(picture, overwrite=overwrite) as drawn:
            figure.savefig(drawn, format="png")


def _draw(shifts_um: np.ndarray, view_indices: Sequence[int], n_num: int) -> Figure:
    """Draw an arrow a view, the longest one view long, on a tile that tells its length."""
    lengths = np.full((n_num, n_num), np.nan)
    rows, columns = np.divmod(np.asarray(view_indices), n_num)
    lengths[rows, columns] = np.hypot(*shifts_um.T)
    longest = max(float(np.nanmax(lengths)), 1e-12)

    figure = Figure(figsize=(5.6, 4.8), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(lengths, cmap="viridis", vmin=0, vmax=longest)
    axes.quiver(
        columns,
        rows,
        shifts_um[:, 1] / longest,
        shifts_um[:, 0] / longest,
        color="white",
        edgecolor="black",
        linewidth=0.5,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.008,
        pivot="mid",
    )
    middle = n_num // 2
    axes.plot(middle, middle, "+", color="white")
    margin = 0.7
    axes.set_xlim(columns.min() - margin, columns.max() + margin)
    axes.set_ylim(rows.max() + margin, rows.min() - margin)
    axes.set_xlabel("view's column v")
    axes.set_ylabel("view's row u")
    axes.set_title(f"Shift of the views, longest {longest:.3g} µm", fontsize=10)
    figure.colorbar(image, label="shift against the central view, µm")
    return figure
