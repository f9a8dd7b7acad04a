"""Where a volume comes to lie, part by part: in memory, or mapped to a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.plane_file import release_pages

Place = slice | tuple[slice, ...]


def require_finite(values: Any) -> None:
    """Raise `UserError` if a part of a result, float32, holds NaN or infinite values."""
    # The sum does, if any does; finite ones cannot overflow it.
    if not np.isfinite(np.sum(values, dtype=np.float64)):
        raise UserError(
            "the result would hold NaN or infinite values, and was not written: do the input's "
            "values lie far from camera counts, or is the network or the PSF damaged?"
        )


@dataclass(frozen=True)
class Target:
    """A volume that is filled part by part.

    If its values are mapped to a file, the memory is given back after every access, so that no
    more is held than a part.

    Attributes
    ----------
    array
        The values, float32.
    """

    array: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (Z, Y, X)."""
        z, y, x = self.array.shape
        return z, y, x

    def put(self, place: Place, values: Any) -> None:
        """Write a part: an array of its shape, or a number.

        Raises
        ------
        UserError
            If it holds NaN or infinite values.
        """
        require_finite(values)
        self.array[place] = values
        release_pages(self.array)

    def take(self, place: Place) -> NDArray[np.float32]:
        """Return a copy of a part."""
        values = self.array[place].copy()
        release_pages(self.array)
        return values

    def planes(self) -> Iterator[NDArray[np.float32]]:
        """Yield copies of the planes, holding one at a time."""
        for z in range(len(self.array)):
            yield self.take(slice(z, z + 1))[0]
