"""Result files that are either whole or absent: written beside, then renamed, by one run at a time.

What is not whole yet has a hidden name. A run that is killed leaves it there; the next one, which
may only begin when no other is at work, replaces it.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scopekit.claims import BusyError, Claim
from scopekit.errors import UserError

STAGED = "result"
"""Stem of the files in the folder that `whole_files` yields."""

_LONGEST_NAME = 255  # bytes, of all usual file systems
_SPACE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or choose another output folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another output folder",
    errno.EFBIG: "the file would be larger than allowed here: choose another output folder",
    errno.EACCES: "no permission to write there: choose another output folder",
    errno.EPERM: "no permission to write there: choose another output folder",
    errno.EROFS: "that file system is read-only: choose another output folder",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another output folder",
    errno.EEXIST: "a file of that name is in the way: choose another output folder",
    errno.ENAMETOOLONG: "the name is too long: give the input a shorter one",
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


def require_new(
    path: Path, *, overwrite: bool, another: str = "another `out`", inputs: Iterable[Path] = ()
) -> None:
    """Raise `UserError` if ``path`` exists and may not be replaced; ``another`` is a remedy.

    What is read, ``inputs``, may never be.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file name")
    require_no_input(path, inputs, another=another)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: add `overwrite=True` to replace it, or choose {another}")


def require_no_input(path: Path, inputs: Iterable[Path], *, another: str = "another `out`") -> None:
    """Raise `UserError` if what is to be written is one of the inputs, under whatever name."""
    if path.exists() and any(file.exists() and path.samefile(file) for file in inputs):
        raise UserError(f"{path} is an input, which is never replaced: choose {another}")


def require_space(folder: Path, n_bytes: int) -> None:
    """Raise `UserError` if the disk of ``folder`` has fewer than ``n_bytes`` free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(
            f"cannot write to {folder}: {_in_words(n_bytes)} are needed, {_in_words(free)} "
            "are free; free some space or choose another output folder"
        )


def _in_words(n_bytes: int) -> str:
    size, unit = next((u for u in _SPACE_UNITS if n_bytes >= u[0]), _SPACE_UNITS[-1])
    return f"{n_bytes / size:.{2 if size > 1 else 0}f} {unit}"


def require_names(stem: Path, endings: Iterable[str]) -> None:
    """Raise `UserError` if a file system would find the name of a result too long."""
    name = max((stem.name + ending for ending in endings), key=lambda n: len(os.fsencode(n)))
    excess = len(os.fsencode(name)) - _LONGEST_NAME
    if excess > 0:
        raise UserError(
            f"cannot write {stem.with_name(name)}: its name is {excess} bytes too long; give the "
            "input a shorter one"
        )


def hidden_path(path: Path, ending: str) -> Path:
    """Return a hidden name beside ``path``: ``.<name>.<ending>``, shortened if it is too long."""
    name = f".{path.name}.{ending}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.{ending}"
    return path.with_name(name)


def partial_path(path: Path) -> Path:
    """Return the name under which ``path`` is written until it is whole."""
    return hidden_path(path, "partial")


@contextmanager
def tidy_folder(folder: Path) -> Iterator[None]:
    """Make ``folder`` and its parents; if the block fails, those made here go again, if empty.

    Raises
    ------
    UserError
        If it cannot be written to.
    """
    made = [place for place in (folder, *folder.parents) if not _exists(place)]
    make_folder(folder)
    try:
        yield
    except BaseException:
        for place in made:
            with suppress(OSError):  # others may have put something there
                place.rmdir()
        raise


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other runs from making the same result while the block runs; its folder is made.

    The claim is a lock on a hidden file beside the result. However a process ends, its locks go
    with it. On systems without such locks there is no claim.

    Parameters
    ----------
    path
        The result's name; there need be no file of that name.

    Raises
    ------
    UserError
        If another run is at work on it, or its folder cannot be written to.
    """
    claim = Claim(_lock_path(path))
    with tidy_folder(path.parent):
        try:
            _take(claim, path)
            yield
        finally:
            try:
                claim.give_back()
            except BaseException:  # a signal that came before it had begun
                claim.give_back()
                raise


def forget_killed(path: Path) -> None:
    """Remove the lock that a run left beside a result when it was killed; none that is held.

    A claim on the result takes over such a lock. Where the result is whole, nobody claims it.
    """
    lock = _lock_path(path)
    if lock.exists():
        claim = Claim(lock)
        with suppress(BusyError, OSError):
            claim.take()
        claim.give_back()


def _lock_path(path: Path) -> Path:
    # One name for each file, whatever links lead to it.
    return hidden_path(path.parent.resolve() / path.name, "lock")


def _take(claim: Claim, path: Path) -> None:
    try:
        claim.take()
    except BusyError as busy:
        who = f" (process {busy.process})" if busy.process else ""
        raise UserError(
            f"{path}: another run{who} is making it: wait until it has ended, or choose another "
            "`out`"
        ) from busy
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure


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
        If the file exists and ``overwrite`` is false, if another run is writing it, or if it
        cannot be written.
    """
    require_names(path, ("",))
    require_new(path, overwrite=overwrite)
    partial = partial_path(path)
    with claimed(path):
        require_new(path, overwrite=overwrite)  # another run may just have finished it
        try:
            yield partial
            os.replace(partial, path)
        except OSError as failure:
            partial.unlink(missing_ok=True)
            raise describe_write_failure(path, failure) from failure
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def whole_files(stem: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield a hidden folder whose files become those of a result if the block succeeds.

    Parameters
    ----------
    stem
        The result's name without endings; its folder is made if need be.
    endings
        Of all its files: ``result<ending>`` in the folder becomes ``<stem><ending>``, in this
        order. Where the last one is, the result is complete: an earlier one's goes first. A file
        that was not made replaces none, but an earlier one of that name goes.

    Raises
    ------
    UserError
        If another run is making the result, or if it cannot be written.
    """
    require_names(stem, endings)
    last = stem.with_name(stem.name + endings[-1])
    folder = partial_path(stem)
    with claimed(stem):
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed
        try:
            folder.mkdir()
            yield folder
            last.unlink(missing_ok=True)
            for ending in endings:
                made, final = folder / f"{STAGED}{ending}", stem.with_name(stem.name + ending)
                if made.exists():
                    made.replace(final)
                else:
                    final.unlink(missing_ok=True)
        except OSError as failure:
            raise describe_write_failure(last, failure) from failure
        finally:
            shutil.rmtree(folder, ignore_errors=True)
