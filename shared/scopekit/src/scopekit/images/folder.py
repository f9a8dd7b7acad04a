"""A folder of stacks as one series: every file a time point."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.images.order import by_number
from scopekit.images.selection import WHOLE_FILE, Selection
from scopekit.images.stack import StackFile

_ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class FolderSeries(StackFile):
    """The files of a folder, none of which is open.

    Attributes
    ----------
    files
        One a time point.
    selection
        Which channel and position of every file.
    """

    files: tuple[Path, ...]
    selection: Selection

    def frame_name(self, frame: int) -> str:
        """Return the name of the frame's file."""
        return self.files[frame].name

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        """Read one time point, as `StackFile.read` says."""
        return self._open(frame).read()

    def stored(
        self, pages: Sequence[int], rows: slice = _ALL, columns: slice = _ALL, frame: int = 0
    ) -> Iterator[NDArray[Any]]:
        """Yield a window of some pages of one file."""
        return self._open(frame).stored(pages, rows, columns)

    def _open(self, frame: int) -> StackFile:
        stack = open_stack(self.files[frame], self.selection)
        if stack.shape != self.shape[1:]:
            raise UserError(
                f"{stack.path}: shape {stack.shape}; this series has {self.shape[1:]}: every file "
                "of the folder must be a time point of that shape"
            )
        return stack


def open_folder_series(
    folder: Path, files: Sequence[Path], selection: Selection = WHOLE_FILE
) -> FolderSeries:
    """Make a series of the files of a folder, numbers in their names counted as numbers.

    Parameters
    ----------
    folder
        The folder.
    files
        Those of its files that are time points; the first one that can be read tells the shape.
    selection
        Which channel and position of every file.

    Raises
    ------
    UserError
        If none can be read, or the first is a series itself.
    """
    in_order = sorted(files, key=by_number)
    first = _first_readable(in_order, selection)
    if len(first.shape) != 3:
        raise UserError(
            f"{first.path}: shape {first.shape}; a folder is one series, every file a time point: "
            "give files that are series by name, not by their folder"
        )
    return FolderSeries(
        path=folder,
        shape=(len(in_order), *first.shape),
        dtype=first.dtype,
        steps=first.steps,
        full_scale=first.full_scale,
        files=tuple(in_order),
        selection=selection,
    )


def _first_readable(files: Sequence[Path], selection: Selection) -> StackFile:
    failure: UserError | None = None
    for file in files:
        try:
            return open_stack(file, selection)
        except UserError as found:
            failure = failure or found
    raise failure or UserError("no files for a series")
