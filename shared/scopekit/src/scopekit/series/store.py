"""A time series made frame by frame as OME-Zarr, which an interrupted run goes on with.

The store is written beside its final name. A frame counts as finished when its record lies in the
state folder, which happens after all its chunks are written; so whatever kills the run, the next
one repeats the frame that was being written, and no other.
"""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scopekit.errors import UserError
from scopekit.images.plane_file import release_pages
from scopekit.images.readers.zarr import EMPTY_FRAMES
from scopekit.images.target import Target
from scopekit.images.voxel import PartialVoxelSize
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame
from scopekit.outputs import make_folder, partial_path, whole_file
from scopekit.progress import say


@dataclass(frozen=True)
class FrameSeries:
    """Where a series is being written; any process may keep any frame.

    Attributes
    ----------
    result
        The final name.
    store
        The store, under a hidden name until it lands.
    """

    result: Path
    store: Path

    @property
    def state(self) -> Path:
        """Folder of the settings and of the finished frames' records."""
        return _state(self.result)

    def keep(self, frame: int, volume: Target, record: Mapping[str, Any]) -> None:
        """Write a frame, then its record, which marks it as finished."""
        write_frame(self.store, frame, volume.array)
        release_pages(volume.array)
        with whole_file(self.state / f"{frame}.json", overwrite=True) as partial:
            partial.write_text(json.dumps(dict(record)), encoding="utf-8")

    def records(self) -> dict[int, dict[str, Any]]:
        """Return the records of the finished frames, in order."""
        frames = sorted(int(p.stem) for p in self.state.glob("*.json") if p.stem.isdigit())
        return {
            frame: json.loads((self.state / f"{frame}.json").read_text(encoding="utf-8"))
            for frame in frames
        }

    def land(self, empty_frames: Sequence[int]) -> None:
        """Give the store its final name; the state stays while frames are missing."""
        declare_whole(self.store, empty_frames)
        if self.store != self.result:
            earlier = self.result.with_name(f".{self.result.name}.earlier")
            if self.result.exists():
                self.result.replace(earlier)
            self.store.replace(self.result)
            shutil.rmtree(earlier, ignore_errors=True)
        if not empty_frames:
            shutil.rmtree(self.state, ignore_errors=True)

    def discard(self) -> None:
        """Remove a store that has not landed, and its state."""
        if self.store != self.result:
            shutil.rmtree(self.store, ignore_errors=True)
            shutil.rmtree(self.state, ignore_errors=True)


def begin_series(
    result: Path,
    shape: Sequence[int],
    voxel_um: PartialVoxelSize,
    stamp: Mapping[str, Any],
    *,
    overwrite: bool,
) -> FrameSeries:
    """Start a series, or go on with one that was interrupted, or with its missing frames.

    Parameters
    ----------
    result
        The store to make, ``NAME.ome.zarr``.
    shape
        (Z, Y, X) or (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um.
    stamp
        What must be equal for a run to go on with the frames of another: plain values.
    overwrite
        Whether an existing store may be replaced.

    Raises
    ------
    UserError
        If the store exists and is whole, or it or finished frames of an interrupted run were made
        otherwise, and ``overwrite`` is false.
    """
    partial, state = partial_path(result), _state(result)
    text = yaml.safe_dump({**stamp, "shape": list(shape)})
    stamped = state / "settings.yaml"
    same = stamped.exists() and stamped.read_text(encoding="utf-8") == text
    if result.exists() and not overwrite:
        if not same or is_whole(result):
            raise UserError(
                f"{result} exists, made from other input or with other settings: add "
                "`overwrite=True` to replace it, or choose another `out`"
            )
        say(f"{result.name}: making the frames that it lacks")
        return FrameSeries(result, result)
    unfinished = FrameSeries(result, partial)
    n_finished = len(unfinished.records()) if partial.is_dir() else 0
    if same and partial.is_dir():
        if n_finished:
            say(f"{result.name}: going on where an interrupted run stopped")
        return unfinished
    if n_finished and not overwrite:
        raise UserError(
            f"{result.name}: an interrupted run left {n_finished} finished frames of other input "
            f"or settings ({_differing(stamped, text)}): give the same command to go on, "
            "`overwrite=True` to start anew, or another `out`"
        )
    shutil.rmtree(state, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    name = result.name.removesuffix(".zarr").removesuffix(".ome")
    create_store(partial, shape, voxel_um, name)
    make_folder(state)
    with whole_file(stamped, overwrite=True) as landing:
        landing.write_text(text, encoding="utf-8")
    return unfinished


def is_whole(result: Path) -> bool:
    """Whether a store is there and lacks no frame."""
    try:
        attributes = json.loads((result / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError):
        return False
    missing: Collection[int] = attributes.get(EMPTY_FRAMES, ())
    return not missing


def _differing(stamped: Path, text: str) -> str:
    """Name the settings of an earlier run that differ from those of this one."""
    try:
        earlier = yaml.safe_load(stamped.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        earlier = None
    present = yaml.safe_load(text)
    if not isinstance(earlier, dict):
        return "unreadable"
    keys = [key for key in {**earlier, **present} if earlier.get(key) != present.get(key)]
    return ", ".join(keys).replace("_", " ")


def _state(result: Path) -> Path:
    return result.with_name(f".{result.name}.state")
