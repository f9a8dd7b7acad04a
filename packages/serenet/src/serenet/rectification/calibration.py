"""What rectifying frames of one microscope needs, and the frames that tell it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from scopekit.errors import Page, UserError
from scopekit.images.files import WHOLE_FILE, Selection, StackFile, open_frames
from scopekit.inputs import sha256_of
from scopekit.settings import read_yaml
from serenet.rectification.lattice import Lattice


class Calibration(BaseModel):
    """What rectifying another frame of the same microscope needs; kept as YAML.

    Attributes
    ----------
    lattice
        The microlenses.
    radiometry, radiometry_sha256
        The frame of homogeneous fluorescence behind the flat field (and the lattice), and its
        fingerprint; without one nothing is divided by a flat field.
    dark
        The dark frame, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lattice: Lattice
    radiometry: Path | None = None
    radiometry_sha256: str | None = None
    dark: Path | None = None


def calibration_of(
    lattice: Lattice, radiometry: Path | None, dark: Path | None = None
) -> Calibration:
    """Return what to keep of a lattice that was found in these files."""
    return Calibration(
        lattice=lattice,
        radiometry=radiometry and radiometry.resolve(),
        radiometry_sha256=None if radiometry is None else sha256_of(radiometry),
        dark=dark and dark.resolve(),
    )


def read_calibration(path: Path) -> Calibration:
    """Read a calibration; raise `UserError` unless its radiometry frame is there, unchanged."""
    content = read_yaml(path)
    try:
        setting = Calibration.model_validate(content)
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path}: not a calibration of `serenet rectify` ({where}: {first['msg']}); "
            "calibrate again with a radiometry frame",
            page=Page.rectifying,
        ) from failure
    if setting.radiometry is not None and not setting.radiometry.is_file():
        raise UserError(
            f"{path}: its radiometry frame {setting.radiometry} is missing; correct that line or "
            "calibrate again",
            page=Page.rectifying,
        )
    if setting.radiometry and sha256_of(setting.radiometry) != setting.radiometry_sha256:
        raise UserError(
            f"{path}: its radiometry frame {setting.radiometry} has changed since; calibrate again",
            page=Page.rectifying,
        )
    return setting


def mean_frame(
    path: Path, selection: Selection = WHOLE_FILE, shape: tuple[int, ...] | None = None
) -> NDArray[np.float32]:
    """Return the mean of all frames of a file, which must have ``shape`` if that is given."""
    stack = open_frames(path, selection)
    if shape is not None:
        require_shape(stack, shape)
    total = sum((frame.astype(np.float64) for frame in frames_of([stack])), np.zeros(()))
    return (total / stack.n_frames).astype(np.float32)


def frames_of(stacks: Sequence[StackFile]) -> Iterator[NDArray[np.float32]]:
    """Yield all frames (Y, X) of files, one after the other."""
    for stack in stacks:
        for t in range(stack.n_frames):
            yield stack.read(t)[0]


def require_shape(stack: StackFile, shape: tuple[int, ...]) -> None:
    """Raise `UserError` if the frames of a file are not those of the radiometry frame."""
    if stack.shape[-2:] != shape:
        raise UserError(
            f"{stack.path}: frames of {stack.shape[-2]} x {stack.shape[-1]} pixels, but the "
            f"radiometry frame has {shape[0]} x {shape[1]}; record them with one camera setting"
        )
