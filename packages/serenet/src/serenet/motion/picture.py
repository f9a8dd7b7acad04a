"""A picture of a view before and after motion correction."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scopekit.images.files import PartialVoxelSize
from scopekit.outputs import whole_file

_PANEL_INCHES = 4.2


def save_motion_picture(
    path: Path,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    voxel_um: PartialVoxelSize,
) -> None:
    """Draw a view before and after correction, on one grey scale, and what was changed.

    Parameters
    ----------
    path
        The PNG to write; an existing one is replaced.
    before, after
        (Y, X).
    voxel_um
        (z, y, x) step in um; ``None`` where it is not known.
    """
    _, y_um, x_um = voxel_um
    y_step, x_step = (y_um, x_um) if y_um and x_um else (1.0, 1.0)
    height, width = before.shape[0] * y_step, before.shape[1] * x_step
    figure = Figure(
        figsize=(3 * _PANEL_INCHES + 1, _PANEL_INCHES * min(height / width, 3) + 0.7),
        dpi=120,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    extent = (0, width, height, 0)
    low, high = np.percentile(before, (1, 99.8))
    for axes, view, title in zip(panels, (before, after), ("scanned", "corrected"), strict=False):
        axes.imshow(view, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest")
        axes.set_title(f"central view, {title}")
    change = after - before
    reach = float(np.percentile(np.abs(change), 99.8)) or 1.0
    drawn = panels[2].imshow(
        change, cmap="RdBu_r", vmin=-reach, vmax=reach, extent=extent, interpolation="nearest"
    )
    panels[2].set_title("corrected - scanned")
    figure.colorbar(drawn, ax=panels[2], shrink=0.8)
    panels[0].set_xlabel("µm" if y_um and x_um else "pixels")
    with whole_file(path, overwrite=True) as partial:
        figure.savefig(partial, format="png")
