"""NumPy arrays or tensors in, the same kind out."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
Kind = TypeVar("Kind", Array, Tensor)


def to_array(values: NDArray[Any] | Tensor) -> NDArray[Any]:
    """Return an array or tensor as an array, without gradient; shared where it can be."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def to_tensor(values: NDArray[Any] | Tensor) -> Tensor:
    """Return an array or tensor as a tensor of float32, without gradient; where it is."""
    if isinstance(values, Tensor):
        return values.detach().float()
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def like(found: Tensor, given: NDArray[Any] | Tensor) -> Any:
    """Return a tensor as what was given: an array, or a tensor on the same device."""
    return found.to(given.device) if isinstance(given, Tensor) else to_array(found)
