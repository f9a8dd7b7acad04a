import threading

import pytest

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

from magicgui.widgets import PushButton

from scopekit.errors import UserError
from scopekit.napari.work import CancelledError, Progress, Scrolled, WorkPanel


@pytest.fixture
def button(qapp):
    return PushButton(text="Go")


@pytest.fixture
def panel(button, qtbot):
    panel = WorkPanel(button)
    qtbot.addWidget(panel.native)
    return panel


@pytest.fixture
def ended(panel, qtbot):
    def wait():
        qtbot.waitUntil(lambda: not panel.busy, timeout=600_000)
        return panel.line.value

    return wait


def test_work_is_done_beside_the_window(panel, button, ended, qtbot):
    going, here = threading.Event(), threading.current_thread()

    def work(progress):
        assert threading.current_thread() is not here
        progress(1, 3)
        going.wait(600)
        return 6

    panel.run("counting", work, lambda result: f"found {result}")
    assert not button.enabled
    qtbot.waitUntil(lambda: panel.line.value.startswith("counting: 1/3, "), timeout=600_000)
    going.set()
    assert ended() == "found 6"
    assert button.enabled


def test_cancelled_work_ends_at_its_next_step(panel, button, ended):
    def work(progress):
        while True:
            progress(0, 9)

    panel.run("waiting", work, lambda _: "shown all the same")
    panel["cancel"].native.click()
    assert ended() == "cancelled: nothing has changed"
    assert button.enabled


def test_what_is_cancelled_after_its_last_step_is_not_shown(panel, button, ended):
    cancelled = threading.Event()
    panel.run("waiting", lambda _: cancelled.wait(600), lambda _: "shown all the same")
    panel["cancel"].native.click()
    cancelled.set()
    assert ended() == "cancelled: nothing has changed"
    assert button.enabled


def test_what_the_user_can_mend_is_a_line(panel, button, ended):
    def work(progress):
        raise UserError("cell.tif: is damaged;\n export it again")

    panel.run("reading", work, str)
    assert ended() == "cell.tif: is damaged; export it again"
    assert button.enabled


def test_bug_is_told_and_raised(panel, button, ended, qtbot):
    with qtbot.captureExceptions() as raised:
        panel.run("dividing", lambda _: 1 / 0, str)
        line = ended()
    assert line == "failed, which is a bug: ZeroDivisionError: division by zero"
    assert [kind for kind, *_ in raised] == [ZeroDivisionError]
    assert button.enabled


def test_cancelled_progress_ends_the_next_part_too():
    progress = Progress("one")
    progress(1, 2)
    progress.cancel()
    for step in (lambda: progress(2, 2), lambda: progress.begin("two")):
        with pytest.raises(CancelledError):
            step()


def test_form_taller_than_the_window_scrolls(viewer):
    """Three of them below each other are no taller than a small screen."""
    for number in range(3):
        form = Scrolled([PushButton(text=str(n)) for n in range(40)])
        viewer.window.add_dock_widget(form, name=f"form {number}")
    assert viewer.window._qt_window.minimumSizeHint().height() < 900
