import csv

import numpy as np
import pytest
import torch
from matplotlib.quiver import Quiver

from optics import presets
from scopekit.errors import UserError
from serenet.aberrations.shift_map import SHIFT_COLUMNS, write_shift_map

NNUM13 = presets["nnum13"]
ROWS, COLUMNS = (torch.tensor(n) - 6.0 for n in np.divmod(NNUM13.views, 13))


def test_the_map_of_shifts(tmp_path, figures):
    shifts = torch.stack([ROWS, -2 * COLUMNS], dim=1).double()
    files = tmp_path / "map.png", tmp_path / "map.csv"
    write_shift_map(*files, shifts, NNUM13.views, 13, 0.1221, overwrite=False)
    assert files[0].read_bytes().startswith(b"\x89PNG")
    (arrows,) = (c for c in figures[0].axes[0].collections if isinstance(c, Quiver))
    longest = float(shifts.norm(dim=1).max())
    np.testing.assert_allclose(arrows.U * longest, shifts[:, 1], atol=1e-6)
    np.testing.assert_allclose(arrows.V * longest, shifts[:, 0], atol=1e-6)
    np.testing.assert_array_equal(arrows.X, COLUMNS + 6)
    np.testing.assert_array_equal(arrows.Y, ROWS + 6)
    lengths = np.asarray(figures[0].axes[0].images[0].get_array())
    assert lengths[7, 7] == pytest.approx(0.1221 * np.hypot(1, 2), rel=1e-4)
    with files[1].open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == SHIFT_COLUMNS
    assert len(rows) == 49
    assert rows[2] == {
        "view": "98",
        "row": "7",
        "column": "7",
        "dy_pixel": "1.000",
        "dx_pixel": "-2.000",
        "dy_um": "0.12210",
        "dx_um": "-0.24420",
    }
    with pytest.raises(UserError, match="`overwrite=True`"):
        write_shift_map(*files, shifts, NNUM13.views, 13, 0.1221, overwrite=False)
    write_shift_map(*files, 0 * shifts, NNUM13.views, 13, 0.1221, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2
