"""Arrays that know their voxels' size, and the way from arrays to tensors and back."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scopekit.images.files import VoxelSize

Grid = tuple[tuple[int, ...], tuple[int, ...]]


class ScaledArray(np.ndarray[Any, np.dtype[np.float32]]):
    """A NumPy array, float32, that knows the size of its voxels.

    Everything that works on arrays works on it. Arithmetic and copies keep the size; slices,
    projections and whatever else may change it forget it: it is right or ``None``.

    Parameters
    ----------
    values
        (Z, Y, X), or views (A, Y, X).
    voxel_um
        (z, y, x) step in um, z being 1 for views; ``None`` if it is not known.

    Examples
    --------
    >>> volume = ScaledArray([[[1.0, 2.0]]], voxel_um=(0.2, 0.1, 0.1))
    >>> (2 * volume).voxel_um
    (0.2, 0.1, 0.1)
    >>> volume.max(axis=0).voxel_um is None
    True
    """

    _known: tuple[VoxelSize, Grid] | None

    def __new__(  # noqa: D102
        cls, values: ArrayLike, voxel_um: VoxelSize | None = None
    ) -> "ScaledArray":
        array = np.asarray(values, dtype=np.float32).view(cls)
        array._known = voxel_um and (voxel_um, _grid(array))
        return array

    @property
    def voxel_um(self) -> VoxelSize | None:
        """The (z, y, x) step in um, z being 1 for views; ``None`` if it is not known."""
        return self._known[0] if self._known and self._known[1] == _grid(self) else None

    def __array_finalize__(self, source: NDArray[Any] | None) -> None:
        # NumPy turns axes round after this, so that the grid is compared when it is asked for.
        size = source.voxel_um if isinstance(source, ScaledArray) else None
        self._known = (size, _grid(source)) if source is not None and size else None

    def __array_wrap__(self, array: NDArray[Any], *context: Any) -> Any:
        # A single number is no array.
        return super().__array_wrap__(array, *context) if array.ndim else array[()]

    def __reduce__(self) -> Any:
        return ScaledArray, (np.asarray(self), self.voxel_um)


def _grid(array: NDArray[Any]) -> Grid:
    """Return the sides, and the order of the axes in memory, which tells turned arrays."""
    return array.shape, tuple(np.argsort(np.abs(array.strides), kind="stable").tolist())


Array = TypeVar("Array", ScaledArray, NDArray[Any], Tensor)
"""What is given and comes back: an array, or a tensor."""

AnyArray = NDArray[Any] | Tensor


def as_tensor(values: AnyArray) -> Tensor:
    """Return real numbers as a tensor of floating point; arrays as float32 on the CPU."""
    if isinstance(values, Tensor):
        return values if values.is_floating_point() else values.float()
    return torch.from_numpy(np.ascontiguousarray(np.asarray(values), dtype=np.float32))


def like(result: Tensor, given: Array, voxel_um: VoxelSize | None) -> Array:
    """Return a result as what was given: a tensor where that is, or an array of known voxels."""
    if isinstance(given, Tensor):
        return result.to(given.device)
    return ScaledArray(result.detach().cpu().numpy(), voxel_um)


def voxel_of(values: AnyArray) -> VoxelSize | None:
    """Return the voxel size that an array carries, ``None`` without one."""
    return values.voxel_um if isinstance(values, ScaledArray) else None
