"""What must be waited for, such as sample data: in a thread, told in a dialog."""

import threading
from collections.abc import Callable
from typing import TypeVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDialog, QLabel, QProgressBar, QVBoxLayout

Result = TypeVar("Result")

_LOOK_SECONDS = 0.03


class _Wait(QDialog):
    """A line and a bar that moves; it closes with the work alone."""

    def __init__(self, what: str) -> None:
        super().__init__(QApplication.activeWindow())
        self.setWindowTitle("One moment")
        self.setWindowModality(Qt.WindowModality.ApplicationModal)
        bar = QProgressBar()
        bar.setRange(0, 0)
        layout = QVBoxLayout(self)
        for part in (QLabel(what), bar):
            layout.addWidget(part)

    def reject(self) -> None:
        """Stay, whatever is pressed."""


def told_wait(what: str, make: Callable[[], Result]) -> Result:
    """Make something in a thread while a dialog says what; the window lives on, and waits.

    Parameters
    ----------
    what
        A line for the user.
    make
        Makes it; must not touch the window.

    Returns
    -------
    object
        What ``make`` returns.

    Raises
    ------
    BaseException
        What ``make`` raises.
    """
    if QApplication.instance() is None:  # a viewer without a window
        return make()
    made: list[Result] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            made.append(make())
        except BaseException as failure:
            failed.append(failure)

    dialog = _Wait(what)
    thread = threading.Thread(target=do, daemon=True, name=what)
    dialog.show()
    thread.start()
    while thread.is_alive():
        QApplication.processEvents()
        thread.join(_LOOK_SECONDS)
    dialog.accept()
    dialog.deleteLater()
    for failure in failed:
        raise failure
    return made[0]
