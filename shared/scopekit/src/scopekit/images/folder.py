"""A folder of stacks as one series: every file a time point."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.images.stack import StackFile


@dataclass(frozen=True)
class FolderSeries(StackFile):
    """The files of a folder, none of which is open.

    Attributes
    ----------
    files
        One a time point.
    """

    files: tuple[Path, ...]

    def frame_name(self, frame: int) -> str:
        """Return the name of the frame's file."""
        return self.files[frame].name

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        """Read one time point, as `StackFile.read` says."""
        return self._open(frame).read()

    def read_window(
        self, pages: Sequence[int], rows: slice, columns: slice, frame: int = 0
    ) -> NDArray[np.float32]:
        """Read a window of some pages of one file."""
        return self._open(frame).read_window(pages, rows, columns)

    def _open(self, frame: int) -> StackFile:
        stack = open_stack(self.files[frame])
        if stack.shape != self.shape[1:]:
            raise UserError(
                f"{stack.path}: shape {stack.shape}; this series has {self.shape[1:]}: every file "
                "of the folder must be a time point of that shape"
            )
        return stack


def open_folder_series(folder: Path, files: Sequence[Path]) -> FolderSeries:
    """Make a series of the files of a folder, numbers in their names counted as numbers.

    Parameters
    ----------
    folder
        The folder.
    files
        Those of its files that are time points; the first one that can be read tells the shape.

    Raises
    ------
    UserError
        If none can be read, or the first is a series itself.
    """
    in_order = sorted(files, key=_natural)
    first = _first_readable(in_order)
    if len(first.shape) != 3:
        raise UserError(
            f"{first.path}: shape {first.shape}; a folder is one series, every file a time point: "
            "give files that are series by name, not by their folder"
        )
    shape = (len(in_order), *first.shape)
    return FolderSeries(folder, shape, first.dtype, first.voxel_um, tuple(in_order))


def _first_readable(files: Sequence[Path]) -> StackFile:
    failure: UserError | None = None
    for file in files:
        try:
            return open_stack(file)
        except UserError as found:
            failure = failure or found
    raise failure or UserError("no files for a series")


def _natural(file: Path) -> list[tuple[int, str]]:
    """Return a sorting key by which ``t2`` comes before ``t10``."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name)
    ]
