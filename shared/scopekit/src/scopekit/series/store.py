"""A time series made frame by frame as OME-Zarr, which an interrupted run goes on with.

The store is written beside its final name. A frame counts as finished when its record lies in the
state folder, which happens after all its chunks are written; so whatever kills the run, the next
one repeats the frame that was being written, and no other. Of frames that are made part by part it
repeats the part.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scopekit.errors import UserError
from scopekit.images.plane_file import release_pages
from scopekit.images.readers.zarr import EMPTY_FRAMES
from scopekit.images.target import Target
from scopekit.images.voxel import PartialVoxelSize
from scopekit.images.zarr_writer import (
    create_store,
    declare_whole,
    remove_halves,
    write_frame,
)
from scopekit.outputs import claimed, make_folder, partial_path, require_names, whole_file
from scopekit.progress import say
from scopekit.series.parts import FrameParts


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
        self.note(frame, record)

    def note(self, frame: int, record: Mapping[str, Any]) -> None:
        """Mark a frame as finished, all chunks of which are written."""
        with whole_file(self.state / f"{frame}.json", overwrite=True) as partial:
            partial.write_text(json.dumps(dict(record)), encoding="utf-8")
        shutil.rmtree(self.parts(frame).folder, ignore_errors=True)

    def parts(self, frame: int) -> FrameParts:
        """Return the parts of a frame that is made part by part."""
        return FrameParts(self.state / f"{frame}.parts")

    def done(self) -> str:
        """Say what of the series is done, in words; empty if nothing is."""
        records = self.records()
        if records:
            return f"{len(records)} finished frames"
        begun = (FrameParts(folder).finished() for folder in self.state.glob("*.parts"))
        return "a frame done in part" if any(begun) else ""

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


@contextmanager
def claimed_store(stem: Path) -> Iterator[None]:
    """Keep other runs from making the store ``<stem>.ome.zarr`` while the block runs.

    Raises
    ------
    UserError
        As of `claimed`, or if a file system would find a name too long.
    """
    # Names of what is not whole yet have a dot before them, and more behind.
    require_names(stem, (".ome.zarr.partial",))
    with claimed(stem):
        yield


def begin_series(
    result: Path,
    shape: Sequence[int],
    voxel_um: PartialVoxelSize,
    stamp: Mapping[str, Any],
    *,
    overwrite: bool,
) -> FrameSeries:
    """Start a series of one image, see `begin_store`.

    Parameters
    ----------
    result, stamp, overwrite
        See there.
    shape
        (Z, Y, X) or (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um.
    """
    name = result.name.removesuffix(".zarr").removesuffix(".ome")

    def create(path: Path) -> None:
        create_store(path, shape, voxel_um, name)

    return begin_store(result, {**stamp, "shape": list(shape)}, create, overwrite=overwrite)


def begin_store(
    result: Path, stamp: Mapping[str, Any], create: Callable[[Path], None], *, overwrite: bool
) -> FrameSeries:
    """Start a series, or go on with one that was interrupted, or with its missing frames.

    Parameters
    ----------
    result
        The store to make, ``NAME.ome.zarr``.
    stamp
        What must be equal for a run to go on with the frames of another: plain values.
    create
        Makes the store, without values, in the folder that it is given.
    overwrite
        Whether an existing store may be replaced.

    Raises
    ------
    UserError
        If the store exists and is whole, or it or finished frames of an interrupted run were made
        otherwise, and ``overwrite`` is false.
    """
    partial, state = partial_path(result), _state(result)
    text = yaml.safe_dump(dict(stamp))
    stamped = state / "settings.yaml"
    same = stamped.exists() and stamped.read_text(encoding="utf-8") == text
    if result.exists() and not overwrite:
        if not same or is_whole(result):
            raise UserError(
                f"{result} exists, made from other input or with other settings: add "
                "`overwrite=True` to replace it, or choose another `out`"
            )
        say(f"{result.name}: making the frames that it lacks")
        remove_halves(result)
        return FrameSeries(result, result)
    unfinished = FrameSeries(result, partial)
    done = unfinished.done() if partial.is_dir() else ""
    if same and partial.is_dir():
        if done:
            say(f"{result.name}: going on where an interrupted run stopped")
        remove_halves(partial)
        return unfinished
    if done and not overwrite:
        raise UserError(
            f"{result.name}: an interrupted run left {done} of other input "
            f"or settings ({_differing(stamped, text)}): give the same command to go on, "
            "`overwrite=True` to start anew, or another `out`"
        )
    shutil.rmtree(state, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    create(partial)
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
