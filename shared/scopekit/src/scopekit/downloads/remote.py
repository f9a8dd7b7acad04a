"""Files of others by name: fetched once, checked by their SHA-256, kept in the user's cache."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scopekit.errors import UserError
from scopekit.outputs import make_folder, whole_file

_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file that its authors keep, and we do not pass on.

    Attributes
    ----------
    name
        What it is called here.
    file_name
        What it is called there, and in the cache.
    about
        What it is, in a line.
    page
        Where to get it by hand.
    sha256
        Of its content; ``None`` if that is not known, and it cannot be fetched then.
    addresses
        Where it may be fetched, the first that works.
    """

    name: str
    file_name: str
    about: str
    page: str
    sha256: str | None = None
    addresses: tuple[str, ...] = ()


def cache_folder(program: str) -> Path:
    """Return the folder for fetched files in the user's cache (``<PROGRAM>_CACHE`` moves it)."""
    import pooch

    return Path(os.environ.get(f"{program.upper()}_CACHE") or pooch.os_cache(program))


def cached(file: RemoteFile, program: str) -> Path | None:
    """Return where a file lies that was fetched, ``None`` if it was not."""
    path = cache_folder(program) / file.name / file.file_name
    return path if path.is_file() else None


def fetch(file: RemoteFile, program: str, *, source: Path | None = None) -> Path:
    """Return a file's place in the cache; fetch it if it is not there.

    Parameters
    ----------
    file
        What to fetch.
    program
        Whose cache.
    source
        A copy that was fetched by hand, to be taken instead.

    Raises
    ------
    UserError
        If no address delivers it, or what comes is another file.
    """
    if file.sha256 is None:
        raise UserError(
            f"{file.name}: its checksum is not known here, so it is not fetched; get "
            f"{file.file_name} from {file.page} and give its path instead of the name"
        )
    path = cache_folder(program) / file.name / file.file_name
    if source is not None:
        return _adopt(source, path, file)
    if path.is_file() and _sha256(path) == file.sha256:
        return path
    make_folder(path.parent)
    reasons = [reason for reason in _attempts(file, path) if reason]
    if not path.is_file():
        raise UserError(
            f"{file.name}: {'; '.join(reasons)}; get {file.file_name} by hand from {file.page} and "
            f"give it as `source={file.file_name}`"
        )
    return path


def _attempts(file: RemoteFile, path: Path) -> Iterable[str | None]:
    """Yield why each address did not deliver, until one does."""
    import pooch
    import requests

    # It tells of every download; the command does so itself.
    pooch.get_logger().setLevel(logging.WARNING)
    for address in file.addresses:
        try:
            pooch.retrieve(
                address,
                f"sha256:{file.sha256}",
                fname=path.name,
                path=path.parent,
                downloader=pooch.HTTPDownloader(timeout=_SECONDS),
            )
        except requests.RequestException as failure:
            yield f"{address} does not deliver it ({_reason(failure)})"
        except ValueError:
            yield f"{address} delivers another file (its SHA-256 is not {file.sha256})"
        else:
            yield None
            return


def _reason(failure: Exception) -> str:
    response = getattr(failure, "response", None)
    return "no connection" if response is None else f"answer {response.status_code}"


def _adopt(source: Path, path: Path, file: RemoteFile) -> Path:
    if not source.is_file():
        raise UserError(f"{source}: no such file; check the path")
    if _sha256(source) != file.sha256:
        raise UserError(
            f"{source}: not {file.name} (its SHA-256 is not {file.sha256}); get {file.file_name} "
            f"from {file.page}"
        )
    make_folder(path.parent)
    with whole_file(path, overwrite=True) as partial:
        shutil.copyfile(source, partial)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
