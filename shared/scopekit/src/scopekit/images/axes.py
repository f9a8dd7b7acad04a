"""Axes of files by name, and which planes of a file become which pages of which time point."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import Page, UserError
from scopekit.images.selection import Selection

TIME, DEPTH, CHANNEL, POSITION = "time", "depth", "channel", "position"
PAGES = "pages"
"""An axis that the file does not name."""

_PLURALS = {
    TIME: "time points",
    DEPTH: "planes",
    CHANNEL: "channels",
    POSITION: "positions",
    PAGES: "pages",
}


class Axis(NamedTuple):
    """An axis of a file beyond rows and columns.

    Attributes
    ----------
    name
        One of the names above, or what else the file calls it.
    length
        Number of places.
    stride
        How many planes lie between one place and the next.
    """

    name: str
    length: int
    stride: int


def stacked(names: Sequence[str], lengths: Sequence[int]) -> tuple[Axis, ...]:
    """Return axes of planes that lie one after the other, the last axis fastest."""
    strides = [int(np.prod(lengths[n + 1 :], dtype=np.int64)) for n in range(len(lengths))]
    return tuple(Axis(*axis) for axis in zip(names, lengths, strides, strict=True))


def choose(path: Path, name: str, count: int, wanted: int | None, found: str = "") -> int:
    """Return which channel or position is meant; ``found`` describes all that the file has.

    Raises
    ------
    UserError
        If there are several and none is named, or there is none of that number.
    """
    if wanted is None and count > 1:
        several = found or f"{count} {_PLURALS[name]}"
        raise UserError(
            f"{path}: {several}; choose a {name}, 0 to {count - 1}, by `{name}=N`", page=Page.axes
        )
    if not 0 <= (wanted or 0) < count:
        plural = _PLURALS[name] if count > 1 else name
        allowed = f"0 to {count - 1}" if count > 1 else "0"
        raise UserError(
            f"{path}: {count} {plural}, but {name} {wanted} was asked for; allowed: {allowed}",
            page=Page.axes,
        )
    return wanted or 0


def arrange(
    path: Path, axes: Sequence[Axis], selection: Selection, *, single_image: bool = False
) -> NDArray[np.intp]:
    """Return which planes of a file are the pages of which time point.

    Parameters
    ----------
    path
        The file, for messages.
    axes
        Its axes beyond rows and columns. Unnamed ones stand for pages and, before those or
        before planes, for time points.
    selection
        Which part is meant.
    single_image
        Whether a file of a single image is a stack of one page.

    Returns
    -------
    ndarray
        Numbers of planes, (pages,) or (T, pages).

    Raises
    ------
    UserError
        If a channel or position must be chosen, or the planes are no stack, or a series of them.
    """
    start, rest = _choose_all(path, axes, selection)
    if selection.frames_are == "planes":
        rest = _renamed(path, rest)
    long = [axis for axis in rest if axis.length > 1]
    depth = _take(long, DEPTH) or _take(long, PAGES, last=True)
    time = _take(long, TIME) or (_take(long, PAGES, last=True) if depth else None)
    if long:
        raise UserError(
            f"{path}: {_described(rest)}; expected one stack, or a series of stacks", page=Page.axes
        )
    if depth is None and time is not None:
        raise _no_stack(path, time)
    if depth is None:
        flat = [axis for axis in rest if axis.name in (DEPTH, PAGES)]
        if not flat and not single_image:
            raise UserError(
                f"{path}: a single 2D image; expected a stack: save all pages in one file; what "
                "to do with a camera frame of a light field tells 'serenet check'",
                page=Page.axes,
            )
        depth = Axis(DEPTH, 1, 0)
    planes = start + depth.stride * np.arange(depth.length)
    if time is None:
        return planes
    return time.stride * np.arange(time.length)[:, None] + planes


def line_up(path: Path, axes: Sequence[Axis], selection: Selection) -> NDArray[np.intp]:
    """Return the planes of a file as camera frames, one after the other: time points first.

    Raises
    ------
    UserError
        As `arrange`; but any planes are frames.
    """
    start, rest = _choose_all(path, axes, selection)
    frames = np.array([start])
    for axis in sorted(rest, key=lambda axis: axis.name != TIME):
        if axis.length > 1 and axis.name not in (TIME, DEPTH, PAGES):
            raise UserError(
                f"{path}: {_described(rest)}; expected camera frames in time order", page=Page.axes
            )
        frames = (frames[:, None] + axis.stride * np.arange(axis.length)).ravel()
    return frames


def _choose_all(path: Path, axes: Sequence[Axis], selection: Selection) -> tuple[int, list[Axis]]:
    """Return the first plane of the channel and position that are meant, and the other axes."""
    empty = [axis.name for axis in axes if axis.length < 1]
    if empty:
        raise UserError(f"{path}: no planes along {empty[0]}; the file is damaged or was cut short")
    start, rest = 0, list(axes)
    for name, wanted in ((CHANNEL, selection.channel), (POSITION, selection.position)):
        axis = _take(rest, name)
        if axis is None or axis.length == 1:
            if not selection.where_several:
                choose(path, name, 1, wanted)
        elif wanted is None and name == CHANNEL and _are_only(axis, rest):
            if axis.length in selection.n_views:
                axis = axis._replace(name=DEPTH)
            elif selection.frames_are != "planes":
                raise _no_stack(path, axis)
            rest.append(axis)
        else:
            start += axis.stride * choose(path, name, axis.length, wanted, _described(axes))
    return start, rest


def _are_only(axis: Axis, rest: Sequence[Axis]) -> bool:
    """Whether nothing but an axis, and perhaps time, could be pages."""
    return not any(a.length > 1 and a.name not in (TIME, POSITION) for a in rest if a != axis)


def _renamed(path: Path, axes: Sequence[Axis]) -> list[Axis]:
    """Call channels, or else time points, planes."""
    name = CHANNEL if any(axis.name == CHANNEL for axis in axes) else TIME
    if not any(axis.length > 1 and axis.name == name for axis in axes):
        return list(axes)
    if any(axis.length > 1 and axis.name in (DEPTH, PAGES) for axis in axes):
        raise UserError(
            f"{path}: {_described(axes)}: its time points are stacks, and no planes: leave "
            "`frames_are` out",
            page=Page.axes,
        )
    return [axis._replace(name=DEPTH) if axis.name == name else axis for axis in axes]


def _no_stack(path: Path, axis: Axis) -> UserError:
    found = f"{path}: {axis.length} {_PLURALS[axis.name]} of one plane each"
    if axis.name == CHANNEL:
        return UserError(
            f"{found}; choose one, 0 to {axis.length - 1}, by `channel=N`; or, if they are planes, "
            "views or frames in truth, say `frames_are=planes`",
            page=Page.axes,
        )
    return UserError(
        f"{found}, which is no stack; if they are planes or views in truth, say "
        "`frames_are=planes`",
        page=Page.axes,
    )


def _take(axes: list[Axis], name: str, *, last: bool = False) -> Axis | None:
    """Remove and return the axis of a name, if there is one."""
    found = [axis for axis in axes if axis.name == name]
    if not found:
        return None
    axis = found[-1 if last else 0]
    axes.remove(axis)
    return axis


def _described(axes: Sequence[Axis]) -> str:
    return " x ".join(
        f"{axis.length} {_PLURALS.get(axis.name, axis.name)}" for axis in axes if axis.length > 1
    )
