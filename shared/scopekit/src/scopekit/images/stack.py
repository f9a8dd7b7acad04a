"""A stack of images on disk, whatever its format, read a time point or a window at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.axes import Axis
from scopekit.images.voxel import UNKNOWN, Steps, VoxelSize

_ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class StackFile(ABC):
    """A stack on disk, its pages not read yet.

    Attributes
    ----------
    path
        The file, or the folder of an OME-Zarr store.
    shape
        (pages, Y, X), or (T, pages, Y, X) for a series.
    dtype
        Number type on disk.
    steps
        What the file tells about its voxel size.
    full_scale
        Largest value that the camera could record, where the file tells it.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    steps: Steps = UNKNOWN
    full_scale: float | None = None

    @property
    def voxel_um(self) -> VoxelSize | None:
        """Return the (z, y, x) step in um, ``None`` unless the file tells all three."""
        return self.steps.whole

    @property
    def n_frames(self) -> int:
        """Number of time points: 1 for a single stack."""
        return self.shape[0] if len(self.shape) == 4 else 1

    def frame_name(self, frame: int) -> str:
        """Return the file's name, with the time point where there are several."""
        return self.path.name + (f" [{frame}]" if self.n_frames > 1 else "")

    @abstractmethod
    def stored(
        self, pages: Sequence[int], rows: slice = _ALL, columns: slice = _ALL, frame: int = 0
    ) -> Iterator[NDArray[Any]]:
        """Yield a window of some pages in the file's own number type, one page at a time.

        Raises
        ------
        UserError
            If the file is damaged.
        """

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        """Read one time point.

        Returns
        -------
        ndarray
            (pages, Y, X), float32.

        Raises
        ------
        UserError
            If the file is damaged or holds NaN or infinite values.
        """
        values = np.empty(self.shape[-3:], np.float32)
        for index, page in enumerate(self.stored(range(len(values)), frame=frame)):
            values[index] = _single(page)
            self._require_finite(values[index], index, frame)
        return values

    def read_window(
        self, pages: Sequence[int], rows: slice, columns: slice, frame: int = 0
    ) -> NDArray[np.float32]:
        """Read a window of some pages: if the file allows it, no more than that.

        Returns
        -------
        ndarray
            (pages, rows, columns), float32. NaN and infinite values are left as they are.
        """
        return np.stack([_single(page) for page in self.stored(pages, rows, columns, frame)])

    def _require_finite(self, page: NDArray[np.float32], index: int, frame: int) -> None:
        if not np.isfinite(page).all():
            where = f"frame {frame}, page {index}" if self.n_frames > 1 else f"page {index}"
            raise UserError(
                f"{self.path}: NaN or infinite values ({where}, counted from 0); "
                "replace them by numbers first"
            )


def _single(page: NDArray[Any]) -> NDArray[np.float32]:
    # What float32 cannot hold becomes infinite, which is told in a line.
    with np.errstate(over="ignore"):
        return page.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class StoredPlanes(ABC):
    """All planes of a file, numbered as it stores them.

    Attributes
    ----------
    path, dtype, steps, full_scale
        As in `StackFile`.
    axes
        The axes beyond rows and columns.
    plane_shape
        (Y, X).
    is_position
        Whether they are one position of several, chosen already.
    """

    path: Path
    axes: tuple[Axis, ...]
    plane_shape: tuple[int, int]
    dtype: np.dtype[Any]
    steps: Steps = UNKNOWN
    full_scale: float | None = None
    is_position: bool = False

    @abstractmethod
    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[NDArray[Any]]:
        """Yield a window of planes of these numbers, (Y, X) each, in the file's number type."""


@dataclass(frozen=True, kw_only=True)
class ArrangedStack(StackFile):
    """Planes of a file as pages and time points.

    Attributes
    ----------
    planes
        Where they are.
    numbers
        Of the planes, (pages,) or (T, pages).
    """

    planes: StoredPlanes
    numbers: NDArray[np.intp]

    def stored(
        self, pages: Sequence[int], rows: slice = _ALL, columns: slice = _ALL, frame: int = 0
    ) -> Iterator[NDArray[Any]]:
        """Yield a window of some pages, as `StackFile.stored` says."""
        numbers = self.numbers.reshape(self.n_frames, -1)[frame]
        return self.planes.read([int(numbers[page]) for page in pages], rows, columns)


def arranged(planes: StoredPlanes, numbers: NDArray[np.intp]) -> ArrangedStack:
    """Return the stack, (pages,) numbers, or series, (T, pages) numbers, of planes of a file."""
    return ArrangedStack(
        path=planes.path,
        shape=(*numbers.shape, *planes.plane_shape),
        dtype=planes.dtype,
        steps=planes.steps,
        full_scale=planes.full_scale,
        planes=planes,
        numbers=numbers,
    )
