"""Recorded stacks: TIFF, NPY, PT and ND2 files, as (Z, Y, X) from 0 to 1."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.volumes import VoxelSize, open_stack

Array = NDArray[np.float32]
SUFFIXES = (".tif", ".tiff", ".npy", ".pt", ".nd2")
_ND2_PEAK = 4095.0  # of a 12-bit camera
_TRAINING_SHARE = 0.8


@dataclass(frozen=True)
class Recording:
    """A stack.

    Attributes
    ----------
    path
        Its file.
    volume
        (Z, Y, X), float32, from 0 to 1: divided by 4095 from ND2, else from its minimum to its
        maximum.
    voxel_um
        (z, y, x) step in um, where the file tells it.
    """

    path: Path
    volume: Array
    voxel_um: VoxelSize | None


def read_recording(path: Path, time_point: int = 0) -> Recording:
    """Read a stack: (Z, Y, X), (1, Z, Y, X), or (T, 1, Z, Y, X).

    Parameters
    ----------
    path
        The file; its ending tells what it is.
    time_point
        Which one of a series, from 0.

    Raises
    ------
    UserError
        If the file cannot be read, has several channels, is constant, or holds NaN.
    """
    readers: dict[str, Callable[[Path, int], tuple[Array, VoxelSize | None]]] = {
        ".npy": _read_npy,
        ".pt": _read_pt,
        ".nd2": _read_nd2,
    }
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of file; allowed: {', '.join(SUFFIXES)}")
    volume, voxel_um = readers.get(suffix, _read_tiff)(path, time_point)
    if not np.isfinite(volume).all():
        raise UserError(f"{path}: NaN or infinite values; replace them by numbers first")
    low, high = float(volume.min()), float(volume.max())
    if low == high:
        raise UserError(f"{path}: constant, every voxel is {low:g}; leave the file out")
    if suffix == ".nd2":
        return Recording(path, (volume / _ND2_PEAK).clip(0, 1), voxel_um)
    return Recording(path, (volume - low) / np.float32(high - low), voxel_um)


def _read_tiff(path: Path, time_point: int) -> tuple[Array, VoxelSize | None]:
    stack = open_stack(path)
    _require_time_point(path, time_point, stack.n_frames)
    return stack.read(time_point), stack.voxel_um


def _read_npy(path: Path, time_point: int) -> tuple[Array, VoxelSize | None]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as failure:
        raise UserError(f"{path}: no such file; check the path") from failure
    except (OSError, ValueError, EOFError) as failure:
        raise UserError(f"{path}: not a NumPy array, or damaged; save it again") from failure
    return _one_volume(path, array, time_point), None


def _read_pt(path: Path, time_point: int) -> tuple[Array, VoxelSize | None]:
    tensor = read_checkpoint(path)
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path}: holds {type(tensor).__name__}; allowed: one tensor")
    return _one_volume(path, tensor.float().numpy(), time_point), None


def _read_nd2(path: Path, time_point: int) -> tuple[Array, VoxelSize | None]:
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
    return _one_volume(path, array, time_point), (voxel.z, voxel.y, voxel.x)


def _one_volume(path: Path, array: NDArray, time_point: int) -> Array:
    if array.ndim not in (3, 4, 5) or array.dtype.kind not in "uif":
        raise UserError(
            f"{path}: shape {array.shape} of {array.dtype}; allowed: numbers (Z, Y, X), "
            "(1, Z, Y, X) or (T, 1, Z, Y, X)"
        )
    if array.ndim > 3 and array.shape[-4] != 1:
        raise UserError(
            f"{path}: {array.shape[-4]} channels, shape {array.shape}; allowed: one; save each "
            "channel as its own file"
        )
    if array.ndim == 5:
        _require_time_point(path, time_point, len(array))
        array = array[time_point]
    return np.array(array.reshape(array.shape[-3:]), dtype=np.float32)


def _require_time_point(path: Path, time_point: int, number: int) -> None:
    if not 0 <= time_point < number:
        raise UserError(f"{path}: time point {time_point} of {number}; allowed: 0 to {number - 1}")


def find_recordings(folder: Path, *, left_out: tuple[str, ...] = ()) -> list[Path]:
    """Return the stacks of a folder, sorted; not those that start with ``_`` or are left out.

    Parameters
    ----------
    folder
        Where.
    left_out
        Ends of the stems of files that are kept for a test.

    Raises
    ------
    UserError
        If the folder is missing or holds nothing to use.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; check folderpath in train_dataset and val_dataset, or "
            "learn from labels with --simulation"
        )
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(("_", "."))
        and not path.stem.endswith(left_out)
    )
    if not found:
        raise UserError(
            f"{folder}: no stack to use ({', '.join(SUFFIXES)}); check folderpath and test_images"
        )
    return found


def split_recordings(files: list[Path], *, train: bool) -> list[Path]:
    """Return the first 80 % of the files for training, or the rest for validation.

    Raises
    ------
    UserError
        If there is but one file.
    """
    if len(files) < 2:
        raise UserError(f"{files[0]}: the only stack; give two or more, some of which validate")
    number = min(max(int(_TRAINING_SHARE * len(files)), 1), len(files) - 1)
    return files[:number] if train else files[number:]
