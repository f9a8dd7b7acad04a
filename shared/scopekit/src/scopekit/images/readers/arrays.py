"""Arrays without metadata: NumPy's ``.npy``, PyTorch's ``.pt``, and grey images as ``.png``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.images.axes import CHANNEL, DEPTH, TIME, stacked
from scopekit.images.stack import StoredPlanes

_ORDER = (TIME, CHANNEL, DEPTH)
_NUMPY_HAS = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True)
class ArrayPlanes(StoredPlanes):
    """The planes of an array, which lies in memory or is mapped to its file.

    Attributes
    ----------
    array
        ([[T,] C,] Z, Y, X).
    """

    array: NDArray[Any] = field(repr=False)

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[NDArray[Any]]:
        """Yield a window of planes."""
        leading = self.array.shape[:-2]
        for number in numbers:
            yield np.array(self.array[np.unravel_index(number, leading)][rows, columns])


def inspect_npy(path: Path) -> ArrayPlanes:
    """Inspect a ``.npy`` file of numbers, ([[T,] C,] Z, Y, X), without reading it.

    Raises
    ------
    UserError
        If it is missing, damaged, or holds something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
    except FileNotFoundError as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except MemoryError:
        raise
    except Exception as failure:  # damaged headers make NumPy raise errors of any kind
        raise UserError(f"{path}: not a NumPy array, or damaged; save it again") from failure
    return _planes(path, array)


def inspect_pt(path: Path) -> ArrayPlanes:
    """Read a ``.pt`` file of one tensor, ([[T,] C,] Z, Y, X); gradients are left out.

    Raises
    ------
    UserError
        If it is missing, damaged, or holds something else.
    """
    tensor = read_checkpoint(path)
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path}: holds {type(tensor).__name__}; allowed: one tensor")
    try:
        array = _as_array(tensor)
    except MemoryError:
        raise
    except Exception as failure:  # of kinds beyond counting: nested, without values, ...
        raise UserError(
            f"{path}: its tensor is no array of numbers ({' '.join(str(failure).split())[:60]}); "
            "save it as a plain tensor of float32"
        ) from failure
    return _planes(path, array)


def _as_array(tensor: torch.Tensor) -> NDArray[Any]:
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_HAS:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.resolve_neg().resolve_conj().numpy()
    return array


def inspect_png(path: Path) -> ArrayPlanes:
    """Read a grey image of 8 or 16 bits from a ``.png`` file, as one plane.

    Raises
    ------
    UserError
        If it is missing, damaged, or in colour.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            array = np.asarray(image)
    except FileNotFoundError as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except MemoryError:
        raise
    except Exception as failure:  # damaged files make Pillow raise errors of any kind
        raise UserError(f"{path}: not a PNG image, or damaged; save it again") from failure
    if array.ndim != 2 or array.dtype.kind not in "ui" or image.mode == "P":
        raise UserError(f"{path}: a colour image; save the grey values of the camera")
    return _planes(path, array[None])


def _planes(path: Path, array: NDArray[Any]) -> ArrayPlanes:
    if array.ndim not in (3, 4, 5) or 0 in array.shape or array.dtype.kind not in "uif":
        raise UserError(
            f"{path}: shape {array.shape} of {array.dtype}; allowed: numbers (Z, Y, X), "
            "(C, Z, Y, X) or (T, C, Z, Y, X)"
        )
    leading = array.shape[:-2]
    return ArrayPlanes(
        path=path,
        axes=stacked(_ORDER[-len(leading) :], leading),
        plane_shape=(array.shape[-2], array.shape[-1]),
        dtype=array.dtype.newbyteorder("="),
        array=array,
    )
