import csv

import numpy as np
import pytest
import torch

from optics import presets
from scopekit.errors import UserError
from serenet.aberrations.shift_map import SHIFT_COLUMNS, write_shift_map

NNUM13 = presets["nnum13"]
ROWS, COLUMNS = (torch.tensor(n) - 6.0 for n in np.divmod(NNUM13.views, 13))


def test_the_map_of_shifts(tmp_path):
    shifts = torch.stack([ROWS, -2 * COLUMNS], dim=1).double()
    files = tmp_path / "map.png", tmp_path / "map.csv"
    write_shift_map(*files, shifts, NNUM13.views, 13, 0.1221, overwrite=False)
    assert files[0].read_bytes().startswith(b"\x89PNG")
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
