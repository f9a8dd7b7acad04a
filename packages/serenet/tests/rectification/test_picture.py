"""The picture of the lattice over its frame."""

import numpy as np
import pytest

from scopekit.errors import UserError
from serenet.rectification.picture import save_lattice_picture


def test_borders_lie_half_a_pitch_from_the_centres(tmp_path, frames, lattice, figures):
    path = tmp_path / "lattice.png"
    save_lattice_picture(path, frames["radiometry"], lattice, overwrite=False)
    (figure,) = figures
    panels = {axes.get_title(): axes for axes in figure.axes}
    middle = panels["middle"]
    lines = middle.collections[0].get_segments()
    assert len(lines) == lattice.rows + lattice.columns + 2
    row_step, column_step = lattice.steps
    corner = lattice.centres()[0, 0] - (row_step + column_step) / 2  # (y, x)
    np.testing.assert_allclose(lines[0][0], corner[::-1], atol=1e-6)
    np.testing.assert_allclose(
        lines[0][1], (corner + lattice.columns * column_step)[::-1], atol=1e-6
    )
    np.testing.assert_allclose(lines[1][0], (corner + row_step)[::-1], atol=1e-6)
    crosses = middle.lines[0].get_xydata()
    np.testing.assert_allclose(crosses[0], lattice.centres()[0, 0][::-1], atol=1e-6)
    # The middle panel shows the middle, the corners theirs.
    left, right = middle.get_xlim()
    assert left < lattice.centres()[lattice.rows // 2, lattice.columns // 2, 1] < right
    assert panels["top left"].get_xlim()[1] < panels["top right"].get_xlim()[0]
    assert panels["top left"].get_ylim()[0] < panels["bottom left"].get_ylim()[1]
    with pytest.raises(UserError, match="exists"):
        save_lattice_picture(path, frames["radiometry"], lattice, overwrite=False)
