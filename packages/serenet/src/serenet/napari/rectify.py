"""The widget *Rectify*: camera frames to views, the lattice of microlenses drawn over them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import Container, FileEdit, LineEdit, PushButton
from numpy.typing import NDArray

import serenet
from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.voxel import Steps
from scopekit.napari.choices import chosen, layer_box
from scopekit.napari.layers import show_layer, source_of
from scopekit.napari.work import Progress, Scrolled, WorkPanel
from scopekit.settings import write_yaml
from serenet.napari.microscopes import microscope_choice, optics_of
from serenet.napari.view_layers import views_layer
from serenet.rectification.calibration import calibration_of, mean_frame, read_calibration
from serenet.rectification.lattice import Lattice, find_lattice
from serenet.rectification.resampling import swapped_frames

_LATTICE = "microlenses"
# What files of homogeneous light are called.
_FLAT_NAMES = ("flat", "radiometry", "white")
Frame = NDArray[np.float32]


@dataclass(frozen=True)
class _Rectified:
    """Views, and the lattice they were taken by."""

    name: str
    views: Frame
    lattice: Lattice
    microscope: LightFieldMicroscope
    source: str
    doubt: str


class Rectify(Scrolled):
    """Makes views of raw camera frames, by a flat frame or an earlier calibration.

    Parameters
    ----------
    napari_viewer
        The viewer.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self._viewer = napari_viewer
        self._lattice: tuple[Any, Any, Lattice] | None = None
        viewer = napari_viewer
        self.raw = layer_box(viewer, "raw", "raw frames", _is_frame, by_itself=_is_raw)
        self.flat = layer_box(viewer, "flat", "flat frame", _is_frame, by_itself=_is_flat)
        self.dark = layer_box(viewer, "dark", "dark frame", _is_frame, by_itself=lambda _: False)
        self.flat.tooltip = "Homogeneous fluorescence through the same microlenses."
        self.dark.tooltip = "Without light; may be left out."
        self.microscope = microscope_choice(with_psf=False)
        self.scan_order = LineEdit(
            name="scan_order", label="scan order",
            tooltip="Position 3 row + column of every frame of a scan; empty: 6 7 8 5 2 1 0 3 4.",
        )  # fmt: skip
        self.calibration = FileEdit(
            name="calibration", label="calibration", mode="r", filter="*.yaml", nullable=True,
            tooltip="Of an earlier run, instead of a flat frame.",
        )  # fmt: skip
        self.target = FileEdit(
            name="target", label="keep it as", mode="w", filter="*.yaml", nullable=True,
            tooltip="Where to keep the calibration, for further frames and for serenet rectify.",
        )  # fmt: skip
        run = PushButton(text="Rectify", name="run")
        keep = PushButton(text="Keep the calibration", name="keep")
        self.work = WorkPanel(run, keep)
        form = Container(
            widgets=[
                self.raw, self.flat, self.dark, self.microscope.names, self.microscope.file,
                self.scan_order, self.calibration, self.target,
            ]
        )  # fmt: skip
        super().__init__([form, run, keep, self.work])
        self.raw.changed.connect(self._take_optics)
        self._take_optics()
        run.clicked.connect(self._rectify)
        keep.clicked.connect(self._keep)

    def _take_optics(self) -> None:
        """Choose the optics that the frame brings along."""
        source = optics_of(self.raw.value)
        if source is not None:
            self.microscope.choose(source)

    def _rectify(self) -> None:
        with self.work.failures_told():
            raw = chosen(self.raw, "raw frame")
            frames = np.asarray(raw.data, dtype=np.float32)
            source = self.microscope.source
            microscope = serenet.load_microscope(source)
            order = _whole_numbers(self.scan_order.value)
            calibration = Path(self.calibration.value) if self.calibration.value else None
            flat = dark = known = None
            if calibration is None:
                layers = chosen(self.flat, "flat frame"), self.dark.value
                flat, dark = (None if layer is None else _mean(layer) for layer in layers)
                if self._lattice is not None and self._lattice[:2] == layers:
                    known = self._lattice[2]

            def work(progress: Progress) -> _Rectified:
                nonlocal flat, dark, known
                progress.begin("finding the microlenses")
                if calibration is not None:
                    setting = read_calibration(calibration)
                    known = setting.lattice
                    path = setting.radiometry
                    flat = None if path is None else mean_frame(path)
                    dark = None if setting.dark is None else mean_frame(setting.dark)
                lattice = known
                if lattice is None:
                    assert flat is not None
                    lattice = find_lattice(flat if dark is None else flat - dark)
                progress.begin("resampling the frames")
                views = serenet.rectify(
                    frames, flat, microscope, dark=dark, scan_order=order, lattice=lattice,
                    on_progress=progress,
                )  # fmt: skip
                first = frames if frames.ndim == 2 else frames[0]
                doubt = "" if flat is None else swapped_frames(first, flat, lattice)
                return _Rectified(
                    raw.name, np.asarray(views), lattice, microscope, str(source), doubt
                )

            def show(made: _Rectified) -> str:
                return self._show(raw, made)

            self.work.run("finding the microlenses", work, show)

    def _show(self, raw: Any, made: _Rectified) -> str:
        """Show the views, and the lattice over the frame; return a line about them."""
        lattice, scope = made.lattice, made.microscope
        self._lattice = (self.flat.value, self.dark.value, lattice)
        # On the object side, where frames and views lie over one another.
        camera_um = scope.microlens_pitch_um / scope.magnification / lattice.pitch_y
        were_pixels = str(raw.units[-1]) != "micrometer"
        for layer in self._viewer.layers:
            is_of_camera = _is_frame(layer) and layer.data.shape[-2:] == lattice.frame_shape
            if is_of_camera and str(layer.units[-1]) != "micrometer":
                layer.scale = (*layer.scale[:-2], camera_um, camera_um)
                layer.units = ("um",) * layer.ndim
        crosses = {
            "name": _LATTICE,
            "scale": raw.scale[-2:],
            "translate": raw.translate[-2:],
            "units": raw.units[-2:],
            "size": lattice.pitch_y / 4,
            "symbol": "cross",
            "face_color": "red",
            "border_color": "red",
        }
        show_layer(self._viewer, (lattice.centres().reshape(-1, 2), crosses, "points"))
        title = f"{made.name} views"
        pixel_um = scope.view_pixel_um
        # A scan parts the place of a lens among its exposures.
        first = np.multiply((lattice.offset_y, lattice.offset_x), raw.scale[-2:])
        first += raw.translate[-2:] - (scope.scanning - 1) / 2 * pixel_um
        views = views_layer(
            made.views,
            title,
            Steps(None, pixel_um, pixel_um),
            metadata={"serenet": {"kind": "views", "optics": made.source}},
            translate=(0.0,) * (made.views.ndim - 1) + tuple(first),
            visible=False,  # the lattice is looked at first
        )
        show_layer(self._viewer, views)
        if were_pixels:  # what was in sight has become smaller
            self._viewer.reset_view()
        return (
            f"{lattice.rows} x {lattice.columns} microlenses, pitch {lattice.pitch_y:.3f} x "
            f"{lattice.pitch_x:.3f} pixels, turned by {lattice.rotation_deg:.2f}°: does a "
            f"cross lie on every lens? Then go on with {title}"
            + (f"; warning: {made.doubt}" if made.doubt else "")
        )

    def _keep(self) -> None:
        with self.work.failures_told():
            if self._lattice is None:
                raise UserError("no lattice is found yet: rectify a frame first")
            if not self.target.value:
                raise UserError("no file is named: choose where to keep the calibration")
            flat, dark, lattice = self._lattice
            path, files = (
                Path(self.target.value),
                [source_of(x) if x else None for x in (flat, dark)],
            )
            if files[0] is None or (dark is not None and files[1] is None):
                raise UserError("flat and dark frame must be files: open them from there")
            setting = calibration_of(lattice, files[0], files[1])
            write_yaml(path, setting.model_dump(mode="json"), overwrite=False)
            self.work.line.show(f"{path}: give it for further frames, here and to serenet rectify")


def _is_frame(layer: Any) -> bool:
    """Whether a layer is a camera frame, or a series of them."""
    kind = layer.metadata.get("serenet", {}).get("kind", "frame")
    return type(layer).__name__ == "Image" and layer.ndim in (2, 3) and kind in ("frame", "volume")


def _is_flat(layer: Any) -> bool:
    return any(name in layer.name.lower() for name in _FLAT_NAMES)


def _is_raw(layer: Any) -> bool:
    return not _is_flat(layer) and "dark" not in layer.name.lower()


def _mean(layer: Any) -> Frame:
    frames = np.asarray(layer.data, dtype=np.float32)
    return frames if frames.ndim == 2 else frames.mean(axis=0)


def _whole_numbers(text: str) -> list[int] | None:
    parts = text.replace(",", " ").split()
    try:
        return [int(part) for part in parts] or None
    except ValueError as failure:
        raise UserError(f"scan order: {text}: give whole numbers") from failure
