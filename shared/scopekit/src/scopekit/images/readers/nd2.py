"""Nikon's ND2 files, read one plane at a time; the package ``nd2`` comes with an extra."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.axes import CHANNEL, DEPTH, POSITION, TIME, stacked
from scopekit.images.stack import StoredPlanes
from scopekit.images.voxel import Steps, known_steps

_NAMES = {"T": TIME, "Z": DEPTH, "C": CHANNEL, "P": POSITION}


@dataclass(frozen=True, kw_only=True)
class Nd2Planes(StoredPlanes):
    """The planes of an ND2 file: frame after frame, in each the channels.

    Attributes
    ----------
    n_channels
        Number of channels of a frame.
    """

    n_channels: int

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[NDArray[Any]]:
        """Yield a window of planes."""
        with _opened(self.path) as file:
            for number in numbers:
                frame, channel = divmod(number, self.n_channels)
                planes = file.read_frame(frame).reshape(self.n_channels, *self.plane_shape)
                yield np.array(planes[channel, rows, columns])


def inspect_nd2(path: Path) -> Nd2Planes:
    """Inspect an ND2 file without reading its planes.

    Raises
    ------
    UserError
        If the file is missing or damaged, of another kind, or a colour image, or the package is
        not installed.
    """
    with _opened(path) as file:
        sizes = {axis: int(n) for axis, n in file.sizes.items() if axis not in "YX"}
        if sizes.pop("S", 1) > 1:
            raise UserError(f"{path}: a colour image; export it as grey values")
        n_channels = sizes.pop("C", 1)
        names = [_NAMES.get(axis, axis) for axis in sizes]
        depth = file.attributes.bitsPerComponentSignificant
        dtype = np.dtype(file.dtype)
        return Nd2Planes(
            path=path,
            axes=stacked([*names, CHANNEL], [*sizes.values(), n_channels]),
            plane_shape=(int(file.sizes["Y"]), int(file.sizes["X"])),
            dtype=dtype,
            steps=_steps(path, file, of_planes=sizes.get("Z", 1) > 1),
            full_scale=float(2**depth - 1) if dtype.kind == "u" else None,
            n_channels=n_channels,
        )


def _steps(path: Path, file: Any, *, of_planes: bool) -> Steps:
    """Return the steps, unknown where the file says that they are not calibrated."""
    volume = file.metadata.channels[0].volume
    x, y, z = (
        (size, "um") if calibrated else None
        for size, calibrated in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    )
    for loop in file.experiment:
        if loop.type == "ZStackLoop":
            z = abs(loop.parameters.stepUm), "um"
    return known_steps(path, "ND2 metadata", z=z if of_planes else None, y=y, x=x)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        nd2 = import_module("nd2")
    except ImportError as failure:
        raise UserError(
            f"{path}: to read ND2 run: pip install nd2; or export the stack as TIFF"
        ) from failure
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with nd2.ND2File(path) as file:
            yield file
    except (UserError, MemoryError):
        raise
    except PermissionError as failure:
        raise UserError(f"{path}: no permission to read it") from failure
    except Exception as failure:  # damaged files raise errors of any kind
        if isinstance(failure, ImportError):
            raise UserError(
                f"{path}: its compression needs another package: run 'pip install imagecodecs'"
            ) from failure
        raise UserError(f"{path}: not an ND2 file, or damaged; export it again") from failure
