import sys

import pytest

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")


def test_qt_counts_the_references_of_what_it_returns(qapp):
    """One that does not (PySide6 6.12.0 before Python 3.12) ends the process within minutes."""
    before = sys.getrefcount(None)
    for _ in range(1000):
        qapp.processEvents()
    assert sys.getrefcount(None) > before - 500
