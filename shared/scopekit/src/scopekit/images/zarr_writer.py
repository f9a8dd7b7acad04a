"""OME-Zarr stores, written part by part, in any order and from any number of processes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.images.ome_metadata import collection, labels_group, multiscales
from scopekit.images.readers.zarr import EMPTY_FRAMES
from scopekit.images.voxel import PartialVoxelSize
from scopekit.images.zarr_import import zarr
from scopekit.outputs import describe_write_failure, make_folder

# About 4 MB of float32: a screenful of a few planes.
_LARGEST_CHUNK = (16, 256, 256)
_FULL = slice(None)


@dataclass(frozen=True)
class NewImage:
    """An image of a store that is to be made.

    Attributes
    ----------
    shape
        (Z, Y, X) or (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um.
    chunk
        (z, y, x) of its chunks, at most.
    dtype
        Number type.
    labels_of
        Name of the image whose objects it numbers, if it does.
    """

    shape: tuple[int, ...]
    voxel_um: PartialVoxelSize
    chunk: tuple[int, int, int] = _LARGEST_CHUNK
    dtype: str = "float32"
    labels_of: str | None = None

    def folder(self, name: str) -> str:
        """Return where the image of that name lies in its store."""
        return name if self.labels_of is None else f"{self.labels_of}/labels/{name}"


def create_store(path: Path, shape: Sequence[int], voxel_um: PartialVoxelSize, name: str) -> None:
    """Make a store of one float32 image without values: Zarr 3, OME-NGFF 0.5.

    Parameters
    ----------
    path
        The folder to make.
    shape
        (Z, Y, X) or (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um.
    name
        Of the image.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    make_folder(path)
    try:
        _create_image(path, name, NewImage(tuple(shape), voxel_um))
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure


def create_collection(path: Path, name: str, images: Mapping[str, NewImage]) -> None:
    """Make a store of several images without values, a group each.

    Sources: OME-NGFF 0.5, "bioformats2raw.layout" (with the names of the images in ``OME``) and
    "labels metadata".

    Parameters
    ----------
    path
        The folder to make.
    name
        What the images are of.
    images
        Name to image; labels after the images that they belong to.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    labels: dict[str, list[str]] = {}
    for key, image in images.items():
        if image.labels_of is not None:
            labels.setdefault(image.labels_of, []).append(key)
    series = [key for key, image in images.items() if image.labels_of is None]
    make_folder(path)
    try:
        about, inside = collection(series)
        zarr().create_group(path, attributes=about)
        zarr().create_group(path / "OME", attributes=inside)
        for key, image in images.items():
            _create_image(path / image.folder(key), f"{name} {key}", image)
        for of, names in labels.items():
            zarr().create_group(path / of / "labels", attributes=labels_group(names))
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure


def _create_image(path: Path, name: str, image: NewImage) -> None:
    shape = image.shape
    attributes = multiscales(
        name, len(shape), image.voxel_um, is_labels=image.labels_of is not None
    )
    chunk = tuple(min(n, most) for n, most in zip(shape[-3:], image.chunk, strict=True))
    zarr().create_group(path, attributes=attributes).create_array(
        "0",
        shape=shape,
        chunks=(1,) * (len(shape) - 3) + chunk,
        dtype=image.dtype,
        fill_value=0,
        compressors=zarr().codecs.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        dimension_names=tuple("tzyx"[-len(shape) :]),
    )


class ZarrVolume:
    """A time point (Z, Y, X) of an image, read and written by slices like an array.

    Parts that are made of whole chunks may be written by any process at any time.

    Parameters
    ----------
    path
        Folder of the image.
    frame
        Which time point.
    """

    def __init__(self, path: Path, frame: int) -> None:
        self.path = path
        # Else chunks of zeros look like missing ones. Only arrays that are made take it themselves.
        with zarr().config.set({"array.write_empty_chunks": True}):
            array: Any = zarr().open_array(path / "0", mode="r+")
        self._array, self._before = array, (frame,) * (array.ndim - 3)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (Z, Y, X)."""
        z, y, x = self._array.shape[-3:]
        return z, y, x

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Return (z, y, x) of the chunks."""
        z, y, x = self._array.chunks[-3:]
        return z, y, x

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the planes; a layer of chunks is in memory."""
        for first in range(0, len(self), self.chunk[0]):
            yield from self[slice(first, first + self.chunk[0]),]

    def __getitem__(self, place: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self._array[self._whole(place)])

    def __setitem__(self, place: tuple[slice, ...], values: Any) -> None:
        try:
            self._array[self._whole(place)] = values
        except OSError as failure:
            raise describe_write_failure(self.path, failure) from failure

    def _whole(self, place: tuple[slice, ...]) -> tuple[int | slice, ...]:
        return (*self._before, *place, *(_FULL,) * (3 - len(place)))


def write_frame(path: Path, frame: int, volume: NDArray[np.float32]) -> None:
    """Write one time point, (Z, Y, X), of a store; all its chunks, the empty ones too.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    target = ZarrVolume(path, frame)
    step = target.chunk[0]
    # Never more than a layer of chunks in memory.
    for first in range(0, len(volume), step):
        planes = slice(first, first + step)
        target[planes,] = volume[planes]


def remove_halves(path: Path) -> None:
    """Remove what a killed run left of the chunks that it was writing, which have other names."""
    for half in path.rglob("*.partial"):
        half.unlink(missing_ok=True)


def declare_whole(path: Path, empty_frames: Sequence[int]) -> None:
    """Note in a store that all its chunks are written, except those of these frames."""
    try:
        group: Any = zarr().open_group(path, mode="r+")
        images = [one for _, one in group.members(max_depth=None) if _is_image(one)]
        for one in (*images, group):  # itself last: it tells whether all is done
            one.attrs[EMPTY_FRAMES] = [int(frame) for frame in empty_frames]
    except OSError as failure:
        raise describe_write_failure(path, failure) from failure


def _is_image(member: Any) -> bool:
    return "multiscales" in member.attrs.get("ome", {})
