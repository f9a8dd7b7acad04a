"""All connected parts of a structure but specks, labelled in memory."""

from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tenet.array_kinds import to_array

Numbers = NDArray[np.int32]
_TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner are of one object
SMALLEST_OBJECT = 10
"""Voxels of an object."""


@overload
def label_objects(structure: Tensor, threshold: float = ...) -> Tensor: ...
@overload
def label_objects(structure: NDArray[Any], threshold: float = ...) -> Numbers: ...
def label_objects(structure: NDArray[Any] | Tensor, threshold: float = 0.5) -> Numbers | Tensor:
    """Label all objects of ten voxels or more; voxels that share a corner are of one.

    Parameters
    ----------
    structure
        (Z, Y, X), as from `tenet.enhance`.
    threshold
        What counts as structure.

    Returns
    -------
    ndarray or Tensor
        Of that shape, int32: the number of the object, from 1; 0 where there is none.

    Examples
    --------
    >>> import numpy as np, tenet
    >>> structure = np.zeros((9, 9, 9), np.float32)
    >>> structure[1:4, 1:4, 1:4] = structure[6:9, 6:9, 6:9] = 0.8
    >>> int(tenet.label_objects(structure).max())
    2
    """
    labels = _labels(to_array(structure), threshold)
    keep = np.bincount(labels.ravel()) >= SMALLEST_OBJECT
    keep[0] = False
    kept = _kept(labels, keep)
    return torch.from_numpy(kept).to(structure.device) if isinstance(structure, Tensor) else kept


def _labels(structure: NDArray[Any], threshold: float) -> Numbers:
    numbers: Numbers = ndimage.label(structure >= threshold, _TOUCHING)[0]
    return numbers


def _kept(labels: Numbers, keep: NDArray[np.bool_]) -> Numbers:
    """Return the labels to be kept, numbered anew."""
    return np.take(np.where(keep, np.cumsum(keep), 0).astype(np.int32), labels)
