"""Work that takes long, in a thread of its own: progress, Cancel, and failures as one line."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer

from scopekit.errors import line_of

Result = TypeVar("Result")

_LOOK_MS = 50
_LEAST_WIDTH = 200  # pixels, of a line before it is shown


class CancelledError(Exception):
    """The user cancelled the work."""


class Progress:
    """How far some work is; the thread that does it tells, the window looks.

    It is what the packages' functions take as ``on_progress``; once cancelled it ends them.
    """

    def __init__(self, what: str) -> None:
        self.what, self.done, self.total = what, 0, 0
        self._started = time.monotonic()
        self._cancelled = threading.Event()

    def begin(self, what: str) -> None:
        """Begin another part of the work."""
        self.require_going()
        self.what, self.done, self.total = what, 0, 0
        self._started = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Tell that so many steps are done."""
        self.require_going()
        self.done, self.total = done, total

    def cancel(self) -> None:
        """End the work at its next step."""
        self._cancelled.set()

    @property
    def line(self) -> str:
        """What is being done, how far it is, and how long it takes."""
        if not 0 < self.done < self.total:
            return self.what
        left = (time.monotonic() - self._started) / self.done * (self.total - self.done)
        return f"{self.what}: {self.done}/{self.total}, {timedelta(seconds=round(left))} left"

    def require_going(self) -> None:
        """Raise `CancelledError` if the work is cancelled."""
        if self._cancelled.is_set():
            raise CancelledError


class Scrolled(Container):
    """A widget of a window, from top to bottom, that scrolls where the window is too low for it."""

    def __init__(self, widgets: Sequence[Any]) -> None:
        super().__init__(widgets=widgets, labels=False, scrollable=True)

    @property
    def native(self) -> Any:
        """What the window docks: the area that scrolls, not what lies in it."""
        return self.root_native_widget


class Line(Label):
    """Text for the user, as high as it needs to be."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, value="")
        self.native.setWordWrap(True)

    def show(self, text: str) -> None:
        """Show a text."""
        self.value = text
        width = max(self.native.width(), _LEAST_WIDTH)
        self.native.setMinimumHeight(self.native.heightForWidth(width))


class WorkPanel(Container):
    """Progress, Cancel and a line of text, below the form of a widget.

    Parameters
    ----------
    buttons
        What starts work: disabled while some is done.
    """

    def __init__(self, *buttons: Any) -> None:
        self._buttons = buttons
        self._bar = ProgressBar(min=0, max=0, visible=False)
        self._cancel = PushButton(text="Cancel", name="cancel", enabled=False)
        self.line = Line("line")
        super().__init__(widgets=[self._bar, self._cancel, self.line], labels=False, name="work")
        self.margins = (0, 0, 0, 0)
        self._progress: Progress | None = None
        self._outcome: list[Callable[[], None]] = []
        self._timer = QTimer(self.native)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)
        self._cancel.clicked.connect(self._end)
        self.native.destroyed.connect(self._end)

    @property
    def busy(self) -> bool:
        """Whether some work is being done."""
        return self._progress is not None

    def run(
        self, what: str, work: Callable[[Progress], Result], then: Callable[[Result], str]
    ) -> None:
        """Do some work in a thread of its own.

        Parameters
        ----------
        what
            What is done, in a few words.
        work
            Is handed the `Progress`, to tell it; must not touch the window.
        then
            Shows the result, in the window's thread, and returns a line about it.
        """
        progress = self._progress = Progress(what)
        self._outcome = []

        def show(result: Result) -> None:
            progress.require_going()  # since its last step, too
            self.line.show(then(result))

        def do() -> None:
            try:
                result = work(progress)
            except BaseException as failure:
                self._outcome.append(_raising(failure))
            else:
                self._outcome.append(lambda: show(result))

        self._set_busy(True)
        threading.Thread(target=do, daemon=True, name=what).start()
        self._timer.start()

    @contextmanager
    def failures_told(self) -> Iterator[None]:
        """Tell what the user can mend in a line of the widget and of the viewer, as it happens."""
        try:
            yield
        except CancelledError:
            self.line.show("cancelled: nothing has changed")
        except Exception as failure:
            line = line_of(failure)
            if line is None:
                self.line.show(f"failed, which is a bug: {type(failure).__name__}: {failure}")
                raise
            self.line.show(line)
            show_error(line)

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.cancel()

    def _look(self) -> None:
        progress = self._progress
        if progress is None:
            return
        if not self._outcome:
            self._bar.max, self._bar.value = progress.total, progress.done
            self.line.show(progress.line)
            return
        self._timer.stop()
        self._progress = None
        self._set_busy(False)
        with self.failures_told():
            self._outcome.pop()()

    def _set_busy(self, busy: bool) -> None:
        self._bar.visible = self._cancel.enabled = busy
        self._bar.max = 0
        for button in self._buttons:
            button.enabled = not busy


def _raising(failure: BaseException) -> Callable[[], None]:
    def again() -> None:
        raise failure

    return again
