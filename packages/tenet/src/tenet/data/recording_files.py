"""Recorded stacks on disk: TIFF, OME-Zarr, NPY, PT and ND2, read some planes at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.images.files import VoxelSize, is_zarr, open_stack
from scopekit.images.tiff import release_pages

Array = NDArray[np.float32]
SUFFIXES = (".tif", ".tiff", ".npy", ".pt", ".nd2", ".zarr")
_ND2_PEAK = 4095.0  # of a 12-bit camera
# Relative difference between two voxel sizes that is worth a warning.
_SAME_VOXEL = 0.1


@dataclass(frozen=True)
class RecordingFile:
    """A stack, or a series of them, its planes not read yet.

    Attributes
    ----------
    path
        The file.
    shape
        (Z, Y, X) of a time point.
    n_frames
        Number of time points.
    voxel_um
        (z, y, x) step in um, where the file tells it.
    full_scale
        Value that counts as 1 (and 0 as 0); ``None``: each stack's own minimum and maximum do.
    planes
        ``planes(time_point, first, end)`` reads planes, (n, Y, X), float32.
    """

    path: Path
    shape: tuple[int, int, int]
    n_frames: int
    voxel_um: VoxelSize | None
    full_scale: float | None
    planes: Callable[[int, int, int], Array]

    def require_time_point(self, time_point: int) -> None:
        """Raise `UserError` if there is no such time point."""
        if not 0 <= time_point < self.n_frames:
            raise UserError(
                f"{self.path}: time point {time_point} of {self.n_frames}; allowed: 0 to "
                f"{self.n_frames - 1}"
            )


def require_range(value_range: tuple[float, float]) -> None:
    """Raise `UserError` unless the recorded values that are 0 and 1 are numbers, 0's the lower."""
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--value-range {low:g} {high:g}: give the lower value first")


def open_recording(path: Path) -> RecordingFile:
    """Inspect a file: (Z, Y, X), (1, Z, Y, X), or (T, 1, Z, Y, X); TIFF and Zarr (T, Z, Y, X) too.

    Parameters
    ----------
    path
        The file; its ending tells what it is.

    Raises
    ------
    UserError
        If the file cannot be read, or has several channels.
    """
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff") or is_zarr(path):
        return _open_stack(path)
    openers = {".npy": _open_npy, ".pt": _open_pt, ".nd2": _open_nd2}
    if suffix not in openers:
        raise UserError(f"{path}: unknown kind of file; allowed: {', '.join(SUFFIXES)}")
    return openers[suffix](path)


def _open_stack(path: Path) -> RecordingFile:
    stack = open_stack(path)
    z, y, x = stack.shape[-3:]

    def planes(time_point: int, first: int, end: int) -> Array:
        return stack.read_window(range(first, end), slice(None), slice(None), time_point)

    return RecordingFile(path, (z, y, x), stack.n_frames, stack.voxel_um, None, planes)


def _open_npy(path: Path) -> RecordingFile:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except (OSError, ValueError, EOFError) as failure:
        raise UserError(f"{path}: not a NumPy array, or damaged; save it again") from failure
    return _of_array(path, array, None, None)


def _open_pt(path: Path) -> RecordingFile:
    tensor = read_checkpoint(path)
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path}: holds {type(tensor).__name__}; allowed: one tensor")
    return _of_array(path, tensor.float().numpy(), None, None)


def _open_nd2(path: Path) -> RecordingFile:
    try:
        import nd2
    except ModuleNotFoundError as failure:
        raise UserError(
            f"{path}: to read ND2 run: pip install nd2; or export the stack as TIFF"
        ) from failure
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with nd2.ND2File(path) as file:
            axes, array, voxel = list(file.sizes), file.asarray(), file.voxel_size()
    except Exception as failure:  # damaged files raise errors of any kind
        raise UserError(f"{path}: not an ND2 file, or damaged; export it again") from failure
    order = [axes.index(axis) for axis in ("T", "C", "Z", "Y", "X") if axis in axes]
    if len(order) != len(axes) or "Z" not in axes:
        raise UserError(f"{path}: axes {''.join(axes)}; allowed: ZYX, with C and T if need be")
    array = array.transpose(order)
    if "T" in axes and "C" not in axes:
        array = array[:, None]
    return _of_array(path, array, (voxel.z, voxel.y, voxel.x), _ND2_PEAK)


def _of_array(
    path: Path, array: NDArray, voxel_um: VoxelSize | None, full_scale: float | None
) -> RecordingFile:
    if array.ndim not in (3, 4, 5) or 0 in array.shape or array.dtype.kind not in "uif":
        raise UserError(
            f"{path}: shape {array.shape} of {array.dtype}; allowed: numbers (Z, Y, X), "
            "(1, Z, Y, X) or (T, 1, Z, Y, X)"
        )
    if array.ndim > 3 and array.shape[-4] != 1:
        raise UserError(
            f"{path}: {array.shape[-4]} channels, shape {array.shape}; allowed: one; save each "
            "channel as its own file"
        )
    z, y, x = array.shape[-3:]
    frames = array.reshape(-1, z, y, x)

    def planes(time_point: int, first: int, end: int) -> Array:
        part = np.array(frames[time_point, first:end], dtype=np.float32)
        release_pages(array)
        return part

    return RecordingFile(path, (z, y, x), len(frames), voxel_um, full_scale, planes)


def differ(found: VoxelSize, expected: VoxelSize) -> bool:
    """Return whether two voxel sizes, um, differ by more than a tenth on some axis."""
    return any(abs(a / b - 1) > _SAME_VOXEL for a, b in zip(found, expected, strict=True))
