"""Recorded stacks to learn from, as (Z, Y, X) from 0 to 1."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scopekit.errors import UserError
from scopekit.images.files import VoxelSize
from tenet.data.recording_files import SUFFIXES, Array, open_recording, require_range

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
    path: Path, time_point: int = 0, value_range: tuple[float, float] | None = None
) -> Recording:
    """Read a stack: (Z, Y, X), (1, Z, Y, X), or (T, 1, Z, Y, X).

    Parameters
    ----------
    path
        The file; its ending tells what it is.
    time_point
        Which one of a series, from 0.
    value_range
        Recorded values that become 0 and 1, others are clipped; by default see `Recording.volume`.

    Raises
    ------
    UserError
        If the file cannot be read, has several channels, is constant, holds NaN, or lies outside
        ``value_range``.
    """
    if value_range is not None:
        require_range(value_range)
    file = open_recording(path)
    file.require_time_point(time_point)
    volume = file.planes(time_point, 0, file.shape[0])
    if not np.isfinite(volume).all():
        raise UserError(f"{path}: NaN or infinite values; replace them by numbers first")
    low, high = float(volume.min()), float(volume.max())
    if low == high:
        raise UserError(f"{path}: constant, every voxel is {low:g}; leave the file out")
    zero, one = value_range or ((low, high) if file.full_scale is None else (0, file.full_scale))
    if value_range is not None and (high <= zero or low >= one):
        raise UserError(
            f"{path}: values from {low:g} to {high:g}: all lie outside --value-range {zero:g} "
            f"{one:g}; give values among them"
        )
    scaled = (volume - np.float32(zero)) / np.float32(one - zero)
    return Recording(path, scaled.clip(0, 1), file.voxel_um, file.n_frames)


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
