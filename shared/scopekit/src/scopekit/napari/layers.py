"""Stacks and volumes as layers of napari: in um, their axes named, their files behind them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
from dask import delayed

from scopekit.images.files import is_zarr
from scopekit.images.stack import StackFile
from scopekit.images.voxel import UNKNOWN, Steps

_NO_Z = "z step unknown"
_PLANES_AT_ONCE = 16

LayerData = tuple[Any, dict[str, Any], str]
"""Values, keyword arguments and kind of a layer, as readers of napari return them."""


def layer_of(
    values: Any,
    name: str,
    steps: Steps,
    *,
    axes: tuple[str, ...] = ("t", "z", "y", "x"),
    kind: str = "image",
    metadata: Mapping[str, Any] | None = None,
    **more: Any,
) -> LayerData:
    """Return values as a layer.

    Parameters
    ----------
    values
        (Z, Y, X), or with axes before: a series (T, Z, Y, X); a plane (Y, X).
    name
        Of the layer.
    steps
        What is known of its voxel size. Where y or x is not, all count as a pixel.
    axes
        Their names; the last ones are taken.
    kind
        ``image`` or ``labels``.
    metadata
        What the program notes about it.
    more
        Other arguments of the layer.
    """
    known = steps.y_um is not None and steps.x_um is not None
    unit = "um" if known else "pixel"
    scale = (steps.z_um or 1.0, steps.y_um, steps.x_um) if known else (1.0, 1.0, 1.0)
    leading = max(values.ndim - 3, 0)
    about = {
        "name": name,
        "scale": ((1.0,) * leading + scale)[-values.ndim :],
        "axis_labels": axes[-values.ndim :],
        "units": ("pixel",) * leading + (unit,) * min(values.ndim, 3),
        "metadata": {_NO_Z: steps.z_um is None, **(metadata or {})},
        **more,
    }
    return values, about, kind


def steps_of(layer: Any) -> Steps:
    """Return what a layer tells about its voxels: nothing of axes that are not in um.

    A step along z that its file does not tell is 1 in the window, until the user changes it.
    """
    if str(layer.units[-1]) != "micrometer":
        return UNKNOWN
    z, y, x = (float(step) for step in layer.scale[-3:])
    unknown = layer.metadata.get(_NO_Z, False) and z == 1
    return Steps(None if unknown else z, y, x)


def show_layer(viewer: Any, data: LayerData) -> Any:
    """Add a layer to the viewer, or replace the one of that name; return it."""
    values, about, kind = data
    name = about["name"]
    former = next((layer for layer in viewer.layers if layer.name == name), None)
    layer = getattr(viewer, f"add_{kind}")(values, **about)
    if former is not None:
        # Last, because napari shows all anew when an axis goes and comes.
        viewer.layers.remove(former)
        layer.name = name
    return layer


def values_of(stack: StackFile) -> Any:
    """Return the values of a stack; of a series or a store as an array that reads what is shown."""
    if is_zarr(stack.path):
        frames = [_slabs(stack, t) for t in range(stack.n_frames)]
        return da.stack(frames) if len(stack.shape) > 3 else frames[0]
    if len(stack.shape) == 3:
        return stack.read()
    frames = [
        da.from_delayed(delayed(stack.read)(t), stack.shape[1:], "float32")
        for t in range(stack.n_frames)
    ]
    return da.stack(frames)


def _slabs(stack: StackFile, frame: int) -> Any:
    """Return a time point as an array that reads a few planes, about a layer of chunks, at once."""
    n_planes, *plane = stack.shape[-3:]
    every = slice(None)
    parts = [
        range(first, min(first + _PLANES_AT_ONCE, n_planes))
        for first in range(0, n_planes, _PLANES_AT_ONCE)
    ]
    read = delayed(stack.read_window, pure=False)
    slabs = [
        da.from_delayed(read(part, every, every, frame), (len(part), *plane), "float32")
        for part in parts
    ]
    return da.concatenate(slabs)


def source_of(layer: Any) -> Path | None:
    """Return the file that a layer was read from, ``None`` without one."""
    path = layer.source.path or layer.metadata.get("path")
    return Path(path) if path else None


def paths_of(path: str | Sequence[str]) -> list[Path]:
    """Return what napari hands to a reader as paths: one, or several to be read one by one."""
    return [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
