"""Result files that are either whole or absent: written beside, then renamed."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scopekit.errors import UserError

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or choose another output folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another output folder",
    errno.EFBIG: "the file would be larger than allowed here: choose another output folder",
    errno.EACCES: "no permission to write there: choose another output folder",
    errno.EPERM: "no permission to write there: choose another output folder",
    errno.EROFS: "that file system is read-only: choose another output folder",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another output folder",
    errno.EEXIST: "a file of that name is in the way: choose another output folder",
}


def describe_write_failure(path: Path, failure: OSError) -> UserError:
    """Turn an operating-system failure to write ``path`` into a line with a remedy."""
    if failure.errno is None:  # NumPy's short writes carry no error number
        remedy = "the data could not all be written: is there space on the disk?"
    else:
        remedy = _REMEDIES.get(failure.errno, failure.strerror or str(failure))
    return UserError(f"cannot write {path}: {remedy}")


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents; raise `UserError` if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise describe_write_failure(folder, failure) from failure
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {folder}: {_REMEDIES[errno.EACCES]}")


def require_writable(folder: Path) -> None:
    """Raise `UserError` if ``folder`` can be neither written to nor made; make nothing."""
    there = next(
        place for place in (folder.absolute(), *folder.absolute().parents) if _exists(place)
    )
    if not there.is_dir():
        raise UserError(f"cannot write {folder}: {_REMEDIES[errno.ENOTDIR]}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {folder}: {_REMEDIES[errno.EACCES]}")


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a part of the path is a file, or closed to us
        return False


def require_new(path: Path, *, overwrite: bool, another: str = "another `out`") -> None:
    """Raise `UserError` if ``path`` exists and may not be replaced; ``another`` is a remedy."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file name")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: add `overwrite=True` to replace it, or choose {another}")


def require_space(folder: Path, n_bytes: int) -> None:
    """Raise `UserError` if the disk of ``folder`` has fewer than ``n_bytes`` free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(
            f"cannot write to {folder}: {n_bytes / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB "
            "are free; free some space or choose another output folder"
        )


def partial_path(path: Path) -> Path:
    """Return the name under which ``path`` is written until it is whole."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it becomes ``path`` only if the block succeeds.

    Parameters
    ----------
    path
        The final name; its folder is made if need be.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    UserError
        If the file exists and ``overwrite`` is false, or if it cannot be written.
    """
    require_new(path, overwrite=overwrite)
    make_folder(path.parent)
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as failure:
        partial.unlink(missing_ok=True)
        raise describe_write_failure(path, failure) from failure
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
