"""OME-Zarr (NGFF) metadata of one image: axes and voxel size, written as 0.5, read from 0.4 on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scopekit.images.stack import VoxelSize

VERSION = "0.5"
_UM_PER_UNIT = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "angstrom": 1e-4}


@dataclass(frozen=True)
class ImageAxes:
    """What NGFF metadata say about the finest level of an image.

    Attributes
    ----------
    path
        Of the array inside the group.
    names, kinds
        Of the axes: kinds are ``time``, ``channel``, ``space`` or empty.
    voxel_um
        (z, y, x) step in um, where units tell it; z is 1 where there is no such axis.
    """

    path: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    voxel_um: VoxelSize | None


def multiscales(name: str, n_axes: int, voxel_um: VoxelSize) -> dict[str, Any]:
    """Return the attributes of a group with one array, ``0``, of axes (T,) Z, Y, X.

    Source: OME-NGFF 0.5, "multiscales".
    """
    axes: list[dict[str, str]] = [
        {"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"
    ]
    scale = [float(n) for n in voxel_um]
    if n_axes == 4:
        axes = [{"name": "t", "type": "time"}, *axes]
        scale = [1.0, *scale]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "ome": {
            "version": VERSION,
            "multiscales": [{"name": name, "axes": axes, "datasets": [dataset]}],
        }
    }


def read_multiscales(attributes: Mapping[str, Any]) -> ImageAxes:
    """Return what the attributes of a group say about its image.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError
        If they do not follow NGFF 0.4 or 0.5.
    """
    image = attributes.get("ome", attributes)["multiscales"][0]
    finest = image["datasets"][0]
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image["axes"]]
    names = tuple(str(axis["name"]) for axis in axes)
    kinds = tuple(str(axis.get("type") or _kind(axis["name"])) for axis in axes)
    transformations = [
        *finest.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    steps = _steps(transformations, len(axes))
    voxel_um = None
    units = [_UM_PER_UNIT.get(str(axis.get("unit"))) for axis in axes]
    if kinds[-2:] == ("space", "space") and units[-2] and units[-1]:
        z, y, x = 1.0, steps[-2] * units[-2], steps[-1] * units[-1]
        if len(axes) > 2 and kinds[-3] == "space" and (unit := units[-3]):
            z = steps[-3] * unit
        voxel_um = (z, y, x)
    return ImageAxes(str(finest["path"]), names, kinds, voxel_um)


def _kind(name: str) -> str:
    return {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}.get(name, "")


def _steps(transformations: Sequence[Mapping[str, Any]], n_axes: int) -> list[float]:
    """Return the product of all scales, per axis."""
    scales = [t["scale"] for t in transformations if t["type"] == "scale"]
    if any(len(scale) != n_axes for scale in scales):
        raise ValueError("a scale has another number of axes than the image")
    steps = [math.prod(float(scale[i]) for scale in scales) for i in range(n_axes)]
    if not all(0 < step < math.inf for step in steps):
        raise ValueError("a scale is not positive")
    return steps
