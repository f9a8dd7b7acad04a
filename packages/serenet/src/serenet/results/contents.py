"""Tells whether files are those of an earlier run: by their contents, not their names."""

from pathlib import Path
from typing import Any

from scopekit.images.files import StackFile
from scopekit.inputs import input_record, sha256_of


def digests(**files: Path | None) -> dict[str, str | None]:
    """Return ``<name>_sha256`` to digest for every file, ``None`` where there is none."""
    return {
        f"{name}_sha256": None if path is None else sha256_of(path) for name, path in files.items()
    }


def fingerprint(source: StackFile) -> dict[str, Any]:
    """Return what tells whether an input is the one that an interrupted run read.

    Inputs are large: size and date have to do. Folders may change meanwhile: a mended frame is
    what a run is repeated for.
    """
    return {**input_record(source.path), "input": str(source.path.resolve())}
