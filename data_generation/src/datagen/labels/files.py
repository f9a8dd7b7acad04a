"""Files of a labelled volume: ``NNNN_labelx.npy``, ``NNNN_labelz.npy`` and tables, written whole.

Both labels are float32 of shape (1, Z, Y, X), written and read plane by plane.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.outputs import whole_file

Plane = NDArray[np.float32]
Size = tuple[int, int, int]
PATTERNS = ("[0-9]*_label[xz].npy", "[0-9]*_objects.csv")
_HEADER_BYTES = 128


def volume_files(folder: Path, index: int, *, with_table: bool) -> list[Path]:
    """Return the files of volume ``index``; where the last exists all do."""
    names = ["labelz.npy", *(["objects.csv"] if with_table else []), "labelx.npy"]
    return [folder / f"{index:04d}_{name}" for name in names]


def volume_bytes(size: Size) -> int:
    """Return the size on disk of the two labels of a volume (Z, Y, X)."""
    return 2 * (4 * int(np.prod(size)) + _HEADER_BYTES)


def write_volume_files(
    files: Sequence[Path],
    size: Size,
    planes: Iterable[tuple[Plane, Plane]],
    table: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write all files of a volume; replaces what an interrupted run left of them.

    Parameters
    ----------
    files
        As from `volume_files`.
    size
        (Z, Y, X).
    planes
        (labelx, labelz), each (Y, X), for every z in turn.
    table
        A row for every object, if ``files`` has a table.
    """
    labelz, *tables, labelx = files
    with ExitStack() as stack:
        # Renamed in the reverse order, after all are written.
        whole = [stack.enter_context(whole_file(f, overwrite=True)) for f in (labelx, labelz)]
        for path in tables:
            write_table(stack.enter_context(whole_file(path, overwrite=True)), table)
        with whole[0].open("wb") as x_file, whole[1].open("wb") as z_file:
            for handle in (x_file, z_file):
                header = npy.header_data_from_array_1_0(np.empty(0, np.float32))
                npy.write_array_header_1_0(handle, {**header, "shape": (1, *size)})
            for x_plane, z_plane in planes:
                x_file.write(np.ascontiguousarray(x_plane, np.float32).data)
                z_file.write(np.ascontiguousarray(z_plane, np.float32).data)


def read_planes(path: Path) -> Iterator[Plane]:
    """Yield the planes (Y, X) of a label.

    Raises
    ------
    UserError
        If the file is not a label, or is cut short.
    """
    with path.open("rb") as handle:
        try:
            npy.read_magic(handle)
            (_, depth, height, width), _, dtype = npy.read_array_header_1_0(handle)
        except ValueError as failure:
            raise _damaged(path) from failure
        for _ in range(depth):
            plane = np.fromfile(handle, dtype, height * width)
            if plane.size < height * width:
                raise _damaged(path)
            yield plane.reshape(height, width)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: damaged or cut short; delete it and run again to make it anew")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file of rows of the same keys; at least one."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
