"""Statistics of a bubtub dataset: a table and a contact sheet."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datagen.bubtub.scenes import kind_of
from datagen.folders.contact_sheet import SheetItem, save_contact_sheet, sheet_item
from scopekit.images.files import VoxelSize, open_stack
from scopekit.outputs import whole_file


@dataclass(frozen=True)
class Statistics:
    """Of one volume."""

    group: int
    kind: str
    nonzero_percent: float
    maximum: int
    mean: float


_TABLE, _SHEET = "bubtub.csv", "bubtub.png"


def is_summarised(out: Path, volumes: Mapping[int, Path]) -> bool:
    """Tell whether the table and the contact sheet exist and hold these volumes."""
    if not (out / _TABLE).exists() or not (out / _SHEET).exists():
        return False
    with (out / _TABLE).open(encoding="utf-8", newline="") as handle:
        return [row["group"] for row in csv.DictReader(handle)] == [str(g) for g in sorted(volumes)]


def summarise(out: Path, volumes: Mapping[int, Path], voxel_um: VoxelSize, heading: str) -> None:
    """Write ``bubtub.csv`` and ``bubtub.png`` of volumes by their group's number.

    Parameters
    ----------
    out
        Folder of both files; older ones are replaced.
    volumes
        Group to file.
    voxel_um
        (z, y, x) step of the volumes.
    heading
        Above the pictures.
    """
    rows: list[Statistics] = []
    items: list[SheetItem] = []
    for group, path in sorted(volumes.items()):
        row, item = _examine(group, path, voxel_um)
        rows.append(row)
        items.append(item)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(rows[0])))
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    save_contact_sheet(out / _SHEET, items, overwrite=True, heading=heading)
    with whole_file(out / _TABLE, overwrite=True) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")


def _examine(group: int, path: Path, voxel_um: VoxelSize) -> tuple[Statistics, SheetItem]:
    volume = open_stack(path).read()
    nonzero = sum(int(np.count_nonzero(plane)) for plane in volume)
    row = Statistics(
        group,
        kind_of(group),
        round(100 * nonzero / volume.size, 4),
        int(volume.max()),
        round(float(volume.mean(dtype=np.float64)), 4),
    )
    lines = [
        row.kind,
        f"non-zero {row.nonzero_percent:.2f} %",
        f"max {row.maximum}",
        f"mean {row.mean:.3f}",
    ]
    return row, sheet_item(f"group {group:03d}", iter(volume), voxel_um, lines)
