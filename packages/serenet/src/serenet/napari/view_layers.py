"""Layers of views: on an axis of their own, one plane deep, so that depths have theirs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.images.voxel import Steps
from scopekit.napari.choices import is_image, shown_values
from scopekit.napari.layers import LayerData, layer_of

_AXES = ("t", "view", "z", "y", "x")


def views_layer(values: Any, name: str, steps: Steps, **more: Any) -> LayerData:
    """Return views as a layer.

    Parameters
    ----------
    values
        (A, Y, X), or a series (T, A, Y, X).
    name, steps, more
        As of `layer_of`.
    """
    return layer_of(values[..., None, :, :], name, steps, axes=_AXES, **more)


def holds_views(layer: Any) -> bool:
    """Whether a layer can be of views: one that says so, or an image that says nothing."""
    kind = layer.metadata.get("serenet", {}).get("kind", "views")
    return is_image(layer) and kind == "views"


def shown_views(layer: Any, viewer: Any) -> NDArray[np.float32]:
    """Return the views of a layer, (A, Y, X), float32; of a series, of the time point shown."""
    if not _has_depth(layer):
        return shown_values(layer, viewer)
    return shown_values(layer, viewer, axes=4)[:, 0]


def lay_through(layer: Any, first_um: float, z_um: float, n_planes: int) -> None:
    """Make views as thick as a volume: they are seen at each of its planes, and add none."""
    if _has_depth(layer):
        thickness, middle_um = slab(first_um, z_um, n_planes)
        layer.scale = (*layer.scale[:-3], thickness, *layer.scale[-2:])
        layer.translate = (*layer.translate[:-3], middle_um, *layer.translate[-2:])


def slab(first_um: float, z_um: float, n_planes: int) -> tuple[float, float]:
    """Return thickness and middle, um, of planes from the first on."""
    return n_planes * z_um, first_um + z_um * (n_planes - 1) / 2


def _has_depth(layer: Any) -> bool:
    return tuple(layer.axis_labels[-4:]) == _AXES[-4:] and layer.data.shape[-3] == 1
