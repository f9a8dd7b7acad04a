"""The widget *Train for this microscope*: ``serenet train`` as a process, watched."""

from pathlib import Path

from magicgui.widgets import Container, FileEdit, FloatSpinBox

import serenet
from scopekit.errors import UserError
from scopekit.napari.runs import Run, RunPanel
from scopekit.napari.work import Scrolled
from serenet.napari.microscopes import microscope_choice

SETTINGS = "my_microscope"
"""What is trained, see ``serenet train --list``."""


class Train(Scrolled):
    """Trains a network for a microscope, on scenes that are simulated for it."""

    def __init__(self) -> None:
        self.microscope = microscope_choice(with_psf=False)
        self.minutes = FloatSpinBox(
            name="minutes", label="minutes", min=0.1, max=10_000.0, step=5.0, value=20.0,
            tooltip="For about so long, scenes included: 20 on one core give a useful network.",
        )  # fmt: skip
        self.folder = FileEdit(
            name="folder", label="folder", mode="d", nullable=True,
            tooltip="A new folder for the run: its checkpoints, curve and pictures.",
        )  # fmt: skip
        self.run = RunPanel(self._prepare)
        form = Container(
            widgets=[self.microscope.names, self.microscope.file, self.minutes, self.folder]
        )
        super().__init__([form, self.run])

    def _prepare(self, resume: bool) -> Run:
        if not self.folder.value:
            raise UserError("no folder is named: choose one for the run")
        folder, source = Path(self.folder.value), self.microscope.source
        serenet.load_microscope(source)
        arguments = ["train", SETTINGS, "--microscope", str(source), "--out", str(folder)]
        arguments += ["--minutes", f"{self.minutes.value:g}"]
        return Run("serenet", arguments, folder)
