"""Which microscope a widget is about: one by name, or from a file."""

from typing import Any

from magicgui.widgets import FileEdit

from optics import presets
from scopekit.napari.choices import NamedOrFile


def microscope_choice(*, with_psf: bool = True) -> NamedOrFile:
    """Return two fields of a form: a microscope by name, or its YAML file, or a PSF file.

    Parameters
    ----------
    with_psf
        Whether PSF files will do.
    """
    kinds = "*.yaml *.yml *.h5 *.hdf5 *.mat *.pt" if with_psf else "*.yaml *.yml"
    file = FileEdit(
        name="file", label="PSF or microscope" if with_psf else "its file", mode="r", filter=kinds,
        nullable=True,
        tooltip="A YAML file of the optics"
        + (", or a PSF file of serenet psf: faster, as no PSF is computed." * with_psf),
    )  # fmt: skip
    return NamedOrFile(
        "microscope", list(presets), file, label="microscope",
        tooltip="Describe your own with the widget Microscope, which saves it as a file.",
        missing="no microscope is chosen: name its file, or take one by name",
    )  # fmt: skip


def optics_of(layer: Any) -> str | None:
    """Return the name or file of the optics that a layer brings along, ``None`` without any."""
    about = {} if layer is None else layer.metadata.get("serenet", {})
    source: str | None = about.get("optics")
    return source
