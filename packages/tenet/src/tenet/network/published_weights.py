"""Weights that the authors of the paper published: not passed on here."""

from pathlib import Path

from scopekit.downloads.remote import RemoteFile, fetch
from scopekit.errors import UserError

_RECORD = "https://zenodo.org/records/15545449"

# Neither names nor checksums of the files in the record are known here.
PUBLISHED = {
    f"published-{kind}": RemoteFile(
        f"published-{kind}",
        f"JNet_{kind}.pt",
        f"the published weights of JNet_{kind}, with its configuration: to be fetched by hand",
        _RECORD,
    )
    for kind in ("beads", "microglia")
}


def fetch_weights(name: str) -> Path:
    """Return where weights of that name lie, fetched if need be.

    Raises
    ------
    UserError
        If the name is unknown, or they cannot be had.
    """
    if name not in PUBLISHED:
        raise UserError(f"{name}: no weights of that name to get; known are {', '.join(PUBLISHED)}")
    return fetch(PUBLISHED[name], "tenet")
