"""The widget *Enhance*: structure and brightness of a stack, and the objects in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import Container, FileEdit, FloatSlider, LineEdit, PushButton
from numpy.typing import NDArray

import tenet
from scopekit.errors import UserError
from scopekit.images.voxel import Steps, VoxelSize
from scopekit.napari.choices import (
    NamedOrFile,
    Place,
    add_region,
    chosen,
    is_image,
    layer_box,
    region_of,
    shown_values,
)
from scopekit.napari.layers import layer_of, show_layer, steps_of
from scopekit.napari.work import Progress, Scrolled, WorkPanel
from tenet.config.files import SHIPPED
from tenet.data.recordings import trained_otherwise
from tenet.data.value_range import ValueRange, scale_of
from tenet.enhancement.stack import Enhanced, own_range
from tenet.objects.measurements import ObjectMeasurement

_REGION_SIDE = 64
_ALL = (slice(None), slice(None))
_TABLE_WIDGET = ("napari", "Features table widget")
_TABLE = "Features table widget (napari)"
_ABOVE, _OBJECTS = "above threshold", "objects"
_RESULTS = ("reconstruction", "brightness", "structure")


@dataclass(frozen=True)
class _Task:
    """What to enhance: a part of a stack, and where that lies.

    Attributes
    ----------
    name
        Of the layer.
    stack
        (Z, Y, X), all of it: its values tell the scale of a part too.
    place
        Rows and columns to enhance.
    steps
        What is known of the voxels.
    origin_um
        (z, y, x) of the part's first voxel.
    wanted
        Values that the user wants to count as 0 and 1.
    weights, config
        Of the network.
    """

    name: str
    stack: NDArray[np.float32]
    place: Place
    steps: Steps
    origin_um: tuple[float, float, float]
    wanted: ValueRange | None
    weights: str | Path
    config: str | None


@dataclass(frozen=True)
class _Found:
    """What was found, of which voxels, and the values that counted as 0 and 1."""

    task: _Task
    enhanced: Enhanced[NDArray[np.float32]]
    recorded_um: VoxelSize
    trained_um: VoxelSize
    value_range: ValueRange


class Enhance(Scrolled):
    """Enhances a stack, or first a region of it; labels and measures its objects.

    Parameters
    ----------
    napari_viewer
        The viewer.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self._viewer = napari_viewer
        self._found: tuple[Any, Enhanced[NDArray[np.float32]]] | None = None
        self.stack = layer_box(napari_viewer, "stack", "stack", _is_recording)
        names = sorted(path.stem for path in SHIPPED.glob("*.pt") if path.stem != "alignment")
        own = FileEdit(
            name="own_weights", label="my weights", mode="r", filter="*.pt", nullable=True,
            tooltip="A checkpoint of tenet finetune or pretrain, or a published one.",
        )  # fmt: skip
        self.weights = NamedOrFile(
            "weights", names, own, label="weights",
            tooltip="Weights that ship are small, and trained on simulated stacks: fine-tune them.",
            missing="no weights are chosen: name a checkpoint (.pt) below",
        )  # fmt: skip
        self.config = FileEdit(
            name="config", label="configuration", mode="r", filter="*.json", nullable=True,
            tooltip="Only for weights that do not tell their own, such as published ones.",
        )  # fmt: skip
        self.value_range = LineEdit(
            name="value_range", label="values 0 and 1",
            tooltip="Recorded values that count as 0 and 1, such as 100 900; empty: found, as by "
            "tenet enhance.",
        )  # fmt: skip
        self.threshold = FloatSlider(
            name="threshold", min=0.0, max=1.0, step=0.01, value=0.5, readout=False,
            tooltip="What counts as structure; it shows at once.",
        )  # fmt: skip
        region = PushButton(text="Draw a region", name="region")
        preview = PushButton(text="Preview the region", name="preview")
        whole = PushButton(text="Enhance all", name="whole")
        measure = PushButton(text="Label and measure objects", name="measure")
        self.work = WorkPanel(preview, whole, measure)
        form = Container(
            widgets=[
                self.stack, self.weights.names, self.weights.file, self.config, self.value_range,
            ]
        )  # fmt: skip
        buttons = Container(widgets=[region, preview, whole], labels=False, layout="horizontal")
        cut = Container(widgets=[self.threshold])
        super().__init__([form, buttons, cut, measure, self.work])
        region.clicked.connect(self._draw_region)
        preview.clicked.connect(lambda: self._enhance(part=True))
        whole.clicked.connect(lambda: self._enhance(part=False))
        measure.clicked.connect(self._measure)
        self.threshold.changed.connect(self._show_threshold)
        self.weights.names.changed.connect(self._show_own)
        self.stack.changed.connect(self._take_range)
        self._show_own()
        self._take_range()
        self._show_threshold()

    def _show_own(self) -> None:
        self.config.visible = self.weights.is_own

    def _take_range(self) -> None:
        """Write the values that are 0 and 1, where a layer tells them."""
        layer = self.stack.value
        told = layer.metadata.get("value_range") if layer is not None else None
        self.value_range.value = " ".join(f"{value:g}" for value in told) if told else ""

    def _draw_region(self) -> None:
        with self.work.failures_told():
            add_region(self._viewer, chosen(self.stack, "stack"), _REGION_SIDE)

    def _enhance(self, *, part: bool) -> None:
        with self.work.failures_told():
            layer = chosen(self.stack, "stack")
            place = _ALL
            if part:
                if region_of(self._viewer, layer) is None:
                    add_region(self._viewer, layer, _REGION_SIDE)
                place = region_of(self._viewer, layer) or _ALL
            task = self._task(layer, place)
            self.work.run("enhancing", lambda progress: _enhance(task, progress), self._show_found)

    def _task(self, layer: Any, place: Place) -> _Task:
        stack = shown_values(layer, self._viewer)
        if len(stack) == 1:
            raise UserError(f"{layer.name}: a single 2D image; expected a stack")
        wanted = _numbers(self.value_range.value)
        _range_of(layer.name, stack, wanted)  # tells faults at once
        first = [0, place[0].start or 0, place[1].start or 0]
        z, y, x = np.asarray(layer.translate[-3:]) + np.multiply(first, layer.scale[-3:])
        return _Task(
            name=layer.name,
            stack=stack,
            place=place,
            steps=steps_of(layer),
            origin_um=(float(z), float(y), float(x)),
            wanted=wanted,
            weights=self.weights.source,
            config=str(self.config.value) if self.weights.is_own and self.config.value else None,
        )

    def _show_found(self, found: _Found) -> str:
        """Show what was found as layers; return a line about it."""
        task, enhanced, coarse = found.task, found.enhanced, found.recorded_um
        shown: dict[str, Any] = {}
        for name in _RESULTS:
            voxel_um = coarse if name == "reconstruction" else enhanced.voxel_um
            shown[name] = self._put(task, name, getattr(enhanced, name), voxel_um, coarse)
        shown["reconstruction"].visible = shown["brightness"].visible = False
        above = self._put(task, _ABOVE, enhanced.structure, enhanced.voxel_um, coarse)
        above.colormap, above.blending, above.opacity = "magenta", "additive", 0.5
        self._found = (above, enhanced)
        self._show_threshold()
        low, high = found.value_range
        z, y, x = enhanced.voxel_um
        line = (
            f"{task.name}: recorded values {low:.4g} and {high:.4g} counted as 0 and 1; voxels of "
            f"{z:.3g} x {y:.3g} x {x:.3g} um"
        )
        if task.steps.whole is None:
            line += ", from the configuration where the stack tells none"
        warned = trained_otherwise(coarse, found.trained_um)
        return f"{line}; warning: {warned}" if warned else line

    def _put(
        self, task: _Task, name: str, values: Any, voxel_um: VoxelSize, coarse: VoxelSize
    ) -> Any:
        """Show a part of what was found where it lies."""
        # Planes of the result share the thickness of a recorded one.
        shift = [(fine - whole) / 2 for fine, whole in zip(voxel_um, coarse, strict=True)]
        translate = [a + b for a, b in zip(task.origin_um, shift, strict=True)]
        layer = layer_of(values, f"{task.name} {name}", Steps(*voxel_um), translate=translate)
        return show_layer(self._viewer, layer)

    def _show_threshold(self) -> None:
        cut = self.threshold.value
        self.threshold.label = f"threshold {cut:.2f}"
        if self._found is not None:
            self._found[0].contrast_limits = (cut - 1e-4, cut + 1e-4)

    def _measure(self) -> None:
        with self.work.failures_told():
            if self._found is None:
                raise UserError("nothing is enhanced yet: preview a region, or enhance all")
            (above, found), threshold = self._found, float(self.threshold.value)

            def measure(progress: Progress) -> tuple[NDArray[np.int32], list[ObjectMeasurement]]:
                labels = tenet.label_objects(found.structure, threshold)
                progress.begin("measuring objects")
                return labels, tenet.measure_objects(labels, found.voxel_um, found.brightness)

            def show(outcome: tuple[NDArray[np.int32], list[ObjectMeasurement]]) -> str:
                return self._show_objects(above, *outcome)

            self.work.run("labelling objects", measure, show)

    def _show_objects(
        self, above: Any, labels: NDArray[np.int32], objects: list[ObjectMeasurement]
    ) -> str:
        about = {
            "name": above.name.replace(_ABOVE, _OBJECTS),
            "scale": above.scale,
            "translate": above.translate,
            "units": above.units,
            "axis_labels": above.axis_labels,
            "features": features_of(objects),
        }
        show_layer(self._viewer, (labels, about, "labels"))
        above.visible = False
        window = self._viewer.window
        if _TABLE not in window.dock_widgets:
            window.add_plugin_dock_widget(*_TABLE_WIDGET)
        volume = sum(one.volume_um3 for one in objects)
        return f"{len(objects)} objects, {volume:.4g} um³"


def features_of(objects: list[ObjectMeasurement]) -> dict[str, NDArray[Any]]:
    """Return the measures of objects as columns, as a labels layer takes them."""
    names = ("volume_um3", "surface_um2", "sphericity", "z_xy_ratio")
    columns = {"index": np.array([one.label for one in objects], dtype=np.int64)}
    for axis, letter in enumerate("zyx"):
        columns[f"centroid_{letter}_um"] = np.array([one.centroid_um[axis] for one in objects])
    for name in names:
        columns[name] = np.array([getattr(one, name) for one in objects])
    columns["mean_brightness"] = np.array([one.mean_intensity for one in objects])
    columns["touches_border"] = np.array([one.touches_border for one in objects])
    return columns


def _is_recording(layer: Any) -> bool:
    made = (*_RESULTS, _ABOVE)
    return is_image(layer) and not layer.name.endswith(tuple(f" {name}" for name in made))


def _enhance(task: _Task, progress: Progress) -> _Found:
    progress.begin("reading the weights")
    model = tenet.load_model(task.weights, task.config, device="auto")
    trained_um, told = model.recorded_voxel_um, task.steps
    z, y, x = (
        own or other
        for own, other in zip((told.z_um, told.y_um, told.x_um), trained_um, strict=True)
    )
    value_range = task.wanted
    if value_range is None:
        progress.begin("finding the scale")
        value_range = own_range(model, task.stack) or _range_of(task.name, task.stack, None)
    progress.begin("enhancing")
    enhanced = tenet.enhance(
        model,
        np.ascontiguousarray(task.stack[:, *task.place]),
        voxel_um=(z, y, x),
        value_range=value_range,
        on_progress=progress,
    )
    return _Found(task, enhanced, (z, y, x), trained_um, value_range)


def _range_of(name: str, stack: NDArray[np.float32], wanted: ValueRange | None) -> ValueRange:
    return scale_of(name, float(stack.min()), float(stack.max()), wanted)


def _numbers(text: str) -> ValueRange | None:
    """Return the two numbers of a line, ``None`` for an empty one."""
    parts = text.replace(",", " ").split()
    if not parts:
        return None
    try:
        low, high = map(float, parts)
    except ValueError as failure:
        raise UserError(f"values 0 and 1: {text}: give two numbers, such as 100 900") from failure
    return low, high
