"""OME-Zarr stores, inspected and read: one image each, a frame or a window at a time."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.ome_metadata import ImageAxes, read_multiscales
from scopekit.images.stack import StackFile
from scopekit.images.zarr_import import zarr

EMPTY_FRAMES = "empty_frames"
"""Attribute of a store in which every chunk is written, except those of the frames it lists."""


@dataclass(frozen=True)
class ZarrStack(StackFile):
    """The image of an OME-Zarr store, its chunks not read yet.

    Attributes
    ----------
    array
        The finest level, with all its axes.
    lengths
        Of its leading axes, those of length 1 left out.
    empty_frames
        Frames known to be missing, ``None`` if the store does not tell.
    """

    array: Any = field(repr=False)
    lengths: tuple[int, ...]
    empty_frames: tuple[int, ...] | None

    def read(self, frame: int = 0) -> NDArray[np.float32]:
        """Read one time point, as `StackFile.read` says."""
        values = self._values(frame, range(self.shape[-3]), slice(None), slice(None))
        for index, page in enumerate(values):
            self._require_finite(page, index, frame)
        return values

    def read_window(
        self, pages: Sequence[int], rows: slice, columns: slice, frame: int = 0
    ) -> NDArray[np.float32]:
        """Read the chunks that hold a window of some pages."""
        return self._values(frame, pages, rows, columns)

    def _values(
        self, frame: int, pages: Sequence[int], rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        first = frame * self.shape[-3] + min(pages)
        count = max(pages) - min(pages) + 1
        place = self._place(first, count)
        with explained(self.path):
            self._require_chunks(frame, place)
            block = np.asarray(self.array[(*place, rows, columns)])
            block = block.reshape(count, *block.shape[-2:])
        if list(pages) != list(range(min(pages), max(pages) + 1)):
            block = block[[page - min(pages) for page in pages]]
        return block.astype(np.float32, copy=False)

    def _place(self, first: int, count: int) -> tuple[slice, ...]:
        """Return the part of the leading axes that holds pages ``first`` on, of one time point."""
        starts = np.unravel_index(first, self.lengths) if self.lengths else ()
        parts = [slice(int(start), int(start) + 1) for start in starts]
        if parts:
            parts[-1] = slice(parts[-1].start, parts[-1].start + count)
        leading = iter(parts)
        return tuple(slice(0, 1) if n == 1 else next(leading) for n in self.array.shape[:-2])

    def _require_chunks(self, frame: int, place: tuple[slice, ...]) -> None:
        """Raise `UserError` if the frame was never written.

        Zarr leaves chunks out whose values are all the fill value: single ones may be missing in
        stores of other programs, but not all of a frame.
        """
        if self.empty_frames is not None and frame in self.empty_frames:
            raise UserError(f"{self.path}: frame {frame} is missing: it failed when it was made")
        grid = self.array.shards or self.array.chunks
        spans = [
            range(part.start // step, (part.stop - 1) // step + 1)
            for part, step in zip(place, grid, strict=False)
        ]
        sides = zip(self.array.shape[-2:], grid[-2:], strict=True)
        spans += [range(-(-n // step)) for n, step in sides]
        folder = self.path / self.array.path
        encode = self.array.metadata.encode_chunk_key
        there = ((folder / encode(at)).exists() for at in itertools.product(*spans))
        whole = any(there) if self.empty_frames is None else all(there)
        if not whole:
            where = f"frame {frame}: " if self.n_frames > 1 else ""
            remedy = "copy or export the store again"
            if self.empty_frames is None:
                remedy += (
                    ". A frame of zeros looks the same: write such with zarr's "
                    "write_empty_chunks=True"
                )
            raise UserError(
                f"{self.path}: {where}chunks are missing (an interrupted copy or recording?); "
                + remedy
            )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a store is read into a `UserError`."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except PermissionError as failure:
        raise UserError(f"{path}: no permission to read it") from failure
    except Exception as failure:  # damaged chunks make codecs raise errors of any kind
        raise UserError(
            f"{path}: damaged ({' '.join(str(failure).split())[:80]}); "
            "copy or export the store again"
        ) from failure


def inspect_zarr(path: Path) -> ZarrStack:
    """Inspect the image of an OME-Zarr store without reading its chunks.

    Parameters
    ----------
    path
        Folder of the store, Zarr 3 (NGFF 0.5) or 2 (NGFF 0.4).

    Raises
    ------
    UserError
        If the store is missing or damaged, has no NGFF metadata of one image, or has several
        channels.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    array, axes, attributes = _open(path)
    if array.ndim != len(axes.names) or array.ndim < 2 or 0 in array.shape:
        raise UserError(
            f"{path}: shape {array.shape}, but the metadata name the axes "
            f"{''.join(axes.names)}; export the store again"
        )
    if array.dtype.kind not in "uif":
        raise UserError(f"{path}: values of {array.dtype}; expected grey values, real numbers")
    # As for TIFF, axes of length 1 do not count, but a stack keeps three.
    leading = list(zip(array.shape[:-2], axes.names, axes.kinds, strict=False))
    counted = [axis for axis in leading if axis[0] > 1]
    if leading and not counted:
        counted = leading[-1:]
    if len(counted) > 2 or (len(counted) == 2 and counted[0][2] != "time"):
        raise UserError(
            f"{path}: axes {''.join(axes.names)} {array.shape}; expected zyx or tzyx: "
            "save each channel as its own store"
        )
    lengths = tuple(n for n, _, _ in counted)
    empty = attributes.get(EMPTY_FRAMES)
    return ZarrStack(
        path=path,
        shape=(*lengths, *array.shape[-2:]),
        dtype=array.dtype,
        voxel_um=axes.voxel_um,
        array=array,
        lengths=tuple(n for n in lengths if n > 1),
        empty_frames=None if empty is None else tuple(empty),
    )


def _open(path: Path) -> tuple[Any, ImageAxes, dict[str, Any]]:
    with explained(path):
        try:
            group = zarr().open(path, mode="r")
        except FileNotFoundError as failure:
            raise UserError(
                f"{path}: not a Zarr store (no zarr.json); give the folder of an OME-Zarr image"
            ) from failure
        attributes = dict(group.attrs)
        try:
            axes = read_multiscales(attributes)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as failure:
            raise UserError(
                f"{path}: no OME-Zarr metadata of an image (NGFF multiscales); give the folder of "
                "the image itself, or export it again as OME-Zarr 0.5 or TIFF"
            ) from failure
        try:
            array = group[axes.path]
        except KeyError as failure:
            raise UserError(
                f"{path}: its array {axes.path!r} is missing; copy or export the store again"
            ) from failure
    return array, axes, attributes
