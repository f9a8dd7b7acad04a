"""Values as uint16 over its full range, a plane at a time."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_LARGEST = 65535


def full_range_factor(planes: Iterable[NDArray]) -> float:
    """Return the factor that makes the brightest value of a volume the largest of uint16."""
    peak = max(float(plane.max()) for plane in planes)
    return _LARGEST / peak if peak > 0 else 1.0


def to_uint16(plane: NDArray, factor: float) -> NDArray[np.uint16]:
    """Return ``factor * plane``, rounded; what is negative becomes 0."""
    return np.rint(np.clip(plane * factor, 0, _LARGEST)).astype(np.uint16)
