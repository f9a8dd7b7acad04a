"""The command line and labels on disk, for every test of this package."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from datagen import cli


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self):
        """The one line for the user."""
        lines = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def datagen(run_here):
    """Run ``datagen`` with these arguments in this process."""
    return lambda *arguments: Outcome(*run_here(cli.main, "datagen", *arguments))


@pytest.fixture
def labels():
    """Read labelx and labelz (Z, Y, X) of a volume, checking what all labels have in common."""

    def read(folder: Path, index=0):
        pair = [np.load(folder / f"{index:04d}_label{kind}.npy") for kind in "xz"]
        for label in pair:
            assert label.dtype == np.float32
            assert label.ndim == 4
            assert label.shape[0] == 1
        labelx, labelz = (label[0] for label in pair)
        assert np.isin(labelx, (0, 1)).all()
        assert labelz.min() >= 0
        assert labelz.max() <= 1
        return labelx, labelz

    return read


@pytest.fixture
def contents():
    """Return the bytes of all files in a folder by name, hidden ones too; none if it is absent."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }

    return read
