"""All connected parts of a structure but specks, labelled in memory."""

from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tenet.array_kinds import to_array
from tenet.objects.labelling import NEIGHBOURS

Numbers = NDArray[np.int32]
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
    labels, _ = ndimage.label(to_array(structure) >= threshold, NEIGHBOURS)
    keep = np.bincount(labels.ravel()) >= SMALLEST_OBJECT
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    kept: Numbers = np.take(numbers, labels)
    return torch.from_numpy(kept).to(structure.device) if isinstance(structure, Tensor) else kept
