"""The figure of ``serenet compare``: projections beside the truth, and what differs below."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scopekit.images.files import VoxelSize
from scopekit.outputs import whole_file
from scopekit.preview import Projections, draw_scale_bar, orthogonal_projections, printable

_CELL_INCHES = 3.0
_NOTE = (
    "Maximum projections along z;\n"
    "to the right along x, below along y.\n"
    "Black and white are the 1 % and\n"
    "99.9 % quantiles of each volume's own.\n\n"
    "This row: the picture above less that\n"
    "of the truth, in parts of white."
)


def save_comparison(
    path: Path,
    volumes: Sequence[NDArray[np.float32]],
    voxel_um: VoxelSize | None,
    *,
    titles: Sequence[str],
    captions: Sequence[str],
    overwrite: bool,
) -> None:
    """Draw orthogonal maximum projections of the truth and results, and their differences.

    Above, each volume is on its own grey scale; below are these pictures of the results less that
    of the truth, in red (too bright) and blue (too dark).

    Parameters
    ----------
    path
        The PNG to write.
    volumes
        (Z, Y, X) each, the truth first.
    voxel_um
        (z, y, x) step in um; ``None`` if it is not known.
    titles, captions
        Of every volume; captions may have two lines.
    overwrite
        Whether an existing picture may be replaced.
    """
    pictures = [_grey(orthogonal_projections(volume)) for volume in volumes]
    steps = voxel_um or (1.0, 1.0, 1.0)
    depth, height, width = (n * step for n, step in zip(volumes[0].shape, steps, strict=True))
    size_um = (depth, height, width)
    gap_um = 0.03 * max(height, width)
    aspect = (height + gap_um + depth) / (width + gap_um + depth)

    figure = Figure(
        figsize=(_CELL_INCHES * len(pictures) + 0.9, 2 * _CELL_INCHES * aspect + 1.2),
        dpi=130,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    cells = figure.subplots(2, len(pictures), squeeze=False)
    above, below = cells
    for axes, title, picture, caption in zip(above, titles, pictures, captions, strict=True):
        _draw(axes, picture, size_um, gap_um, "gray", 0)
        # File names may hold what would begin a formula.
        axes.set_title(
            printable(title), fontsize=10, weight="bold", loc="left", pad=30, parse_math=False
        )
        axes.text(0, 1.02, caption, fontsize=8, va="bottom", transform=axes.transAxes)
    if voxel_um is not None:
        draw_scale_bar(above[0], (width, height), 0.015 * height, gap_um, fontsize=8)
    for axes, picture in zip(below[1:], pictures[1:], strict=True):
        errors = [a - b for a, b in zip(picture, pictures[0], strict=True)]
        _draw(axes, errors, size_um, gap_um, "RdBu_r", -1)
    below[0].set_axis_off()
    below[0].text(0, 0.95, _NOTE, va="top", fontsize=9, transform=below[0].transAxes)
    figure.colorbar(below[-1].images[0], ax=list(below), shrink=0.8)
    with whole_file(path, overwrite=overwrite) as partial:
        figure.savefig(partial, format="png")


def _grey(panels: Projections) -> list[NDArray[np.float32]]:
    low, high = np.percentile(panels[0], (1, 99.9))
    return [np.clip((panel - low) / max(high - low, 1e-12), 0, 1) for panel in panels]


def _draw(
    axes: Axes,
    panels: Sequence[NDArray[np.float32]],
    size_um: tuple[float, float, float],
    gap_um: float,
    colours: str,
    least: float,
) -> None:
    """Lay out XY, below it ZX, to its right YZ, in um; colours go from ``least`` to 1."""
    depth, height, width = size_um
    right, bottom = width + gap_um, height + gap_um
    extents = [
        (0, width, height, 0),
        (0, width, bottom + depth, bottom),
        (right, right + depth, height, 0),
    ]
    for panel, extent in zip(panels, extents, strict=True):
        axes.imshow(panel, extent=extent, cmap=colours, vmin=least, vmax=1)
    axes.set_xlim(0, right + depth)
    axes.set_ylim(bottom + depth, 0)
    axes.set_axis_off()
