"""ScanImage recordings: what the header says about channels, planes, volumes and lengths.

TIFF knows only pages there. They follow each other channel by channel, then frame by frame of one
plane, plane by plane, volume by volume. Headers differ with the version: 3 (``state.``),
4 (``scanimage.SI4.``) and from 5 on (``SI.``, ``scanimage.SI.``).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tifffile

from scopekit.errors import UserError
from scopekit.images.axes import CHANNEL, DEPTH, PAGES, TIME, Axis
from scopekit.images.voxel import Steps, known_steps

_SOURCE = "ScanImage header"
_LINE = re.compile(r"^\s*(?:scanimage\.)?((?:SI4?|state)\.[\w.]+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|Inf|NaN)", re.IGNORECASE)

# By what they mean, newest version first; the first that is there counts.
_KEYS = {
    "channels": ("SI.hChannels.channelSave", "SI4.channelsSave"),
    "n_channels": ("state.acq.numberOfChannelsSave",),
    "planes": (
        "SI.hStackManager.actualNumSlices",
        "SI.hStackManager.numSlices",
        "SI4.stackNumSlices",
        "state.acq.numberOfZSlices",
    ),
    "planes_of_a_volume": (
        "SI.hStackManager.numFramesPerVolumeWithFlyback",
        "SI.hFastZ.numFramesPerVolume",
    ),
    "frames_of_a_plane": (
        "SI.hStackManager.framesPerSlice",
        "SI4.acqNumFrames",
        "state.acq.numberOfFrames",
    ),
    "averaged": (
        "SI.hScan2D.logAverageFactor",
        "SI4.acqNumAveragedFramesSaved",
    ),
    "all_averaged": ("state.acq.averaging",),
    "stack": ("SI.hStackManager.enable",),
    "volumes": ("SI.hFastZ.enable", "SI4.fastZEnable"),
    "step": (
        "SI.hStackManager.actualStackZStepSize",
        "SI.hStackManager.stackZStepSize",
        "SI4.stackZStepSize",
        "state.acq.zStepSize",
    ),
    "field": ("SI.hRoiManager.imagingFovUm",),
}


@dataclass(frozen=True)
class ScanImage:
    """What a header tells.

    Attributes
    ----------
    axes
        Of the pages.
    """

    axes: tuple[Axis, ...]


def find_scanimage(path: Path, tif: tifffile.TiffFile, n_pages: int) -> ScanImage | None:
    """Return what the header says about the pages, ``None`` if ScanImage did not write the file.

    Raises
    ------
    UserError
        If the number of pages does not fit the header.
    """
    header = _read_header(tif)
    return ScanImage(_axes(path, header, n_pages)) if header else None


def scanimage_steps(path: Path, tif: tifffile.TiffFile, *, of_planes: bool) -> Steps | None:
    """Return the steps that the header tells, ``None`` if ScanImage did not write the file.

    The field of view in um is the outline of the scanned field; older versions do not tell it.
    """
    header = _read_header(tif)
    if not header:
        return None
    step, corners = _numbers(header, "step"), _numbers(header, "field")
    # Upwards or downwards; 0 stands for none.
    z = (abs(step[0]), "um") if step and step[0] else None
    y = x = None
    if len(corners) == 8:
        height, width = tif.pages.first.shape[:2]
        x, y = (
            ((max(side) - min(side)) / n, "um")
            for side, n in ((corners[::2], width), (corners[1::2], height))
        )
    return known_steps(path, _SOURCE, z=z if of_planes else None, y=y, x=x)


def _read_header(tif: tifffile.TiffFile) -> dict[str, str]:
    """Return names and values, as text; empty if there is no header of ScanImage."""
    if not tif.is_scanimage:
        return {}
    first = tif.pages.first
    texts = [str(first.tags[code].value) for code in (305, 270) if code in first.tags]
    frame_data = (tif.scanimage_metadata or {}).get("FrameData") or {}
    texts.append("\n".join(f"{key} = {value}" for key, value in frame_data.items()))
    return dict(_LINE.findall("\n".join(texts).replace("\r", "\n")))


def _numbers(header: Mapping[str, str], meaning: str) -> list[float]:
    for key in _KEYS[meaning]:
        if key in header:
            text = header[key].lower().replace("true", "1").replace("false", "0")
            return [float(number) for number in _NUMBER.findall(text)]
    return []


def _whole(header: Mapping[str, str], meaning: str) -> int | None:
    """Return a number of things, ``None`` where it is not told, or without end."""
    found = _numbers(header, meaning)
    return int(found[0]) if found and math.isfinite(found[0]) and found[0] >= 1 else None


def _axes(path: Path, header: Mapping[str, str], n_pages: int) -> tuple[Axis, ...]:
    n_channels = len(_numbers(header, "channels")) or _whole(header, "n_channels") or 1
    repeats, planes = _frames_of_a_plane(header), _planes(header, n_pages, n_channels)
    if planes is None:
        unnamed = Axis(PAGES, n_pages // n_channels, n_channels)
        return unnamed, Axis(CHANNEL, n_channels, 1)
    in_volume = planes
    if _numbers(header, "volumes")[:1] == [1.0] and planes > 1:
        # Those while the objective flies back are in the file, too, behind the others.
        in_volume = max(_whole(header, "planes_of_a_volume") or planes, planes)
        repeats = 1
    elif planes == 1:
        repeats = 1
    stride = n_channels * repeats * in_volume
    n_volumes, rest = divmod(n_pages, stride)
    if rest or not n_volumes:
        raise UserError(
            f"{path}: {n_pages} pages, but its {_SOURCE} tells {n_channels} channels x {repeats} "
            f"frames x {in_volume} planes: an interrupted recording? Save whole volumes as a file"
        )
    if n_volumes > 1 and repeats > 1:
        raise UserError(
            f"{path}: {n_volumes} volumes with {repeats} frames of every plane; average the frames "
            "first"
        )
    time = Axis(TIME, repeats, n_channels) if repeats > 1 else Axis(TIME, n_volumes, stride)
    return (
        time,
        Axis(DEPTH, planes, n_channels * repeats),
        Axis(CHANNEL, n_channels, 1),
    )


def _frames_of_a_plane(header: Mapping[str, str]) -> int:
    """Return how many frames of a plane follow each other in the file."""
    frames = _whole(header, "frames_of_a_plane") or 1
    if _numbers(header, "all_averaged")[:1] == [1.0]:
        return 1
    return max(frames // (_whole(header, "averaged") or 1), 1)


def _planes(header: Mapping[str, str], n_pages: int, n_channels: int) -> int | None:
    """Return the number of planes, ``None`` if nothing tells whether there are any."""
    slow, fast = _numbers(header, "stack")[:1], _numbers(header, "volumes")[:1]
    planes = _whole(header, "planes")
    # What is switched off keeps its number; versions without the first switch count 1 then.
    if slow and not any(slow + fast):
        return 1
    if planes is not None:
        return planes
    frames = _numbers(header, "frames_of_a_plane")
    if not frames:
        return None
    if not math.isfinite(frames[0]):
        return 1
    # A stack whose number of planes is not told: all that there are.
    return max(n_pages // (n_channels * _frames_of_a_plane(header)), 1)
