"""Results that land as one OME-Zarr store, made frame by frame; interrupted runs go on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import StackFile, open_stack
from scopekit.progress import say
from scopekit.series.store import FrameSeries, begin_series, claimed_store
from scopekit.settings import write_yaml
from serenet.results.landing import Landing

_LAYER = 16

MakeFrames = Callable[[FrameSeries, Sequence[int]], dict[int, str]]
"""Makes frames of a series and keeps them there; returns why frames failed, by frame."""


def write_store(landing: Landing, stamp: Mapping[str, Any], make: MakeFrames) -> Path:
    """Make the frames of one input that are not finished yet, and land their store.

    Parameters
    ----------
    landing
        The input, and what is to become of it.
    stamp
        What must be equal for a run to go on with the frames of another.
    make
        Makes the frames.

    Raises
    ------
    UserError
        If frames failed; the others have landed then, unless there are none.
    """
    with claimed_store(landing.stem):
        return _write(landing, stamp, make)


def _write(landing: Landing, stamp: Mapping[str, Any], make: MakeFrames) -> Path:
    source, result = landing.source, landing.named(".ome.zarr")
    landing.require_same_input(result)
    series = begin_series(
        result, landing.shape, landing.voxel_um, stamp, overwrite=landing.overwrite
    )
    finished = series.records()
    failures = make(series, [n for n in range(source.n_frames) if n not in finished])
    records = series.records()
    if not records:
        series.discard()
        raise UserError(next(iter(failures.values())))
    settings = landing.describe()
    settings["frames"] = _joined(landing.finish_frames(records))
    if failures:
        settings["failed_frames"] = failures
    picture = landing.named(".png")
    picture.unlink(missing_ok=True)  # of an earlier result
    stack, first = open_stack(series.store), next(iter(records))
    landing.save_picture(picture, lambda: _planes(stack, first))
    write_yaml(landing.named(".yaml"), settings, overwrite=True)
    series.land(sorted(failures))
    say(str(result))
    if failures:
        raise UserError(
            f"{source.path}: failed: {_some(sorted(failures))}; the other {len(records)} of "
            f"{source.n_frames} are in {result}; give the command again to make up for the failed"
        )
    return result


def _planes(stack: StackFile, frame: int) -> Iterator[NDArray[np.float32]]:
    """Yield the planes of a frame, holding a layer of chunks at a time."""
    everything = slice(None)
    n_planes = stack.shape[-3]
    for first in range(0, n_planes, _LAYER):
        layer = range(first, min(first + _LAYER, n_planes))
        yield from stack.read_window(layer, everything, everything, frame)


def _joined(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records in order, one for every run of frames that differ in number only."""
    joined: list[dict[str, Any]] = []
    spans: list[tuple[int, int]] = []
    for record in records:
        frame, alike = record["frame"], {**record, "frame": None}
        if spans and spans[-1][1] == frame - 1 and joined[-1] == alike:
            spans[-1] = (spans[-1][0], frame)
        else:
            joined.append(alike)
            spans.append((frame, frame))
    for record_, (first, last) in zip(joined, spans, strict=True):
        record_["frame"] = first if first == last else f"{first}-{last}"
    return joined


def _some(frames: Sequence[int]) -> str:
    shown = ", ".join(map(str, frames[:10]))
    if len(frames) > 10:
        return f"{len(frames)} frames: {shown}, ..."
    return f"frames {shown}" if len(frames) > 1 else f"frame {shown}"
