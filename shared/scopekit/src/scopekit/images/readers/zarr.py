"""OME-Zarr stores, inspected and read: axes by name, a frame or a window at a time."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.axes import DEPTH, POSITION, TIME, choose, stacked
from scopekit.images.ome_metadata import ImageAxes, read_multiscales
from scopekit.images.selection import Selection
from scopekit.images.stack import StoredPlanes
from scopekit.images.zarr_import import zarr

# Longer than any axis of a recording.
_LARGEST_SIDE = 2**26
EMPTY_FRAMES = "empty_frames"
"""Attribute of a store in which every chunk is written, except those of the frames it lists."""


@dataclass(frozen=True, kw_only=True)
class ZarrPlanes(StoredPlanes):
    """The planes of an OME-Zarr image, its chunks not read yet.

    Attributes
    ----------
    array
        The finest level, with all its axes.
    names
        Of its axes.
    empty_frames
        Frames known to be missing, ``None`` if the store does not tell.
    """

    array: Any = field(repr=False)
    names: tuple[str, ...]
    empty_frames: tuple[int, ...] | None

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[NDArray[Any]]:
        """Yield a window of planes; a layer of chunks is read at a time."""
        self._require_chunks(numbers)
        for first, axis, count in self._runs(numbers):
            yield from self._read_run(first, axis, count, rows, columns)

    def _places(self, numbers: Sequence[int]) -> NDArray[np.intp]:
        """Return where planes lie along the leading axes: (planes, axes)."""
        lengths = [axis.length for axis in self.axes]
        if not lengths:
            return np.zeros((len(numbers), 0), np.intp)
        return np.stack(np.unravel_index(np.asarray(numbers), lengths), axis=1)

    def _runs(self, numbers: Sequence[int]) -> Iterator[tuple[NDArray[np.intp], int | None, int]]:
        """Yield neighbours that lie in one layer of chunks: the first, along which axis, how many.

        The axis is one of the array, ``None`` for a plane by itself.
        """
        places = self._places(numbers)
        dims = self._leading()
        start = 0
        while start < len(places):
            end, along = start + 1, None
            while end < len(places):
                (changed,) = np.nonzero(places[end] != places[end - 1])
                if len(changed) != 1 or along not in (None, changed[0]):
                    break
                axis = int(changed[0])
                here, before = int(places[end][axis]), int(places[end - 1][axis])
                if here != before + 1 or here % self.array.chunks[dims[axis]] == 0:
                    break
                along, end = axis, end + 1
            yield places[start], None if along is None else dims[along], end - start
            start = end

    def _leading(self) -> list[int]:
        """Return which axes of the array are not rows and columns."""
        return [n for n, name in enumerate(self.names) if name not in ("y", "x")]

    def _read_run(
        self, first: NDArray[np.intp], along: int | None, count: int, rows: slice, columns: slice
    ) -> Iterator[NDArray[Any]]:
        place: list[Any] = [rows if name == "y" else columns for name in self.names]
        for dim, start in zip(self._leading(), first, strict=True):
            place[dim] = slice(start, start + count) if dim == along else int(start)
        with explained(self.path):
            block = np.asarray(self.array[tuple(place)])
        kept = [n for n, part in enumerate(place) if isinstance(part, slice)]
        order = [kept.index(dim) for dim in (*([] if along is None else [along]), *self._yx())]
        block = block.transpose(order)
        yield from block if along is not None else [block]

    def _yx(self) -> tuple[int, int]:
        return self.names.index("y"), self.names.index("x")

    def _require_chunks(self, numbers: Sequence[int]) -> None:
        """Raise `UserError` if planes were never written.

        Zarr leaves chunks out whose values are all the fill value: single ones may be missing in
        stores of other programs, but not all of a frame.
        """
        time = [n for n, axis in enumerate(self.axes) if axis.name == TIME]
        places = self._places(numbers)
        frame = int(places[0][time[0]]) if time else 0
        if self.empty_frames is not None and frame in self.empty_frames:
            raise UserError(f"{self.path}: frame {frame} is missing: it failed when it was made")
        grid = self.array.shards or self.array.chunks
        spans: list[Sequence[int]] = [
            range(-(-n // step)) for n, step in zip(self.array.shape, grid, strict=True)
        ]
        for column, dim in enumerate(self._leading()):
            spans[dim] = sorted({int(n) // grid[dim] for n in places[:, column]})
        folder = self.path / self.array.path
        encode = self.array.metadata.encode_chunk_key
        there, whole = [], True
        for at in itertools.product(*spans):
            file = folder / encode(at)
            if file.exists():
                there.append(file)
            elif self.empty_frames is not None:
                whole = False
                break
        whole &= bool(there)
        if not whole:
            where = f"frame {frame}: " if time and self.axes[time[0]].length > 1 else ""
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
        if _is_blosc(self.array):
            for file in there:
                _require_whole_blosc(self.path, file)


def _is_blosc(array: Any) -> bool:
    """Whether every chunk is a file that Blosc packed last."""
    if array.shards is not None:
        return False
    if array.metadata.zarr_format == 2:
        return getattr(array.metadata.compressor, "codec_id", None) == "blosc"
    return type(array.metadata.codecs[-1]).__name__ == "BloscCodec"


def _require_whole_blosc(path: Path, file: Path) -> None:
    """Raise `UserError` unless a chunk is as long as it says: the decoder reads on, and crashes.

    Source: c-blosc, README_CHUNK_FORMAT.
    """
    with explained(path), file.open("rb") as handle:
        if int.from_bytes(handle.read(16)[12:], "little") != file.stat().st_size:
            raise ValueError("a chunk was cut short")


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


def inspect_zarr(path: Path, selection: Selection) -> ZarrPlanes:
    """Inspect the image of an OME-Zarr store without reading its chunks.

    Parameters
    ----------
    path
        Folder of the store, Zarr 3 (NGFF 0.5) or 2 (NGFF 0.4).
    selection
        The position counts where the store has several images.

    Raises
    ------
    UserError
        If the store is missing or damaged, has no NGFF metadata of an image, or has several
        images and none is selected.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path")
    array, axes, attributes, is_position = _open(path, selection)
    names = axes.names
    if array.ndim != len(names) or 0 in array.shape:
        raise UserError(
            f"{path}: shape {array.shape}, but the metadata name the axes {', '.join(names)}; "
            "export the store again"
        )
    if 0 in array.chunks or max(array.shape) > _LARGEST_SIDE:
        raise UserError(
            f"{path}: damaged (shape {array.shape} in chunks of {array.chunks}); copy or export "
            "the store again"
        )
    if array.dtype.kind not in "uif":
        raise UserError(f"{path}: values of {array.dtype}; expected grey values, real numbers")
    lengths = dict(zip(names, array.shape, strict=True))
    leading = [name for name in names if name not in ("y", "x")]
    empty = attributes.get(EMPTY_FRAMES)
    return ZarrPlanes(
        path=path,
        axes=stacked(leading, [lengths[name] for name in leading]),
        plane_shape=(lengths["y"], lengths["x"]),
        dtype=array.dtype,
        steps=axes.steps(path, of_planes=lengths.get(DEPTH, 1) > 1),
        array=array,
        names=names,
        empty_frames=None if empty is None else tuple(empty),
        is_position=is_position,
    )


def _open(path: Path, selection: Selection) -> tuple[Any, ImageAxes, dict[str, Any], bool]:
    with explained(path):
        try:
            group = zarr().open(path, mode="r")
        except FileNotFoundError as failure:
            raise UserError(
                f"{path}: not a Zarr store (no zarr.json); give the folder of an OME-Zarr image"
            ) from failure
        group, number, is_position = _choose_image(path, group, selection)
        attributes = dict(group.attrs)
        try:
            axes = read_multiscales(attributes, number)
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
    return array, axes, attributes, is_position


def _choose_image(path: Path, group: Any, selection: Selection) -> tuple[Any, int, bool]:
    """Return the group of the image that is meant, its number there, and if there are others.

    Sources: OME-NGFF 0.5, "bioformats2raw.layout" and "well metadata".
    """
    attributes = dict(group.attrs)
    described: Mapping[str, Any] = attributes.get("ome", attributes)
    wanted = selection.position
    if "multiscales" in described:
        images = described["multiscales"]
        count = len(images) if isinstance(images, list) else 1
        if count > 1:
            return group, choose(path, POSITION, count, wanted), True
        return group, 0, False
    if "bioformats2raw.layout" in described:
        names = _series(group)
    elif isinstance(well := described.get("well"), Mapping):
        names = [str(image["path"]) for image in well["images"]]
    else:
        names = []
    if not names:
        return group, 0, False
    found = "" if all(name.isdigit() for name in names) else f"images {', '.join(names)}"
    return group[names[choose(path, POSITION, len(names), wanted, found)]], 0, True


def _series(group: Any) -> list[str]:
    """Return the names of the images of a store, as its group ``OME`` tells, else the numbers."""
    told: Any = None
    if "OME" in group:
        attributes = dict(group["OME"].attrs)
        told = attributes.get("ome", attributes).get("series")
    if isinstance(told, list):
        return [str(name) for name in told]
    return sorted((name for name in group.group_keys() if name.isdigit()), key=int)


def images_inside(path: Path) -> list[Path]:
    """Return the folders of the images of an OME-Zarr store, itself if it is one.

    Raises
    ------
    UserError
        If it is no Zarr store.
    """
    with explained(path):
        group = zarr().open(path, mode="r")
        described = group.attrs.get("ome", group.attrs)
        if "bioformats2raw.layout" not in described:
            return [path]
        return [path / name for name in _series(group)]


def labels_inside(image: Path) -> list[Path]:
    """Return the folders of the label images that belong to an OME-Zarr image."""
    with explained(image):
        group = zarr().open(image, mode="r")
        names = group["labels"].attrs.get("ome", {}).get("labels", []) if "labels" in group else []
        return [image / "labels" / str(name) for name in names]
