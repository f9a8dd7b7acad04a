"""OME-Zarr (NGFF) metadata of images: axes and steps, written as 0.5, read from 0.4 on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scopekit.images.axes import CHANNEL, DEPTH, POSITION, TIME
from scopekit.images.voxel import PartialVoxelSize, Steps, known_steps

VERSION = "0.5"
_NAMES = {"t": TIME, "c": CHANNEL, "z": DEPTH, "y": "y", "x": "x", "p": POSITION}
_NAMES_OF_TYPES = {"time": TIME, "channel": CHANNEL}


@dataclass(frozen=True)
class ImageAxes:
    """What NGFF metadata say about the finest level of an image.

    Attributes
    ----------
    path
        Of the array inside the group.
    names
        Of the axes: those of `scopekit.images.axes`, ``y``, ``x``, or what else the file has.
    sizes
        Per axis the step and its unit.
    """

    path: str
    names: tuple[str, ...]
    sizes: tuple[tuple[float, str | None], ...]

    def steps(self, path: Path, *, of_planes: bool) -> Steps:
        """Return the steps; raise `UserError` if one is absurd."""
        told = dict(zip(self.names, self.sizes, strict=True))
        z = told.get(DEPTH) if of_planes else None
        return known_steps(path, "OME-Zarr metadata", z=z, y=told["y"], x=told["x"])


def multiscales(
    name: str, n_axes: int, voxel_um: PartialVoxelSize, *, is_labels: bool = False
) -> dict[str, Any]:
    """Return the attributes of a group with one array, ``0``, of axes (T,) Z, Y, X.

    Steps that are unknown have no unit, and count as 1. Labels belong to the image two groups up.
    Source: OME-NGFF 0.5, "multiscales" and "labels metadata".
    """
    axes: list[dict[str, str]] = [
        {"name": axis, "type": "space"} | ({"unit": "micrometer"} if step else {})
        for axis, step in zip("zyx", voxel_um, strict=True)
    ]
    scale = [float(step or 1) for step in voxel_um]
    if n_axes == 4:
        axes = [{"name": "t", "type": "time"}, *axes]
        scale = [1.0, *scale]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    told: dict[str, Any] = {"multiscales": [{"name": name, "axes": axes, "datasets": [dataset]}]}
    if is_labels:
        told["image-label"] = {"source": {"image": "../../"}}
    return {"ome": {"version": VERSION, **told}}


def collection(names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of a store of several images, and those of its group ``OME``.

    Source: OME-NGFF 0.5, "bioformats2raw.layout".
    """
    return (
        {"ome": {"version": VERSION, "bioformats2raw.layout": 3}},
        {"ome": {"version": VERSION, "series": list(names)}},
    )


def labels_group(names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of the group ``labels`` of an image. Source: "labels metadata"."""
    return {"ome": {"version": VERSION, "labels": list(names)}}


def read_multiscales(attributes: Mapping[str, Any], number: int = 0) -> ImageAxes:
    """Return what the attributes of a group say about one of its images.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError, AttributeError
        If they do not follow NGFF 0.4 or 0.5.
    """
    image = attributes.get("ome", attributes)["multiscales"][number]
    finest = image["datasets"][0]
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image["axes"]]
    names = tuple(_name(axis) for axis in axes)
    if len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        raise ValueError("axes without y and x, or of one name")
    transformations = [
        *finest.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    scale = _scale(transformations, len(axes))
    units = [axis.get("unit") for axis in axes]
    return ImageAxes(str(finest["path"]), names, tuple(zip(scale, units, strict=True)))


def _name(axis: Mapping[str, Any]) -> str:
    name = str(axis["name"])
    return _NAMES_OF_TYPES.get(str(axis.get("type"))) or _NAMES.get(name.lower(), name)


def _scale(transformations: Sequence[Mapping[str, Any]], n_axes: int) -> list[float]:
    """Return the product of all scales, per axis."""
    scales = [t["scale"] for t in transformations if t["type"] == "scale"]
    if any(len(scale) != n_axes for scale in scales):
        raise ValueError("a scale has another number of axes than the image")
    return [math.prod(float(scale[i]) for scale in scales) for i in range(n_axes)]
