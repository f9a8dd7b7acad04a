import pytest


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def dock(viewer):
    """Return ``dock(name)``: a widget of this package, docked in the viewer."""
    return lambda name: viewer.window.add_plugin_dock_widget("tenet-microscopy", name)[1]


@pytest.fixture
def click():
    """Return ``click(widget, text)``: press the button of that text."""

    def buttons(container):
        for one in container:
            if hasattr(one, "text"):
                yield one
            if hasattr(one, "margins"):
                yield from buttons(one)

    def press(widget, text):
        next(b for b in buttons(widget) if b.text == text).native.click()

    return press


@pytest.fixture
def done(qtbot):
    """Return ``done(widget)``: wait for its work, return the line that tells about it."""

    def wait(widget):
        qtbot.waitUntil(lambda: not widget.work.busy, timeout=300_000)
        return widget.work.line.value

    return wait
