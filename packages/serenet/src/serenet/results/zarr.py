"""Results that land as one OME-Zarr store, made frame by frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import StackFile, open_stack
from scopekit.preview import save_preview
from scopekit.progress import say
from scopekit.series.store import FrameSeries, begin_series
from scopekit.settings import write_yaml
from serenet.results.batch import Batch

_LAYER = 16

MakeFrames = Callable[[FrameSeries, Sequence[int]], dict[int, str]]
"""Makes frames of a series and keeps them there; returns why frames failed, by frame."""


def run_as_series(
    batch: Batch, source: StackFile, volume_shape: tuple[int, int, int], make: MakeFrames
) -> Path:
    """Make the frames of one source that are not finished yet, and land their store.

    Parameters
    ----------
    batch
        The run.
    source
        The view stack.
    volume_shape
        (Z, Y, X) of one frame's volume.
    make
        Makes the frames.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    UserError
        If frames failed; the others have landed then, unless there are none.
    """
    result = batch.result(source.path)
    shape, settings = batch.describe(source, volume_shape)
    # Another device gives the same frames.
    stamp = {k: v for k, v in settings.items() if k != "device"} | _fingerprint(source)
    series = begin_series(result, shape, batch.voxel_um, stamp, overwrite=batch.overwrite)
    finished = series.records()
    failures = make(series, [n for n in range(source.n_frames) if n not in finished])
    records = series.records()
    if not records:
        series.discard()
        raise UserError(next(iter(failures.values())))
    settings["frames"] = _joined(records)
    if failures:
        settings["failed_frames"] = failures
    _draw(batch, source, series, next(iter(records)))
    write_yaml(batch.beside(source.path, ".yaml"), settings, overwrite=True)
    series.land(sorted(failures))
    say(str(result))
    if failures:
        raise UserError(
            f"{source.path}: failed: {_some(sorted(failures))}; the other {len(records)} of "
            f"{source.n_frames} are in {result}; give the command again to make up for the failed"
        )
    return result


def _fingerprint(source: StackFile) -> dict[str, Any]:
    """Return what tells whether a file is the one that an interrupted run read.

    Folders may change meanwhile: a mended frame is what a run is repeated for.
    """
    print_: dict[str, Any] = {"input": str(source.path.resolve())}
    if source.path.is_file():
        status = source.path.stat()
        print_ |= {"input_bytes": status.st_size, "input_changed": status.st_mtime_ns}
    return print_


def _draw(batch: Batch, source: StackFile, series: FrameSeries, frame: int) -> None:
    picture = batch.beside(source.path, ".png")
    picture.unlink(missing_ok=True)  # of an earlier result
    if not batch.preview:
        return
    volumes = {picture.stem: _planes(open_stack(series.store), frame)}
    save_preview(picture, volumes, batch.voxel_um, overwrite=True)


def _planes(stack: StackFile, frame: int) -> Iterator[NDArray[np.float32]]:
    """Yield the planes of a frame, holding a layer of chunks at a time."""
    everything = slice(None)
    n_planes = stack.shape[-3]
    for first in range(0, n_planes, _LAYER):
        layer = range(first, min(first + _LAYER, n_planes))
        yield from stack.read_window(layer, everything, everything, frame)


def _joined(records: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records in order, one for every run of frames that differ in number only."""
    joined: list[dict[str, Any]] = []
    spans: list[tuple[int, int]] = []
    for frame, record in records.items():
        alike = {**record, "frame": None}
        if spans and spans[-1][1] == frame - 1 and joined[-1] == alike:
            spans[-1] = (spans[-1][0], frame)
        else:
            joined.append(alike)
            spans.append((frame, frame))
    for record, (first, last) in zip(joined, spans, strict=True):
        record["frame"] = first if first == last else f"{first}-{last}"
    return joined


def _some(frames: Sequence[int]) -> str:
    shown = ", ".join(map(str, frames[:10]))
    if len(frames) > 10:
        return f"{len(frames)} frames: {shown}, ..."
    return f"frames {shown}" if len(frames) > 1 else f"frame {shown}"
