"""The order of files in a folder: numbers in their names count as numbers."""

import re
from pathlib import Path

NameOrder = tuple[list[tuple[int, str]], str]


def by_number(file: Path) -> NameOrder:
    """Return a key for sorting files of a folder by name, ``No2`` before ``No10``.

    Examples
    --------
    >>> from pathlib import Path
    >>> names = [Path(name) for name in ("No10.tif", "No2.tif", "a.tif")]
    >>> [file.name for file in sorted(names, key=by_number)]
    ['No2.tif', 'No10.tif', 'a.tif']
    """
    parts = re.split(r"(\d+)", file.name)
    # Every other part is a number.
    key = [(int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)]
    return key, file.name
