"""The widget *Reconstruct*: views to a volume, a part first, beside the refocused views."""

from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    LineEdit,
    PushButton,
    RangeSlider,
    SpinBox,
)
from numpy.typing import NDArray

import serenet
from scopekit.errors import UserError, line_of
from scopekit.images.voxel import Steps
from scopekit.napari.choices import (
    NamedOrFile,
    add_region,
    chosen,
    layer_box,
    region_of,
)
from scopekit.napari.layers import layer_of, show_layer
from scopekit.napari.work import Scrolled, WorkPanel
from serenet.napari.microscopes import microscope_choice, optics_of
from serenet.napari.solving import DECONVOLVED, NETWORK, REFINED, Solved, Task, solve
from serenet.napari.view_layers import holds_views, lay_through, shown_views
from serenet.networks.shipped import shipped_weights

_REGION_SIDE = 24
_ALL = (slice(None), slice(None))
_NO_VOLUME = ("twnet", "vsnet")
_TITLES = {DECONVOLVED: "deconvolved", NETWORK: "by network", REFINED: "refined"}


class Reconstruct(Scrolled):
    """Makes a volume of views: of a region and some planes first, then of all.

    Parameters
    ----------
    napari_viewer
        The viewer.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self._viewer = napari_viewer
        self.views = layer_box(napari_viewer, "views", "views", holds_views)
        self.microscope = microscope_choice()
        self.method = ComboBox(
            name="method", label="method", choices=list(_TITLES), value=NETWORK,
            tooltip="Deconvolution needs no training, and takes longest. Networks take seconds; "
            "refinement lets the physics mend what they made.",
        )  # fmt: skip
        networks = [
            name
            for name, about in shipped_weights().items()
            if not str(about.get("method", "")).startswith(_NO_VOLUME)
        ]
        own = FileEdit(
            name="own_weights", label="my weights", mode="r", filter="*.pt *.pth", nullable=True,
            tooltip="best.pt of serenet train, or a published checkpoint.",
        )  # fmt: skip
        self.weights = NamedOrFile(
            "weights", networks, own, label="weights",
            tooltip="Of a network for this microscope: those that ship, or your own.",
            missing="no weights are chosen: name a checkpoint (.pt) below",
        )  # fmt: skip
        self.sweeps = SpinBox(name="sweeps", label="sweeps", min=1, max=100, value=3)
        self.updates = SpinBox(name="updates", label="updates", min=1, max=500, value=25)
        self.background = LineEdit(
            name="background", label="background",
            tooltip="Counts to subtract; empty: the 1 % quantile of the views.",
        )  # fmt: skip
        self.planes = RangeSlider(
            name="planes", label="planes", min=0, max=1, value=(0, 1),
            tooltip="Planes of the preview, from 0.",
        )  # fmt: skip
        self.refocused = CheckBox(
            name="refocused", text="with the refocused views, before", value=True
        )
        self.beside = CheckBox(
            name="beside", text="before and after side by side", value=False,
            tooltip="They move and zoom together: napari's grid.",
        )  # fmt: skip
        region = PushButton(text="Draw a region", name="region")
        preview = PushButton(text="Preview", name="preview")
        whole = PushButton(text="Reconstruct all", name="whole")
        self.work = WorkPanel(preview, whole)
        form = Container(
            widgets=[
                self.views, self.microscope.names, self.microscope.file, self.method,
                self.weights.names, self.weights.file, self.sweeps, self.updates,
                self.background, self.planes,
            ]
        )  # fmt: skip
        buttons = Container(widgets=[region, preview, whole], labels=False, layout="horizontal")
        super().__init__([form, self.refocused, buttons, self.beside, self.work])
        region.clicked.connect(self._draw_region)
        preview.clicked.connect(lambda: self._reconstruct(part=True))
        whole.clicked.connect(lambda: self._reconstruct(part=False))
        self.beside.changed.connect(self._show_beside)
        self.method.changed.connect(self._show_options)
        self.views.changed.connect(self._take_optics)
        self.microscope.names.changed.connect(self._measure_planes)
        self.microscope.file.changed.connect(self._measure_planes)
        self._show_options()
        self._take_optics()
        self._measure_planes()

    def _show_options(self) -> None:
        network = self.method.value != DECONVOLVED
        self.weights.show(network)
        self.sweeps.visible = not network
        self.updates.visible = self.method.value == REFINED

    def _take_optics(self) -> None:
        """Choose the optics that the views bring along, and what can be done with them."""
        source = optics_of(self.views.value)
        if source is None:
            return
        self.microscope.choose(source)
        if Path(source).suffix in (".yaml", ".yml"):  # no network of it ships
            self.method.value = DECONVOLVED

    def _measure_planes(self) -> None:
        """Let the slider of planes reach over those of the microscope."""
        try:
            depths_um = serenet.load_microscope(self.microscope.source).depths_um
        except Exception as failure:
            line = line_of(failure)
            if line is None:
                raise
            self.work.line.show(line)
            return
        last = len(depths_um) - 1
        self.planes.max = max(last, 1)
        self.planes.value = (0, last)
        self.planes.tooltip = f"0 is at {depths_um[0]:g} µm, {last} at {depths_um[-1]:g} µm"
        self.work.line.show(f"{last + 1} planes, {depths_um[0]:g} to {depths_um[-1]:g} µm")

    def _draw_region(self) -> None:
        with self.work.failures_told():
            add_region(self._viewer, chosen(self.views, "view stack"), _REGION_SIDE)

    def _reconstruct(self, *, part: bool) -> None:
        with self.work.failures_told():
            layer = chosen(self.views, "view stack")
            source = self.microscope.source
            place = (region_of(self._viewer, layer) or _ALL) if part else _ALL
            task = Task(
                name=layer.name,
                views=shown_views(layer, self._viewer),
                place=place,
                planes=self._planes() if part else None,
                source=source,
                method=str(self.method.value),
                weights="" if self.method.value == DECONVOLVED else self.weights.source,
                sweeps=int(self.sweeps.value),
                updates=int(self.updates.value),
                background=_counts(self.background.value),
                with_refocused=bool(self.refocused.value),
            )

            def show(solved: Solved) -> str:
                return self._show(layer, solved)

            self.work.run("reading the optics", lambda progress: solve(task, progress), show)

    def _planes(self) -> tuple[int, int] | None:
        first, last = (int(n) for n in self.planes.value)
        return None if (first, last) == (0, int(self.planes.max)) else (first, last + 1)

    def _show(self, layer: Any, solved: Solved) -> str:
        """Show the volume, and what it was made of, at their places; return a line about it."""
        task = solved.task
        title = f"{task.name} {_TITLES[task.method]}"
        z_um, y_um, x_um = solved.voxel_um
        view_um = np.multiply((y_um, x_um), solved.lateral_scale)
        if str(layer.units[-1]) != "micrometer":
            layer.scale = (*layer.scale[:-2], *view_um)
            layer.units = (*layer.units[:-3], "um", "um", "um")
        corner = layer.translate[-2:] - layer.scale[-2:] / 2
        corner = corner + np.multiply([s.start or 0 for s in task.place], layer.scale[-2:])
        if solved.refocused is not None:
            step = Steps(z_um, float(view_um[0]), float(view_um[1]))
            self._put(f"{task.name} refocused", solved.refocused, step, solved.first_um, corner)
        step = Steps(z_um, y_um, x_um)
        self._put(title, solved.volume, step, solved.first_um, corner)
        layer.visible = False
        lay_through(layer, solved.first_um, z_um, len(solved.volume))
        depth = self._viewer.dims.ndim - 3
        self._viewer.dims.set_point(depth, solved.first_um + z_um * (len(solved.volume) // 2))
        size = " x ".join(map(str, solved.volume.shape))
        return f"{title}: {size} voxels of {z_um:.3g} x {y_um:.3g} x {x_um:.3g} um"

    def _put(
        self,
        title: str,
        volume: NDArray[np.float32],
        steps: Steps,
        first_um: float,
        corner: NDArray[np.float64],
    ) -> None:
        assert steps.y_um is not None
        translate = (first_um, *(corner + steps.y_um / 2))
        limits = (0.0, max(float(np.quantile(volume, 0.9995)), 1e-6))
        about = {"serenet": {"kind": "volume"}}
        layer = layer_of(
            volume, title, steps, translate=translate, contrast_limits=limits, metadata=about
        )
        show_layer(self._viewer, layer)

    def _show_beside(self) -> None:
        grid = self._viewer.canvas.grid
        grid.shape, grid.stride, grid.enabled = (1, 2), 1, bool(self.beside.value)


def _counts(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError as failure:
        raise UserError(f"background: {text}: give a number of counts, or leave it") from failure
