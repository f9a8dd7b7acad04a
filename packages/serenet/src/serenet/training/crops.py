"""Crops of light fields, and of the volumes they are of, for training."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import StackFile, open_stack, stack_stem
from scopekit.memory import memory_budget
from scopekit.progress import say
from serenet.training.sections import Data
from serenet.views.files import find_stacks, open_views

Array = NDArray[np.float32]
Origin = tuple[int, int]
# Of the free memory, for keeping files that would otherwise be read again and again.
_SHARE_FOR_FILES = 0.3


@dataclass(frozen=True)
class LightField:
    """One time point of a view stack and, for supervised training, its volume.

    Attributes
    ----------
    views
        The file.
    pages
        Which of its pages are the network's views, in channel order.
    frame
        Time point.
    volume
        The volume's file (D, H, W), H and W the views' times the lateral scale.
    """

    views: StackFile
    pages: list[int]
    frame: int
    volume: StackFile | None

    @property
    def source(self) -> str:
        """The file's name, for messages."""
        return self.views.frame_name(self.frame)


class TrainingData:
    """The light fields of a folder, read crop by crop.

    Parameters
    ----------
    data
        Folders and selection.
    microscope
        The microscope, with the views and depths of the network.
    crop
        Side of the crops, view pixels.
    paired
        Whether volumes are needed.

    Attributes
    ----------
    visits
        Indices of the light fields that an epoch visits.

    Raises
    ------
    UserError
        If a folder is missing or empty, a file is not a stack of this microscope's views, is
        smaller than a crop, or has no volume of the right size.
    """

    def __init__(
        self, data: Data, microscope: LightFieldMicroscope, crop: int, *, paired: bool
    ) -> None:
        assert data.views is not None
        self._scale = microscope.lateral_scale
        self._scanning = microscope.scanning
        self._n_depths = len(microscope.depths_um)
        self.crop = crop
        self.paired = paired
        files = find_stacks([data.views])[: data.first]
        if data.last is not None:
            files = files[-data.last :]
        volumes = _volumes_by_stem(data.volumes) if paired and data.volumes else {}
        self.fields: list[LightField] = []
        for path in files:
            stack, pages = open_views(path, microscope)
            if min(stack.shape[-2:]) < crop:
                raise UserError(
                    f"{path}: views of {stack.shape[-2]} x {stack.shape[-1]} pixels, the crop is "
                    f"{crop}: lower crop to {min(stack.shape[-2:])}"
                )
            volume = self._volume_of(path, stack, volumes, data.volumes) if paired else None
            self.fields += [LightField(stack, pages, t, volume) for t in range(stack.n_frames)]
        depths = {f.volume.shape[0] for f in self.fields if f.volume} - {self._n_depths}
        if depths:
            say(
                f"warning: volumes of {min(depths)} planes, the optics have {self._n_depths}: "
                "the planes around them count as empty"
            )
        self._kept = self._keep_if_small()
        self.visits = list(range(len(self.fields))) * data.repeat

    def __len__(self) -> int:
        return len(self.fields)

    def joined(self, other: "TrainingData") -> "TrainingData":
        """Return the light fields of both; some may have volumes, others none."""
        both = copy.copy(self)
        both.fields = self.fields + other.fields
        both.visits = self.visits + [n + len(self) for n in other.visits]
        both.paired = self.paired and other.paired
        both._kept = self._kept + other._kept if self._kept and other._kept else []
        return both

    def taught_by(self, volumes: Sequence[StackFile | None]) -> "TrainingData":
        """Return the same light fields with other volumes, one each or none."""
        taught = copy.copy(self)
        taught.paired = True
        taught.fields = [
            replace(field, volume=volume)
            for field, volume in zip(self.fields, volumes, strict=True)
        ]
        return taught

    def widen(self, crop: int) -> None:
        """Let crops be so wide, as far as the smallest field allows."""
        self.crop = min(crop, *(n for i in range(len(self)) for n in self.field_size(i)))

    def _volume_of(
        self, path: Path, stack: StackFile, volumes: dict[str, Path], folder: Path | None
    ) -> StackFile:
        fitting = [stem for stem in volumes if stack_stem(path).startswith(stem)]
        if not fitting:
            raise UserError(
                f"{path}: no volume of that name in {folder}: NAME.tif belongs to views NAME...tif"
            )
        volume = open_stack(volumes[max(fitting, key=len)])
        expected = tuple(round(n * self._scale) for n in stack.shape[-2:])
        if stack.n_frames > 1 or len(volume.shape) != 3 or volume.shape[1:] != expected:
            raise UserError(
                f"{volume.path}: shape {volume.shape} does not pair with {path} {stack.shape}: "
                f"expected (Z, {expected[0]}, {expected[1]})"
            )
        if volume.shape[0] > self._n_depths:
            raise UserError(
                f"{volume.path}: {volume.shape[0]} planes, the optics have {self._n_depths}: "
                "crop the volume, or give the optics more depths"
            )
        return volume

    def _keep_if_small(self) -> list[Array]:
        """Read the views of all files now if they fit the memory well."""
        needed = sum(4 * len(f.pages) * f.views.shape[-2] * f.views.shape[-1] for f in self.fields)
        free = memory_budget(torch.device("cpu")).available
        if needed > _SHARE_FOR_FILES * free:
            say(f"light fields of {needed / 1e9:.1f} GB are read from the disk as they are needed")
            return []
        whole = slice(None)
        kept = []
        for field in self.fields:
            kept.append(field.views.read_window(field.pages, whole, whole, field.frame))
            if not np.isfinite(kept[-1]).all():
                say(f"warning: {field.views.path}: NaN or infinite values count as 0")
            elif kept[-1].max() <= 0:
                if kept[-1].min() < 0:
                    raise UserError(
                        f"{field.views.path}: no value above 0, the largest is "
                        f"{kept[-1].max():g}: take the offset off, or save it as unsigned numbers"
                    )
                say(f"warning: {field.views.path}: empty, there is nothing to learn from")
        return kept

    def views(self, index: int, origin: Origin) -> Array:
        """Return a crop (A, crop, crop) of a light field; NaN and negative values become 0."""
        rows, columns = (slice(n, n + self.crop) for n in origin)
        if self._kept:
            crop = self._kept[index][:, rows, columns]
        else:
            field = self.fields[index]
            crop = field.views.read_window(field.pages, rows, columns, field.frame)
        return np.maximum(np.nan_to_num(crop, nan=0.0, posinf=0.0), 0)

    def field(self, index: int) -> Array:
        """Return a whole light field (A, h, w); NaN and negative values become 0."""
        whole = slice(None)
        if self._kept:
            views = self._kept[index]
        else:
            field = self.fields[index]
            views = field.views.read_window(field.pages, whole, whole, field.frame)
        return np.maximum(np.nan_to_num(views, nan=0.0, posinf=0.0), 0)

    def whole_volume(self, index: int) -> Array:
        """Return the volume of a light field, (D, H, W) as in its file."""
        stack = self.fields[index].volume
        assert stack is not None
        return _finite(stack.read(), stack)

    def volume(self, index: int, origin: Origin, depths: slice = slice(None)) -> Array:
        """Return the volume of a crop (D, crop scale, crop scale), missing planes zero.

        ``depths`` takes some of the D planes only.
        """
        stack = self.fields[index].volume
        assert stack is not None
        side = round(self.crop * self._scale)
        starts = [
            min(round(n * self._scale), size - side)
            for n, size in zip(origin, stack.shape[1:], strict=True)
        ]
        rows, columns = (slice(n, n + side) for n in starts)
        planes = range(self._n_depths)[depths]
        empty = (self._n_depths - stack.shape[0]) // 2
        inside = [z - empty for z in planes if 0 <= z - empty < stack.shape[0]]
        if not inside:
            return np.zeros((len(planes), side, side), np.float32)
        found = _finite(stack.read_window(inside, rows, columns), stack)
        before = max(empty - planes[0], 0)
        after = len(planes) - before - len(found)
        return np.pad(found, ((before, after), (0, 0), (0, 0)))

    def random_origin(
        self, index: int, rng: np.random.Generator, border: int = 0, *, aligned: bool = False
    ) -> Origin:
        """Return the corner of a random crop, on a lens' first scan position if paired or aligned.

        Crops keep about so many view pixels from the field's border.
        """
        # Only there do view pixels and volume pixels start together.
        step = self._scanning if self.paired or aligned else 1
        row, column = (
            step * int(rng.integers(border // step, (n - self.crop - border) // step + 1))
            for n in self.field_size(index)
        )
        return row, column

    def middle(self, index: int) -> Origin:
        """Return the corner of the crop in the middle of the field."""
        step = self._scanning
        row, column = ((n - self.crop) // 2 // step * step for n in self.field_size(index))
        return row, column

    def field_size(self, index: int) -> tuple[int, ...]:
        """Return height and width of a light field."""
        return self.fields[index].views.shape[-2:]


def _finite(volume: Array, stack: StackFile) -> Array:
    if not np.isfinite(volume).all():
        raise UserError(f"{stack.path}: NaN or infinite values; replace them by numbers first")
    return volume


def _volumes_by_stem(folder: Path) -> dict[str, Path]:
    return {stack_stem(path): path for path in find_stacks([folder])}
