"""Weights that ship with the package, by name, and how they came about."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from scopekit.settings import read_yaml
from serenet.networks.published_weights import PUBLISHED, published_file

_FOLDER = "weights"


def _folder() -> Path:
    return Path(str(files("serenet") / _FOLDER))


def weights_file(name: str) -> Path | None:
    """Return the file of shipped weights of that name, ``None`` if there are none."""
    path = _folder() / f"{name}.pt"
    return path if "/" not in name and "\\" not in name and path.is_file() else None


def checkpoint_file(name_or_path: str | Path) -> Path:
    """Return the file of a checkpoint.

    Parameters
    ----------
    name_or_path
        Name of shipped or fetched weights, a file, or the folder of a training run: its best
        checkpoint.

    Raises
    ------
    UserError
        If it is a name of weights that were not fetched.
    """
    shipped = weights_file(str(name_or_path))
    if shipped is not None:
        return shipped
    path = Path(name_or_path)
    if str(name_or_path) in PUBLISHED and not path.exists():
        return published_file(str(name_or_path))
    best = path / "checkpoints" / "best.pt"
    return best if best.is_file() else path


def shipped_weights() -> dict[str, dict[str, Any]]:
    """Return every set of shipped weights: name to how it was trained and what it reaches."""
    return {path.stem: read_yaml(path) for path in sorted(_folder().glob("*.yaml"))}
