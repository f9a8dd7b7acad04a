"""The widget *Microscope*: the optics as a form, what they imply, load and save."""

from pathlib import Path
from typing import Any

from magicgui.widgets import Container, FileEdit, LineEdit, PushButton
from pydantic import ValidationError

import serenet
from optics import LightFieldMicroscope, presets
from scopekit.errors import Page, UserError
from scopekit.napari.work import Line, Scrolled, WorkPanel
from scopekit.settings import describe_faults, write_yaml
from serenet.napari.microscopes import microscope_choice

_FIELDS = {
    "magnification": ("magnification", "From the object to the microlens array."),
    "numerical_aperture": ("numerical aperture", "Of the objective; below the refractive index."),
    "refractive_index": ("refractive index", "Of the immersion medium: water 1.33, oil 1.515."),
    "wavelength_um": ("wavelength, µm", "Of the emission, in vacuum: green 0.525."),
    "microlens_pitch_um": ("microlens pitch, µm", "Distance of neighbouring microlenses."),
    "microlens_focal_length_um": ("microlens focal length, µm", "Of the microlens array."),
    "n_num": ("views per lens side", "Camera pixels under a microlens, odd; Rectify resamples."),
    "scanning": ("scan positions per side", "1: not scanned; 3: nine exposures a volume."),
    "first": ("first plane, µm", "Of the volume; 0 is the focal plane."),
    "last": ("last plane, µm", "Of the volume."),
    "count": ("planes", "Number of planes."),
}
_WHOLE = ("n_num", "scanning", "count")
_DEPTHS = ("first", "last", "count")


class Microscope(Scrolled):
    """The parameters of a microscope, checked as they are typed, and the sampling they imply."""

    def __init__(self) -> None:
        self._views: tuple[int, ...] = ()
        self._to_replace: Path | None = None
        self.start = microscope_choice()
        load = PushButton(text="Load", name="load")
        self.fields = {
            name: LineEdit(name=name, label=label, tooltip=tooltip)
            for name, (label, tooltip) in _FIELDS.items()
        }
        self.implied = Line("implied")
        self.target = FileEdit(
            name="target", label="file", mode="w", filter="*.yaml", nullable=True,
            tooltip="YAML file, for --microscope of every command and for the other widgets.",
        )  # fmt: skip
        self._save = PushButton(text="Save", name="save")
        self.work = WorkPanel()
        start = Container(widgets=[self.start.names, self.start.file])
        form = Container(widgets=[*self.fields.values(), self.target])
        super().__init__([start, load, form, self.implied, self._save, self.work.line])
        load.clicked.connect(self._load)
        self._save.clicked.connect(self._write)
        for field in self.fields.values():
            field.changed.connect(self._check)
        self._fill(presets[str(self.start.names.value)])

    def _load(self) -> None:
        with self.work.failures_told():
            self._fill(serenet.load_microscope(self.start.source))
            self.work.line.show(f"{self.start.source} is loaded")

    def _fill(self, microscope: LightFieldMicroscope) -> None:
        depths = microscope.depths_um
        if microscope.with_depths(depths).model_dump(mode="json")["depths_um"] != {
            "first": depths[0], "last": depths[-1], "count": len(depths),
        } and len(depths) > 2:  # fmt: skip
            raise UserError("its planes are not evenly spaced: edit the file instead")
        values: dict[str, Any] = microscope.model_dump(exclude={"depths_um", "views"})
        values |= {"first": depths[0], "last": depths[-1], "count": len(depths)}
        self._views = ()
        for name, field in self.fields.items():
            field.value = f"{values[name]:g}"
        # Views that are not those of the optics were chosen by somebody.
        if self.described().views != microscope.views:
            self._views = microscope.views
        self._check()

    def described(self) -> LightFieldMicroscope:
        """Return the microscope of the form; raise `UserError` naming all that is wrong."""
        values: dict[str, Any] = {}
        for name, field in self.fields.items():
            text = str(field.value).strip().replace(",", ".")
            try:
                values[name] = int(text) if name in _WHOLE else float(text)
            except ValueError as failure:
                kind = "whole number" if name in _WHOLE else "number"
                raise UserError(
                    f"{_FIELDS[name][0]}: {text or 'empty'}: give a {kind}"
                ) from failure
        values["depths_um"] = {name: values.pop(name) for name in _DEPTHS}
        if self._views and max(self._views) < values["n_num"] ** 2:
            values["views"] = self._views
        try:
            return LightFieldMicroscope.model_validate(values)
        except ValidationError as failure:
            raise UserError(
                describe_faults(failure, LightFieldMicroscope), page=Page.microscope
            ) from failure

    def _check(self) -> None:
        """Say what the form implies, or what is wrong with it."""
        self.work.line.show("")
        self._to_replace = None
        try:
            self.implied.show(implied_by(self.described()))
            self._save.enabled = True
        except UserError as failure:
            self.implied.show(f"not yet: {failure}")
            self._save.enabled = False

    def _write(self) -> None:
        with self.work.failures_told():
            if not self.target.value:
                raise UserError("no file is named: choose where to save the microscope")
            path, described = Path(self.target.value), self.described()
            if path.suffix.lower() not in (".yaml", ".yml"):
                raise UserError(f"{path}: give a name ending in .yaml")
            if path.exists() and path != self._to_replace:
                serenet.load_microscope(path)  # anything else is not replaced
                self._to_replace = path
                self.work.line.show(f"{path} exists: press Save once more to replace it")
                return
            self._to_replace = None
            content = described.model_dump(mode="json", exclude=set() if self._views else {"views"})
            write_yaml(path, content, overwrite=True)
            self.work.line.show(f"{path} is saved: choose it in the other widgets")


def implied_by(microscope: LightFieldMicroscope) -> str:
    """Return in words what sampling and resolution a microscope has."""
    z_um, pixel_um, _ = microscope.voxel_um
    abbe_um = microscope.wavelength_um / (2 * microscope.numerical_aperture)
    return (
        f"Volumes: voxels of {z_um:.4g} x {pixel_um:.4g} x {pixel_um:.4g} µm (z, y, x). "
        f"Views: {len(microscope.views)} of {microscope.n_num**2} are used, pixels of "
        f"{microscope.view_pixel_um:.4g} µm. The objective resolves {abbe_um:.3g} µm (λ / 2 NA). "
        f"A point spreads over up to {microscope.psf_size * pixel_um:.3g} µm."
    )
