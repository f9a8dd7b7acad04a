"""A training run as a process of its own: started, stopped and resumed, its curve and pictures."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magicgui.widgets import Container, PushButton
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QLabel

from scopekit.napari.work import WorkPanel

_LOOK_MS = 500
_ENDING_SECONDS = 20
_WIDTH = 420  # of the pictures, pixels


@dataclass(frozen=True)
class Run:
    """What is to be run.

    Attributes
    ----------
    module
        The program, as ``python -m`` names it.
    arguments
        Of the command that trains, without ``--resume``.
    folder
        The folder of the run, see `scopekit.training.run_folder`.
    """

    module: str
    arguments: Sequence[str]
    folder: Path


class RunPanel(Container):
    """Start, Stop and Resume of a run; a line about it, its curve and its newest picture.

    Parameters
    ----------
    prepare
        Returns what to run, and writes what it needs; is told whether an earlier run goes on.
    """

    def __init__(self, prepare: Callable[[bool], Run]) -> None:
        self._prepare = prepare
        start = PushButton(text="Start", name="start")
        resume = PushButton(text="Resume", name="resume", tooltip="Go on where it was stopped.")
        self._stop = PushButton(text="Stop", name="stop", enabled=False)
        self._starting = (start, resume)
        self.work = WorkPanel(start, resume)  # tells failures
        buttons = Container(widgets=[start, self._stop, resume], labels=False, layout="horizontal")
        self.line = self.work.line
        super().__init__(widgets=[buttons, self.line], labels=False, name="run")
        self.margins = (0, 0, 0, 0)
        self._pictures = [QLabel(), QLabel()]
        for picture in self._pictures:
            self.native.layout().addWidget(picture)
        self._drawn: dict[int, tuple[Path, int]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._run: Run | None = None
        self._stopping = False
        self._timer = QTimer(self.native)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)
        start.clicked.connect(lambda: self._begin(resume=False))
        resume.clicked.connect(lambda: self._begin(resume=True))
        self._stop.clicked.connect(self.stop)
        self.native.destroyed.connect(self._close)

    @property
    def busy(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    def stop(self) -> None:
        """Tell the process to end; what it has learnt is kept."""
        if self._process is not None:
            self._stopping = True
            self._process.terminate()

    def _close(self) -> None:
        """End with the window: what has been learnt can be resumed."""
        if self._process is None:
            return
        self.stop()
        try:
            self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def _begin(self, *, resume: bool) -> None:
        with self.work.failures_told():
            run = self._run = self._prepare(resume)
            command = [sys.executable, "-m", run.module, *run.arguments]
            command += ["--resume"] if resume else []
            handle, name = tempfile.mkstemp(prefix=f"{run.module}_", suffix=".log")
            self._log = Path(name)
            with open(handle, "ab") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._stopping = False
            self._drawn.clear()
            for picture in self._pictures:  # of an earlier run
                picture.clear()
            self._set_busy(True)
            self.line.show("starting")
            self._timer.start()

    def _set_busy(self, busy: bool) -> None:
        for button in self._starting:
            button.enabled = not busy
        self._stop.enabled = busy

    def _look(self) -> None:
        process, run = self._process, self._run
        if process is None or run is None:
            return
        code = process.poll()
        said = self._last_line()
        self._show_pictures(run.folder)
        if code is None:
            self.line.show(f"{_epochs(run.folder)}{said}" or "starting")
            return
        self._timer.stop()
        self._process = None
        self._set_busy(False)
        if self._log is not None:
            self._log.unlink(missing_ok=True)
        if code == 0:
            self.line.show(said)
        elif self._stopping:
            self.line.show(f"stopped: {_epochs(run.folder)}Resume goes on from there")
        else:
            self.line.show(said.removeprefix("error: ") or f"ended with the code {code}")
            show_error(self.line.value)

    def _last_line(self) -> str:
        """Return the last line that the process has printed."""
        if self._log is None:
            return ""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _show_pictures(self, folder: Path) -> None:
        newest = sorted((folder / "pictures").glob("epoch-*.png"))[-1:]
        for place, file in enumerate([folder / "loss.png", *newest]):
            if not file.is_file():
                continue
            drawn = (file, file.stat().st_mtime_ns)
            if self._drawn.get(place) != drawn:
                self._drawn[place] = drawn
                self._pictures[place].setPixmap(_fitting(QPixmap(str(file))))


def _fitting(pixmap: Any) -> Any:
    return pixmap.scaledToWidth(_WIDTH, Qt.TransformationMode.SmoothTransformation)


def _epochs(folder: Path) -> str:
    """Return how many epochs are done, empty where none is."""
    try:
        rows = (folder / "log.csv").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return f"{len(rows) - 1} epochs done; " if len(rows) > 1 else ""
