"""Weights that the authors of the paper published: fetched by name from them, not passed on."""

from pathlib import Path

from scopekit.downloads.remote import RemoteFile, cached, fetch
from scopekit.errors import UserError

_REPOSITORY = "https://github.com/kimchange/SeReNet"
_RAW = "https://raw.githubusercontent.com/kimchange/SeReNet"
# As the repository lists it.
_COMMIT = "9172daf28b388efc5f3201a0e9133898ca628d3a"


def _by_hand(method: str) -> RemoteFile:
    return RemoteFile(
        f"published-{method}",
        "epoch-800.pth",
        f"the published {method}; its checksum is not known here: to be fetched by hand",
        _REPOSITORY,
    )


PUBLISHED = {
    file.name: file
    for file in (
        RemoteFile(
            "published-serenet",
            "epoch-800.pth",
            "the published serenet for nnum13 (Lu et al., Nature Methods 2025)",
            _REPOSITORY,
            "753f30422b0f7f2c79ed8d88024f97813d085fdbc71a2c0e5d7b914fd06b5a87",
            (
                f"{_RAW}/{_COMMIT}/pth/serenet_pth/epoch-800.pth",
                f"{_RAW}/HEAD/pth/serenet_pth/epoch-800.pth",
            ),
        ),
        _by_hand("fserenet"),
        _by_hand("rlnet"),
        _by_hand("twnet"),
    )
}


def published_file(name: str) -> Path:
    """Return where weights of that name lie.

    Raises
    ------
    UserError
        If they were not fetched.
    """
    path = cached(PUBLISHED[name], "serenet")
    if path is None:
        raise UserError(f"{name}: not here yet; run serenet weights get {name}")
    return path


def fetch_weights(name: str, source: Path | None = None) -> Path:
    """Return where weights of that name lie, fetched if need be.

    Parameters
    ----------
    name
        See `PUBLISHED`.
    source
        A copy that was fetched by hand.

    Raises
    ------
    UserError
        If the name is unknown, or they cannot be had.
    """
    if name not in PUBLISHED:
        raise UserError(f"{name}: no weights of that name to get; known are {', '.join(PUBLISHED)}")
    return fetch(PUBLISHED[name], "serenet", source=source)
