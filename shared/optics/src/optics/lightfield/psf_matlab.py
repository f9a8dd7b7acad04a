"""MATLAB files before v7.3, which are no HDF5: their array ``psf``."""

import zlib
from functools import lru_cache
from pathlib import Path
from struct import unpack_from
from typing import Any

_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)
_NUMERIC_TYPES = (*range(1, 8), 9, 12, 13)
# More than what stands before the values of an array of any name that MATLAB allows.
_HEAD = 512


@lru_cache(maxsize=1)
def load_matlab(path: Path, changed: float) -> dict[str, Any]:
    """Read ``psf``, whole; ``changed`` is when the file was.

    Raises
    ------
    ValueError
        If the file is damaged, or holds no such array of numbers.
    """
    from scipy.io import loadmat

    try:
        _require_numbers(path)
        content: dict[str, Any] = loadmat(path, variable_names=["psf"])
    except MemoryError:
        raise
    except Exception as fault:  # damaged files make SciPy raise errors of any kind
        raise ValueError(str(fault)) from fault
    if "psf" not in content:
        raise ValueError("no array psf in it")
    return content


def _require_numbers(path: Path) -> None:
    """Raise `ValueError` if ``psf`` is no array of numbers: SciPy crashes at some others.

    Source: MathWorks, "MAT-File Format", level 5; files of level 4 are left to SciPy.
    """
    with path.open("rb") as handle:
        mark = handle.read(128)[126:]
        if mark not in (b"IM", b"MI"):
            return
        order = "<" if mark == b"IM" else ">"
        while len(tag := handle.read(8)) == 8:
            kind, n_bytes = unpack_from(order + "II", tag)
            following = handle.tell() + n_bytes
            head = handle.read(min(n_bytes, _HEAD))
            if kind == _COMPRESSED:
                head = zlib.decompressobj().decompress(head, _HEAD)
                kind, head = unpack_from(order + "I", head)[0], head[8:]
            if kind == _MATRIX and not _is_sound(order, head):
                raise ValueError("psf is no array of numbers")
            handle.seek(following)


def _is_sound(order: str, head: bytes) -> bool:
    """Whether a matrix is not named ``psf``, or one of numbers."""
    at, parts = 0, []
    for _ in ("flags", "sides", "name"):
        _, start, end = _element(order, head, at)
        parts.append(head[start:end])
        at = start + 4 if start == at + 4 else -(-end // 8) * 8
    if parts[2] != b"psf":
        return True
    (flags,) = unpack_from(order + "I", parts[0])
    kind, _, _ = _element(order, head, at)
    return flags & 0xFF in _NUMERIC_CLASSES and kind in _NUMERIC_TYPES


def _element(order: str, head: bytes, at: int) -> tuple[int, int, int]:
    """Return the type of an element, and where its bytes start and end; short ones are packed."""
    kind, n_bytes = unpack_from(order + "II", head, at)
    if kind >> 16:
        return kind & 0xFFFF, at + 4, at + 4 + (kind >> 16)
    return kind, at + 8, at + 8 + n_bytes
