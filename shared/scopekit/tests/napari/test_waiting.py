import threading

import pytest

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialog, QLabel

from scopekit.errors import UserError
from scopekit.napari.waiting import told_wait


def dialogs():
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog) and w.isVisible()]


def test_window_lives_while_something_is_made_and_says_so(qapp):
    seen, looked = [], threading.Event()

    def look():
        (dialog,) = dialogs()
        dialog.reject()  # as by the key Escape: it stays
        seen.extend(label.text() for label in dialog.findChildren(QLabel))
        seen.append(dialog.isVisible())
        looked.set()

    def make():
        assert threading.current_thread() is not threading.main_thread()
        assert looked.wait(600)
        return 6

    QTimer.singleShot(0, look)
    assert told_wait("Counting.", make) == 6
    assert seen == ["Counting.", True]
    assert not dialogs()


def test_what_fails_in_the_thread_is_raised(qapp):
    def make():
        raise UserError("cell.tif: is damaged")

    with pytest.raises(UserError, match="is damaged"):
        told_wait("Reading.", make)
    assert not dialogs()
