"""Recorded stacks: on disk, read some planes at a time; and in memory, from 0 to 1."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import (
    SUFFIXES,
    WHOLE_FILE,
    Selection,
    StackFile,
    VoxelSize,
    is_zarr,
    open_stack,
    stack_stem,
)
from scopekit.images.plane_file import WritablePlanes, release_pages
from scopekit.images.voxel import Steps
from scopekit.inputs import files_inside
from scopekit.progress import say
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import align
from tenet.config.files import Config
from tenet.config.sections import StackCrops
from tenet.data.value_range import ValueRange, require_range, scale_of

Array = NDArray[np.float32]
# Read at once: a compressed file is unpacked anew each time.
_READ_BYTES = 400_000_000
# Relative difference between two voxel sizes that is worth a warning.
_SAME_VOXEL = 0.1
_TRAINING_SHARE = 0.8
_RESULT = re.compile(r"(_t\d+)?_tenet_[a-z]+$")
_STORE = "_tenet"


@dataclass(frozen=True)
class RecordingFile:
    """A stack, or a series of them, its planes not read yet.

    Attributes
    ----------
    stack
        What is on disk.
    """

    stack: StackFile

    @property
    def path(self) -> Path:
        """Return the file."""
        return self.stack.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (Z, Y, X) of a time point."""
        z, y, x = self.stack.shape[-3:]
        return z, y, x

    @property
    def n_frames(self) -> int:
        """Number of time points."""
        return self.stack.n_frames

    @property
    def steps(self) -> Steps:
        """Return what the file tells about its voxel size."""
        return self.stack.steps

    @property
    def full_scale(self) -> float | None:
        """Value that counts as 1 (and 0 as 0); ``None``: a stack's own least and largest do."""
        return self.stack.full_scale

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return a number type that holds the values as they are: float32 if it does."""
        single = np.can_cast(self.stack.dtype, np.float32)
        return np.dtype(np.float32 if single else np.float64)

    def planes(self, time_point: int, first: int, end: int) -> NDArray[Any]:
        """Read planes, (n, Y, X), of type `dtype`: offsets are not taken off yet."""
        found = np.empty((end - first, *self.shape[1:]), self.dtype)
        for plane, page in zip(
            found, self.stack.stored(range(first, end), frame=time_point), strict=True
        ):
            plane[...] = page
        return found

    def slabs(self) -> list[slice]:
        """Return the planes in parts to be read at once, one after the other."""
        depth, height, width = self.shape
        step = max(_READ_BYTES // (self.dtype.itemsize * height * width), 1)
        return [slice(start, min(start + step, depth)) for start in range(0, depth, step)]

    def copy(self, time_point: int, target: WritablePlanes) -> tuple[float, float]:
        """Copy a time point to a volume (Z, Y, X); return its least and largest value.

        Those are NaN or infinite if any value is.
        """
        lows, highs = [], []
        for part in self.slabs():
            planes = self.planes(time_point, part.start, part.stop)
            lows.append(planes.min())
            highs.append(planes.max())
            target[part,] = planes
            release_pages(target)
        return float(np.min(lows)), float(np.max(highs))

    def require_time_point(self, time_point: int) -> None:
        """Raise `UserError` if there is no such time point."""
        if not 0 <= time_point < self.n_frames:
            raise UserError(
                f"{self.path}: time point {time_point} of {self.n_frames}; allowed: 0 to "
                f"{self.n_frames - 1}"
            )


def open_recording(path: Path, selection: Selection = WHOLE_FILE) -> RecordingFile:
    """Inspect a file: a stack, or a series of them.

    Parameters
    ----------
    path
        The file; its ending tells what it is.
    selection
        Which channel and position are meant, where there are several.

    Raises
    ------
    UserError
        If the file cannot be used, see `scopekit.images.files.open_stack`.
    """
    if path.suffix.lower() not in SUFFIXES and not is_zarr(path):
        raise UserError(f"{path}: unknown kind of file; allowed: {', '.join(SUFFIXES)}")
    return RecordingFile(open_stack(path, selection))


def voxel_of(path: Path, steps: Steps, expected: VoxelSize, of_others: str) -> VoxelSize:
    """Return the (z, y, x) step of a recording in um: what its file tells, else what is expected.

    Says what the file does not tell, and warns where it tells something else.

    Parameters
    ----------
    path
        The file.
    steps
        What it tells.
    expected
        What the configuration says, (z, y, x) in um.
    of_others
        What becomes of voxels of another size, and the remedy.
    """
    told = (steps.z_um, steps.y_um, steps.x_um)
    z, y, x = (own or other for own, other in zip(told, expected, strict=True))
    unknown = [axis for axis, own in zip("zyx", told, strict=True) if own is None]
    if len(unknown) == 3:
        say(f"{path.name}: tells no voxel size; taken from the configuration, {_text(expected)}")
    elif unknown:
        say(
            f"{path.name}: tells no step along {' and '.join(unknown)}; taken from the "
            f"configuration, {_text(expected)}"
        )
    if _differ((z, y, x), expected):
        say(
            f"warning: {path}: voxels of {_text((z, y, x))}, the configuration has "
            f"{_text(expected)}: {of_others}"
        )
    return z, y, x


def trained_otherwise(voxel_um: VoxelSize, trained_um: VoxelSize) -> str:
    """Return a line about voxels (z, y, x) that a network was not trained for; else none."""
    if not _differ(voxel_um, trained_um):
        return ""
    return (
        f"the network was trained for voxels of {_text(trained_um)}; resample the stack, or train "
        "for it"
    )


def _differ(voxel_um: VoxelSize, expected: VoxelSize) -> bool:
    return any(abs(a / b - 1) > _SAME_VOXEL for a, b in zip(voxel_um, expected, strict=True))


def _text(voxel_um: VoxelSize) -> str:
    return " x ".join(f"{n:.3g}" for n in voxel_um) + " um (z, y, x)"


@dataclass(frozen=True)
class Recording:
    """A stack.

    Attributes
    ----------
    path
        Its file.
    volume
        (Z, Y, X), float32, from 0 to 1: divided by the camera's full scale if the file tells it
        (ND2), else from its minimum to its maximum, unless the recorded values that count as 0
        and 1 were given.
    steps
        What the file tells about its voxel size.
    n_frames
        Number of time points in the file.
    own_scale
        Whether 0 and 1 are only what the recording ranges over, and not what was asked for.
    """

    path: Path
    volume: Array
    steps: Steps
    n_frames: int = 1
    own_scale: bool = False

    @property
    def voxel_um(self) -> VoxelSize | None:
        """Return the (z, y, x) step in um, ``None`` unless the file tells all three."""
        return self.steps.whole


def read_recording(
    path: str | Path,
    time_point: int = 0,
    value_range: ValueRange | None = None,
    *,
    channel: int | None = None,
    position: int | None = None,
    frames_are: Literal["planes"] | None = None,
) -> Recording:
    """Read a stack.

    Parameters
    ----------
    path
        TIFF, OME-Zarr, ND2, NPY or PT; the ending tells.
    time_point
        Which one of a series, from 0.
    value_range
        Recorded values that become 0 and 1, others are clipped; by default see `Recording.volume`.
    channel, position
        Which one, from 0, of a file of several.
    frames_are
        ``planes`` if what the file calls time points or channels is planes.

    Raises
    ------
    UserError
        If the file cannot be read, has several channels or positions and none is named, is
        constant, holds NaN, or lies outside ``value_range``.

    Examples
    --------
    >>> import numpy as np, tenet
    >>> np.save("cell.npy", np.arange(60).reshape(3, 4, 5))
    >>> recording = tenet.read_recording("cell.npy")
    >>> recording.volume.shape, float(recording.volume.max())
    ((3, 4, 5), 1.0)
    """
    selection = Selection(channel, position, frames_are)
    return read_selected(Path(path), selection, time_point, value_range)


def read_selected(
    path: Path,
    selection: Selection,
    time_point: int = 0,
    value_range: ValueRange | None = None,
    make: Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]] = np.empty,
) -> Recording:
    """Read a stack, see `read_recording`; ``make`` makes room for it, of a shape and a type."""
    require_range(value_range)
    file = open_recording(path, selection)
    file.require_time_point(time_point)
    recorded = make(file.shape, file.dtype)
    least, largest = file.copy(time_point, recorded)
    zero, one = scale_of(str(path), least, largest, value_range, file.full_scale)
    single = recorded.dtype == np.float32
    volume = recorded if single else make(file.shape, np.dtype(np.float32))
    kind = recorded.dtype.type
    for target, plane in zip(volume, recorded, strict=True):
        # In the precision of the values: an offset may be far larger than what it is added to.
        target[...] = ((plane - kind(zero)) / kind(one - zero)).clip(0, 1)
        for array in (recorded, volume):
            release_pages(array)
    return Recording(path, volume, file.steps, file.n_frames, value_range is None)


def align_recording(stack: Recording, model: DeepAlignNet | None) -> Recording:
    """Return a recording with its slices aligned, see `tenet.align`."""
    aligned, _ = align(stack.volume, model)
    return replace(stack, volume=aligned.clip(0, 1))


def is_result(path: Path, stems: Collection[str]) -> bool:
    """Whether a file is a result of ``tenet enhance``: of a file there, or beside its settings.

    Parameters
    ----------
    path
        The file.
    stems
        Those of all files of its folder.
    """
    if is_zarr(path) and stack_stem(path).endswith(_STORE):
        name = stack_stem(path)
        return name.removesuffix(_STORE) in stems or path.with_name(f"{name}.yaml").exists()
    found = _RESULT.search(path.stem)
    if found is None:
        return False
    settings = f"{path.stem[: found.start()]}{found[1] or ''}_tenet.yaml"
    return path.stem[: found.start()] in stems or path.with_name(settings).exists()


def find_recordings(folder: Path, *, left_out: tuple[str, ...] = ()) -> list[Path]:
    """Return the stacks of a folder, sorted; not those that start with ``_`` or are left out.

    Neither are results of ``tenet enhance``, see `is_result`. Of several files that stand for the
    same stack, the first.

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
    found = [
        path
        for path in files_inside(folder, SUFFIXES, is_result)
        if path.name[0] != "_" and not path.stem.endswith(left_out)
    ]
    if not found:
        raise UserError(
            f"{folder}: no stack to use ({', '.join(SUFFIXES)}); check folderpath and test_images"
        )
    return found


def fold_folder(folder: str | Path, fold: str | None) -> Path:
    """Return a folder of recordings for a fold of a cross-validation: ``<folder>K``, as published.

    ``<folder>_cv_K``, as this package once had it, where that alone is there.
    """
    if not fold:
        return Path(folder)
    published, earlier = Path(f"{folder}{fold}"), Path(f"{folder}_cv_{fold}")
    return earlier if earlier.is_dir() and not published.is_dir() else published


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


def held_out_recordings(config: Config, fold: str | None = None) -> list[Path]:
    """Return the stacks that training leaves out, ``test_dataset.test_images``; else validation's.

    From the folder of ``val_dataset``, of a fold if one is named.
    """
    folder = fold_folder(config.section("val_dataset", StackCrops).folderpath, fold)
    wanted = config.test_dataset.test_images
    everything = find_recordings(folder)
    kept = [path for path in everything if wanted and path.stem.endswith(wanted)]
    return kept or split_recordings(everything, train=False)
