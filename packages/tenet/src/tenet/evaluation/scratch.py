"""Room for volumes of an evaluation: in memory, or in files that nobody sees."""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scopekit.images.plane_file import release_pages
from scopekit.outputs import describe_write_failure, require_space
from tenet.array_kinds import Array
from tenet.metrics import slabs
from tenet.objects.table import object_bytes

# Smaller volumes are kept in memory.
_LEAST_BYTES = 50_000_000


@dataclass(frozen=True)
class Scratch:
    """Where the volumes of an evaluation lie while they are measured.

    Attributes
    ----------
    folder
        Where large volumes are mapped to files, which go when they do, however a run ends;
        ``None`` keeps all in memory.
    max_memory_gb
        See `scopekit.memory.memory_budget`.
    """

    folder: Path | None = None
    max_memory_gb: float | None = None

    def room(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return a volume (Z, Y, X) to be filled; raise `UserError` if the disk has no room."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if self.folder is None or size < _LEAST_BYTES:
            return np.empty(shape, kind)
        require_space(self.folder, size)
        try:
            with tempfile.TemporaryFile(dir=self.folder) as handle:
                handle.truncate(size)
                return np.memmap(handle, kind, "r+", shape=shape)
        except OSError as failure:
            raise describe_write_failure(self.folder, failure) from failure

    def made(self, make: Callable[[Array], Array], volume: NDArray[Any]) -> Array:
        """Return what is made of a volume, some planes at a time."""
        found = self.room(volume.shape)
        start = 0
        for (part,) in slabs(volume):
            found[start : start + len(part)] = make(part)
            start += len(part)
            release_pages(found)
        return found

    def object_bytes(self) -> float:
        """Return the memory that measuring one object may take."""
        return math.inf if self.folder is None else object_bytes(self.max_memory_gb)


IN_MEMORY = Scratch()


def is_mapped(volume: NDArray[Any]) -> bool:
    """Whether a volume lies in a file."""
    return isinstance(volume, np.memmap)


class Parts:
    """A volume as parts of it are read and written: of a mapped one no more is held than a part.

    Parameters
    ----------
    volume
        (Z, Y, X).
    """

    def __init__(self, volume: NDArray[Any]) -> None:
        self._volume = volume

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (Z, Y, X)."""
        return self._volume.shape

    def __len__(self) -> int:
        return len(self._volume)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield copies of the planes."""
        for z in range(len(self)):
            yield self[slice(z, z + 1),][0]

    def __getitem__(self, place: tuple[slice, ...]) -> NDArray[Any]:
        part = np.array(self._volume[place])
        release_pages(self._volume)
        return part

    def __setitem__(self, place: tuple[slice, ...], values: Any) -> None:
        self._volume[place] = values
        release_pages(self._volume)
