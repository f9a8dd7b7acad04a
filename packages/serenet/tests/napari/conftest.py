import pytest


@pytest.fixture
def dock(viewer):
    """Return ``dock(name)``: a widget of this package, docked in the viewer."""
    return lambda name: viewer.window.add_plugin_dock_widget("serenet", name)[1]
