"""Fixtures for the tests of every package."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of published weights, golden files and recorded images, beside the repository."""
    folder = Path(__file__).resolve().parent.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the reference data (../shared/golden, ../shared/data) is not here")
    return folder
