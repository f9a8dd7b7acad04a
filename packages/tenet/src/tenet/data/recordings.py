"""Recorded stacks: on disk, read some planes at a time; and in memory, from 0 to 1."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.images.files import VoxelSize, is_zarr, open_stack
from scopekit.images.tiff import release_pages
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import align
from tenet.config.files import Config
from tenet.config.sections import StackCrops
from tenet.data.value_range import ValueRange, require_range, scale_of

Array = NDArray[np.float32]
SUFFIXES = (".tif", ".tiff", ".npy", ".pt", ".nd2", ".zarr")
_ND2_PEAK = 4095.0  # of a 12-bit camera
# Relative difference between two voxel sizes that is worth a warning.
_SAME_VOXEL = 0.1
_TRAINING_SHARE = 0.8


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
    return _of_array(path, array)


def _open_pt(path: Path) -> RecordingFile:
    tensor = read_checkpoint(path)
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path}: holds {type(tensor).__name__}; allowed: one tensor")
    return _of_array(path, tensor.float().numpy())


def _open_nd2(path: Path) -> RecordingFile:
    with _nd2_file(path) as file:
        sizes, voxel, kind = dict(file.sizes), file.voxel_size(), np.dtype(file.dtype)
        numbers = {(at.get("T", 0), at.get("Z", 0)): n for n, at in enumerate(file.loop_indices)}
    if not {"Z", "Y", "X"} <= set(sizes) <= set("TCZYX"):
        raise UserError(f"{path}: axes {''.join(sizes)}; allowed: ZYX, with C and T if need be")
    shape = tuple(sizes[axis] for axis in "TCZYX" if axis in sizes)
    _require_one_channel(path, shape, kind, sizes.get("C", 1))
    z, y, x = shape[-3:]

    def planes(time_point: int, first: int, end: int) -> Array:
        part = np.empty((end - first, y, x), np.float32)
        with _nd2_file(path) as file:
            for plane, number in zip(part, range(first, end), strict=True):
                plane[...] = file.read_frame(numbers[time_point, number]).reshape(y, x)
        return part

    voxel_um = (voxel.z, voxel.y, voxel.x)
    return RecordingFile(path, (z, y, x), sizes.get("T", 1), voxel_um, _ND2_PEAK, planes)


@contextmanager
def _nd2_file(path: Path) -> Iterator[Any]:
    """Open a file of Nikon's; raise `UserError` where it, or what is done with it, fails."""
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
            yield file
    except Exception as failure:  # damaged files raise errors of any kind
        raise UserError(f"{path}: not an ND2 file, or damaged; export it again") from failure


def _of_array(path: Path, array: NDArray) -> RecordingFile:
    channels = array.shape[-4] if array.ndim > 3 else 1
    _require_one_channel(path, array.shape, array.dtype, channels)
    z, y, x = array.shape[-3:]
    frames = array.reshape(-1, z, y, x)

    def planes(time_point: int, first: int, end: int) -> Array:
        part = np.array(frames[time_point, first:end], dtype=np.float32)
        release_pages(array)
        return part

    return RecordingFile(path, (z, y, x), len(frames), None, None, planes)


def _require_one_channel(
    path: Path, shape: tuple[int, ...], kind: np.dtype[Any], channels: int
) -> None:
    if len(shape) not in (3, 4, 5) or 0 in shape or kind.kind not in "uif":
        raise UserError(
            f"{path}: shape {shape} of {kind}; allowed: numbers (Z, Y, X), (1, Z, Y, X) or "
            "(T, 1, Z, Y, X)"
        )
    if channels != 1:
        raise UserError(
            f"{path}: {channels} channels, shape {shape}; allowed: one; save each channel as its "
            "own file"
        )


def differ(found: VoxelSize, expected: VoxelSize) -> bool:
    """Return whether two voxel sizes, um, differ by more than a tenth on some axis."""
    return any(abs(a / b - 1) > _SAME_VOXEL for a, b in zip(found, expected, strict=True))


@dataclass(frozen=True)
class Recording:
    """A stack.

    Attributes
    ----------
    path
        Its file.
    volume
        (Z, Y, X), float32, from 0 to 1: divided by 4095 from ND2, else from its minimum to its
        maximum, unless the recorded values that count as 0 and 1 were given.
    voxel_um
        (z, y, x) step in um, where the file tells it.
    n_frames
        Number of time points in the file.
    """

    path: Path
    volume: Array
    voxel_um: VoxelSize | None
    n_frames: int = 1


def read_recording(
    path: str | Path, time_point: int = 0, value_range: ValueRange | None = None
) -> Recording:
    """Read a stack: (Z, Y, X), (1, Z, Y, X), or (T, 1, Z, Y, X).

    Parameters
    ----------
    path
        TIFF, OME-Zarr, NPY, PT or ND2; the ending tells.
    time_point
        Which one of a series, from 0.
    value_range
        Recorded values that become 0 and 1, others are clipped; by default see `Recording.volume`.

    Raises
    ------
    UserError
        If the file cannot be read, has several channels, is constant, holds NaN, or lies outside
        ``value_range``.

    Examples
    --------
    >>> import numpy as np, tenet
    >>> np.save("cell.npy", np.arange(60).reshape(3, 4, 5))
    >>> recording = tenet.read_recording("cell.npy")
    >>> recording.volume.shape, float(recording.volume.max())
    ((3, 4, 5), 1.0)
    """
    path = Path(path)
    require_range(value_range)
    file = open_recording(path)
    file.require_time_point(time_point)
    volume = file.planes(time_point, 0, file.shape[0])
    least, largest = float(volume.min()), float(volume.max())
    zero, one = scale_of(str(path), least, largest, value_range, file.full_scale)
    scaled = (volume - np.float32(zero)) / np.float32(one - zero)
    return Recording(path, scaled.clip(0, 1), file.voxel_um, file.n_frames)


def align_recording(stack: Recording, model: DeepAlignNet | None) -> Recording:
    """Return a recording with its slices aligned, see `tenet.align`."""
    aligned, _ = align(stack.volume, model)
    return replace(stack, volume=aligned.clip(0, 1))


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
            "learn from labels"
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


def held_out_recordings(config: Config) -> list[Path]:
    """Return the stacks that training leaves out, ``test_dataset.test_images``; else validation's.

    From the folder of ``val_dataset``.
    """
    folder = Path(config.section("val_dataset", StackCrops).folderpath)
    wanted = config.test_dataset.test_images
    everything = find_recordings(folder)
    kept = [path for path in everything if wanted and path.stem.endswith(wanted)]
    return kept or split_recordings(everything, train=False)
