"""A stack of images on disk, whatever its format, read a time point or a window at a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError

VoxelSize = tuple[float, float, float]


@dataclass(frozen=True)
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
    voxel_um
        (z, y, x) step in um, where the file tells it; z is 1 where it tells only x and y.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    voxel_um: VoxelSize | None

    @property
    def n_frames(self) -> int:
        """Number of time points: 1 for a single stack."""
        return self.shape[0] if len(self.shape) == 4 else 1

    def frame_name(self, frame: int) -> str:
        """Return the file's name, with the time point where there are several."""
        return self.path.name + (f" [{frame}]" if self.n_frames > 1 else "")

    @abstractmethod
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

    @abstractmethod
    def read_window(
        self, pages: Sequence[int], rows: slice, columns: slice, frame: int = 0
    ) -> NDArray[np.float32]:
        """Read a window of some pages: if the file allows it, no more than that.

        Returns
        -------
        ndarray
            (pages, rows, columns), float32. NaN and infinite values are left as they are.
        """

    def _require_finite(self, page: NDArray, index: int, frame: int) -> None:
        if not np.isfinite(page).all():
            where = f"frame {frame}, page {index}" if self.n_frames > 1 else f"page {index}"
            raise UserError(
                f"{self.path}: NaN or infinite values ({where}, counted from 0); "
                "replace them by numbers first"
            )
