"""What a widget works with: layers to choose, a region to draw, things by name or from a file."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, FileEdit
from numpy.typing import NDArray

from scopekit.errors import UserError

REGION = "preview region"
_OWN = "my own, below"

Place = tuple[slice, slice]
"""Rows and columns."""


class NamedOrFile:
    """Two fields of a form: something by its name, or a file, shown where it is asked for.

    Parameters
    ----------
    name, label, tooltip
        Of the field of names.
    choices
        The names.
    file
        The field of the file.
    missing
        What the user is told if he names none.
    """

    def __init__(
        self,
        name: str,
        choices: Sequence[str],
        file: FileEdit,
        *,
        label: str,
        tooltip: str,
        missing: str,
    ) -> None:
        self.names = ComboBox(name=name, label=label, choices=[*choices, _OWN], tooltip=tooltip)
        self.file = file
        self._missing = missing
        self.names.changed.connect(lambda: self.show())
        self.show()

    @property
    def is_own(self) -> bool:
        """Whether a file is asked for."""
        return bool(self.names.value == _OWN)

    @property
    def source(self) -> str | Path:
        """The name, or the file; `UserError` if none is named."""
        if not self.is_own:
            return str(self.names.value)
        if not self.file.value:
            raise UserError(self._missing)
        return Path(self.file.value)

    def choose(self, source: str | Path) -> None:
        """Choose by name, or a file."""
        if source in self.names.choices:
            self.names.value = source
        else:
            self.file.value, self.names.value = source, _OWN

    def show(self, shown: bool = True) -> None:
        """Show the fields, or hide them."""
        self.names.visible = shown
        self.file.visible = shown and self.is_own


def layer_box(
    viewer: Any,
    name: str,
    label: str,
    fits: Callable[[Any], bool],
    *,
    by_itself: Callable[[Any], bool] = lambda _: True,
) -> ComboBox:
    """Return a box to choose one of the viewer's layers that fit; it follows the viewer.

    Parameters
    ----------
    viewer
        The viewer.
    name, label
        Of the box.
    fits
        Whether a layer can be chosen.
    by_itself
        Which of them may be chosen before the user chooses.
    """
    box = ComboBox(
        name=name,
        label=label,
        nullable=True,
        choices=lambda _: [layer for layer in viewer.layers if fits(layer)],
    )
    events = (viewer.layers.events.inserted, viewer.layers.events.removed)

    def renew() -> None:
        box.reset_choices()
        if box.value is None:
            # The layer that is worked with first.
            layers = [viewer.layers.selection.active, *box.choices]
            fitting = (c for c in layers if c is not None and c in box.choices and by_itself(c))
            box.value = next(fitting, None)

    def forget() -> None:
        for event in events:
            event.disconnect(renew)

    for event in events:
        event.connect(renew)
    box.native.destroyed.connect(forget)
    renew()
    return box


def chosen(box: ComboBox, what: str) -> Any:
    """Return the layer chosen; raise `UserError` if there is none."""
    if box.value is None:
        raise UserError(
            f"no {what} is chosen: open one, or take the demo's from File > Open Sample"
        )
    return box.value


def is_image(layer: Any) -> bool:
    """Whether a layer is an image of three axes or more, and not of colours."""
    return type(layer).__name__ == "Image" and layer.ndim >= 3 and not layer.rgb


def shown_values(layer: Any, viewer: Any, axes: int = 3) -> NDArray[np.float32]:
    """Return the values of a layer, float32; of a series, of the time point shown.

    Parameters
    ----------
    layer, viewer
        The layer, and its viewer.
    axes
        How many a time point has: three are (Z, Y, X).
    """
    data = layer.data
    if layer.ndim > axes:
        step = viewer.dims.current_step[viewer.dims.ndim - layer.ndim]
        data = data[min(step, len(data) - 1)]
    return np.ascontiguousarray(data, dtype=np.float32)


def add_region(viewer: Any, layer: Any, side: int) -> Any:
    """Lay a square of ``side`` pixels of a layer over its middle, to be moved and resized."""
    height, width = layer.data.shape[-2:]
    half = min(side, height, width) / 2
    y, x = height / 2 - 0.5, width / 2 - 0.5
    corners = [
        (y - half, x - half),
        (y - half, x + half),
        (y + half, x + half),
        (y + half, x - half),
    ]
    if REGION in viewer.layers:
        viewer.layers.remove(REGION)
    region = viewer.add_shapes(
        [np.array(corners)],
        shape_type="rectangle",
        name=REGION,
        scale=layer.scale[-2:],
        translate=layer.translate[-2:],
        units=layer.units[-2:],
        axis_labels=("y", "x"),
        edge_color="yellow",
        face_color="transparent",
        edge_width=max(half / 30, 0.5),
    )
    region.mode = "select"
    return region


def region_of(viewer: Any, layer: Any) -> Place | None:
    """Return the pixels of a layer inside the region drawn, ``None`` where there is none.

    Raises
    ------
    UserError
        If the region lies beside the layer.
    """
    if REGION not in viewer.layers or not len(viewer.layers[REGION].data):
        return None
    height, width = layer.data.shape[-2:]
    region = viewer.layers[REGION]
    corners = np.asarray(region.data[-1])[:, -2:] * region.scale[-2:] + region.translate[-2:]
    pixels = (corners - layer.translate[-2:]) / layer.scale[-2:]
    places = []
    for low, high, n in zip(pixels.min(axis=0), pixels.max(axis=0), (height, width), strict=True):
        first, end = max(math.ceil(low), 0), min(math.floor(high) + 1, n)
        if first >= end:
            raise UserError(f"the {REGION} lies beside {layer.name}: draw it over the image")
        places.append(slice(first, end))
    return places[0], places[1]
