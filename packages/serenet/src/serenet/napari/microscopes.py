"""Which microscope a widget is about: one by name, or from a file."""

from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, FileEdit

from optics import presets
from scopekit.errors import UserError

_FILE = "from a file, below"


class MicroscopeChoice:
    """Two fields of a form: a microscope by name, or its YAML file, or a PSF file.

    Parameters
    ----------
    with_psf
        Whether PSF files will do.
    """

    def __init__(self, *, with_psf: bool = True) -> None:
        self.names = ComboBox(
            name="microscope", label="microscope", choices=[*presets, _FILE],
            tooltip="Describe your own with the widget Microscope, which saves it as a file.",
        )  # fmt: skip
        kinds = "*.yaml *.yml *.h5 *.hdf5 *.mat *.pt" if with_psf else "*.yaml *.yml"
        self.file = FileEdit(
            name="file", label="PSF or microscope" if with_psf else "its file", mode="r",
            filter=kinds, nullable=True,
            tooltip="A YAML file of the optics"
            + (", or a PSF file of serenet psf: faster, as no PSF is computed." * with_psf),
        )  # fmt: skip
        self.names.changed.connect(self._show_file)
        self._show_file()

    @property
    def source(self) -> str | Path:
        """What tells the microscope: a name, or a file."""
        if self.names.value != _FILE:
            return str(self.names.value)
        if not self.file.value:
            raise UserError("no microscope is chosen: name its file, or take one by name")
        return Path(self.file.value)

    def choose_file(self, path: str | Path) -> None:
        """Choose a file."""
        self.file.value = path
        self.names.value = _FILE

    def choose(self, source: str) -> None:
        """Choose a microscope by name, or its file."""
        if source in presets:
            self.names.value = source
        else:
            self.choose_file(source)

    def _show_file(self) -> None:
        self.file.visible = self.names.value == _FILE


def optics_of(layer: Any) -> str | None:
    """Return the name or file of the optics that a layer brings along, ``None`` without any."""
    about = {} if layer is None else layer.metadata.get("serenet", {})
    source: str | None = about.get("optics")
    return source
