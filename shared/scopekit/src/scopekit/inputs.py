"""The user's inputs, files and folders mixed, and what becomes of each."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from scopekit.errors import UserError
from scopekit.images.files import files_of_set, is_zarr, stack_stem
from scopekit.images.order import by_number
from scopekit.progress import one_log, say
from scopekit.settings import read_yaml

IsResult = Callable[[Path, Collection[str]], bool]


def find_inputs(
    inputs: Iterable[Path],
    suffixes: Collection[str],
    is_result: IsResult,
    *,
    folders_are_series: bool = False,
) -> list[Path]:
    """Return the files, and those inside the folders, in order, each once.

    Parameters
    ----------
    inputs
        Files, Zarr stores and folders.
    suffixes
        Endings of the files that are taken from folders, in lower case.
    is_result
        Whether a file of a folder is the result of an earlier run, given the stems of all files
        there.
    folders_are_series
        Whether folders with something to use in them stay as they are.

    Raises
    ------
    UserError
        If an input is missing, a folder holds nothing to use, or two results would share a name.
    """
    files: list[Path] = []
    for item in inputs:
        if item.is_dir() and not is_zarr(item):
            found = files_inside(item, suffixes, is_result)
            if not found:
                raise UserError(f"{item}: no file to use in this folder ({', '.join(suffixes)})")
            files += [item] if folders_are_series else found
        elif item.exists():
            files.append(item)
        else:
            raise UserError(f"{item}: no such file or folder; check the path")
    files = list(dict.fromkeys(files))
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(stack_stem(file), file)
        if other is not file:
            raise UserError(f"{other} and {file} would give results of one name; rename one")
    return files


def files_inside(folder: Path, suffixes: Collection[str], is_result: IsResult) -> list[Path]:
    """Return the files in a folder that `find_inputs` takes from it, ``No2`` before ``No10``.

    Of several files that stand for the same recording, the first.
    """
    files = sorted(
        (f for f in folder.iterdir() if f.suffix.lower() in suffixes and f.name[0] != "."),
        key=by_number,
    )
    stems = {stack_stem(f) for f in files}
    others: set[Path] = set()
    found = []
    for file in files:
        if file not in others and not is_result(file, stems):
            others |= files_of_set(file) - {file}
            found.append(file)
    return found


def input_record(path: Path) -> dict[str, Any]:
    """Return what to note beside a result about the input that it was made from: plain values."""
    told: dict[str, Any] = {"input": str(path)}
    if path.is_file():
        status = path.stat()
        told |= {"input_bytes": status.st_size, "input_changed": status.st_mtime_ns}
    return told


def is_made_from(settings: Path, source: Path) -> bool:
    """Whether the settings beside a result do not tell that it was made from another input."""
    return _other_input(settings, source) is None


def require_same_input(settings: Path, result: Path, source: Path) -> None:
    """Raise `UserError` if the settings beside a result tell that it was made from another input.

    Parameters
    ----------
    settings
        YAML with what `input_record` gave; where there is none nothing is known.
    result
        The result, for the message.
    source
        The input of now. It may have been moved meanwhile, but not changed.
    """
    other = _other_input(settings, source)
    if other is not None:
        raise UserError(
            f"{result} exists, made from {other}: add `overwrite=True` to replace it, or choose "
            "another `out`"
        )


def _other_input(settings: Path, source: Path) -> str | None:
    """Say which other input a result was made from; ``None`` if none is known."""
    try:
        noted = read_yaml(settings)
    except UserError:
        return None
    earlier, present = noted.get("input"), input_record(source)
    if not isinstance(earlier, str):
        return None
    same_place = Path(earlier).resolve() == source.resolve()
    details = [name for name in ("input_bytes", "input_changed") if name in noted]
    same_content = all(noted[name] == present.get(name) for name in details)
    moved = bool(details) and Path(earlier).name == source.name
    if same_content and (same_place or moved):
        return None
    return f"{source} as it was before it changed" if same_place else f"another input, {earlier}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal: another file of its name differs."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@one_log()
def run_all(files: list[Path], work: Callable[[Path], Path]) -> list[Path]:
    """Do ``work`` on every file; report those that fail and go on with the rest.

    Raises
    ------
    UserError
        At the end, if any file failed: its own line if it was the only input.
    """
    results, failures = [], []
    for file in files:
        try:
            results.append(work(file))
        except UserError as failure:
            line = str(failure)
            if file.name not in line:
                line = f"{file}: {line}"
            if len(files) == 1:
                raise UserError(line) from failure
            say(f"error: {line}")
            failures.append(file)
    if failures:
        names = ", ".join(str(f) for f in failures)
        raise UserError(f"{len(failures)} of {len(files)} inputs failed, the rest is done: {names}")
    return results
