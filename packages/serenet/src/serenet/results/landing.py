"""One input's result on its way to its final name: volume, picture, settings."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.images.files import PartialVoxelSize, StackFile
from scopekit.inputs import input_record, require_same_input
from scopekit.preview import Sections, save_preview, sections

Planes = Iterable[NDArray[np.float32]]
Draw = Callable[[Path, str, StackFile, Callable[[], Planes], PartialVoxelSize], None]
"""``draw(picture, title, source, planes, voxel_um)`` draws the first frame's result.

``planes()`` gives its planes, as often as they are wanted.
"""

FinishFrame = Callable[[Path, int, int, dict[str, Any]], None]
"""``finish(stem, frame, n_frames, record)`` writes what belongs to a frame beside its result.

``stem`` is the result's name without ending. What it uses, it takes out of the record.
"""


def draw_volume(
    picture: Path,
    title: str,
    source: StackFile,
    planes: Callable[[], Planes],
    voxel_um: PartialVoxelSize,
) -> None:
    """Draw sections of a volume through its brightest object, beside orthogonal projections."""
    cut = sections(planes)
    z, y, x = cut.place
    captions = ("maximum projections", f"plane {z}, row {y}, column {x} (from 0)")
    shown: dict[str, Planes | Sections] = {
        title: planes(),
        "sections through the brightest object": cut,
    }
    save_preview(picture, shown, voxel_um, overwrite=True, captions=captions)


def finish_nothing(stem: Path, frame: int, n_frames: int, record: dict[str, Any]) -> None:
    """Leave the record as it is: nothing belongs beside the result."""


@dataclass(frozen=True)
class Landing:
    """What is to become of one input.

    Attributes
    ----------
    source
        The view stack.
    stem
        The result's name without ending.
    volume_shape
        (Z, Y, X) of one frame's volume.
    voxel_um
        (z, y, x) step, um, ``None`` where it is unknown.
    settings
        Those of the run.
    draw
        Draws the picture, or ``None``.
    finish
        Writes what belongs to a frame.
    dtype
        ``float32`` or ``uint16``.
    overwrite
        Whether to replace an existing result.
    """

    source: StackFile
    stem: Path
    volume_shape: tuple[int, int, int]
    voxel_um: PartialVoxelSize
    settings: Mapping[str, Any]
    draw: Draw | None
    finish: FinishFrame
    dtype: str
    overwrite: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the result, (Z, Y, X) or (T, Z, Y, X)."""
        series = len(self.source.shape) == 4
        return (self.source.n_frames, *self.volume_shape) if series else self.volume_shape

    def named(self, ending: str) -> Path:
        """Return the final name of a file of the result."""
        return self.stem.with_name(self.stem.name + ending)

    def require_same_input(self, result: Path) -> None:
        """Raise `UserError` if there is a result of another input that must stay."""
        if not self.overwrite and result.exists():
            require_same_input(self.named(".yaml"), result, self.source.path)

    def describe(self) -> dict[str, Any]:
        """Return the settings, saved beside the result."""
        return {
            **input_record(self.source.path),
            **self.settings,
            "voxel_um": dict(zip("zyx", self.voxel_um, strict=True)),
            "volume_shape": list(self.shape),
        }

    def save_picture(self, path: Path, planes: Callable[[], Planes]) -> None:
        """Draw the first frame's result, if a picture is wanted."""
        if self.draw is not None:
            self.draw(path, self.stem.name, self.source, planes, self.voxel_um)

    def finish_frames(self, records: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
        """Write what belongs to the frames; return what is left to tell about them."""
        for frame, record in records.items():
            self.finish(self.stem, frame, self.source.n_frames, record)
        return list(records.values())
