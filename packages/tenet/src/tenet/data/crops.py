"""Crops to train with: of labelled volumes, and of recorded stacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.errors import UserError
from scopekit.images.selection import WHOLE_FILE, Selection
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import shipped_alignment
from tenet.alignment.vibration import Strength, draw_shifts, strength_at
from tenet.config.files import Config
from tenet.config.sections import LabelCrops, Params, StackCrops, Vibration
from tenet.data.augmentation import clear_margin, draw_mask, draw_turn, turned
from tenet.data.labels import LabelVolumes
from tenet.data.recordings import (
    Recording,
    align_recording,
    find_recordings,
    read_selected,
    split_recordings,
    voxel_of,
)
from tenet.data.value_range import ValueRange

Array = NDArray[np.float32]
_TRIES = 10


@dataclass(frozen=True)
class Crop:
    """What one pass of JNet starts from; volumes are (1, Z, Y, X).

    Attributes
    ----------
    source
        The file.
    mask
        Of the image: 0 where the network is not shown it.
    shifts
        (slices, 2), displacement of the image's slices in pixels, (y, x); ``None``: none.
    """

    source: str
    mask: Tensor
    shifts: Tensor | None


@dataclass(frozen=True)
class LabelCrop(Crop):
    """A crop whose image is yet to be made.

    Attributes
    ----------
    labelx, labelz
        Structure and brightness.
    noise_seed
        Of the image's noise.
    """

    labelx: Tensor
    labelz: Tensor
    noise_seed: int


@dataclass(frozen=True)
class RecordingCrop(Crop):
    """A crop of a recording.

    Attributes
    ----------
    image
        From 0 to 1.
    """

    image: Tensor


C = TypeVar("C", bound=Crop, covariant=True)


class Crops(Protocol[C]):
    """Where crops come from."""

    data: LabelCrops | StackCrops
    number: int

    def draw(self, rng: np.random.Generator) -> C:
        """Draw a crop."""

    def begin_epoch(self, epoch: int) -> None:
        """Take note of the epoch, from 0."""


class _Augmented:
    """Masks and vibration, which both kinds share."""

    def __init__(self, data: LabelCrops | StackCrops, vibration: Vibration | None) -> None:
        self.data = data
        self.number = data.I
        self._vibration = vibration
        self._strength: Strength | None = None
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Let vibration be as strong as in that epoch."""
        if self._vibration is not None:
            self._strength = strength_at(self._vibration, epoch)

    def _augmentation(self, rng: np.random.Generator) -> tuple[Tensor, int, Tensor | None]:
        """Draw a mask, a seed of the noise, and shifts."""
        return self._mask(rng), int(rng.integers(2**31)), self._shifts(rng)

    def _mask(self, rng: np.random.Generator) -> Tensor:
        data = self.data
        number = data.mask_num if data.mask else 0
        mask = draw_mask(data.image_crop, number, data.mask_size, rng)
        if data.surround:
            z, y, x = data.surround_size
            clear_margin(mask, (z // data.scale, y, x))
        return torch.from_numpy(mask)[None]

    def _shifts(self, rng: np.random.Generator) -> Tensor | None:
        if self._strength is None:
            return None
        return torch.from_numpy(draw_shifts(self._strength, self.data.image_crop[0], rng))


class PhantomCrops(_Augmented):
    """Crops of labelled volumes, turned and flipped at random.

    Parameters
    ----------
    data
        Which volumes, how large the crops, and what is masked.
    turn
        Whether to turn and flip.
    vibration
        How slices are displaced; ``None``: not.
    """

    def __init__(self, data: LabelCrops, *, turn: bool, vibration: Vibration | None = None) -> None:
        super().__init__(data, vibration)
        self._volumes = LabelVolumes(data)
        self._turn = turn

    def draw(self, rng: np.random.Generator) -> LabelCrop:
        """Draw a crop at a uniform place."""
        index, corner = self._volumes.draw(rng)
        x, z = self._volumes.read(index, corner)
        if self._turn:
            turn = draw_turn(rng, square=x.shape[1] == x.shape[2])
            x, z = turned(x, turn), turned(z, turn)
        labelx, labelz = (torch.from_numpy(np.ascontiguousarray(v))[None] for v in (x, z))
        mask, seed, shifts = self._augmentation(rng)
        return LabelCrop(self._volumes.files[index].name, mask, shifts, labelx, labelz, seed)


def label_crops(config: Config, *, vibrate: bool) -> tuple[PhantomCrops, PhantomCrops]:
    """Return crops of labels, to train with and to validate with."""
    vibration = config.vibration if vibrate else None
    return (
        PhantomCrops(config.labels("pretrain_dataset"), turn=True, vibration=vibration),
        PhantomCrops(config.labels("pretrain_val_dataset"), turn=False),
    )


class RecordingCrops(_Augmented):
    """Crops of recorded stacks that are not mostly dark.

    A crop is taken if its mean is at least the stack's; of ten that are not, the brightest.

    Parameters
    ----------
    data
        Which stacks, how large the crops, and what is masked.
    left_out
        Ends of the stems of files that are kept for the test.
    vibration
        How slices are displaced; ``None``: not.
    align, alignment
        Whether the stacks' slices are aligned first, and by which network; by default by the one
        that ships.
    value_range, selection
        See `read_recording`.
    shrink
        Whether crops are as large as the smallest stack, where that is smaller.

    Raises
    ------
    UserError
        If a file cannot be used, see `read_recording`, or is smaller than a crop.
    """

    def __init__(
        self,
        data: StackCrops,
        left_out: tuple[str, ...],
        vibration: Vibration | None = None,
        *,
        align: bool = False,
        alignment: DeepAlignNet | None = None,
        value_range: ValueRange | None = None,
        selection: Selection = WHOLE_FILE,
        shrink: bool = False,
    ) -> None:
        super().__init__(data, vibration)
        files = find_recordings(Path(data.folderpath), left_out=left_out)
        files = split_recordings(files, train=data.train)
        self.stacks = [read_selected(path, selection, value_range=value_range) for path in files]
        if align:
            model = alignment or shipped_alignment()
            self.stacks = [align_recording(stack, model) for stack in self.stacks]
        if shrink:
            shapes = (stack.volume.shape for stack in self.stacks)
            planes, rows, columns = map(min, zip(*shapes, data.image_crop, strict=True))
            self.data = data = data.model_copy(
                update={"cropsize": (planes * data.scale, rows, columns)}
            )
        for stack in self.stacks:
            if any(n < c for n, c in zip(stack.volume.shape, data.image_crop, strict=True)):
                raise UserError(
                    f"{stack.path}: {stack.volume.shape} voxels, the crop of the image is "
                    f"{data.image_crop}: lower cropsize"
                )

    def draw(self, rng: np.random.Generator) -> RecordingCrop:
        """Draw a crop."""
        stack = self.stacks[int(rng.integers(len(self.stacks)))]
        crop = self.draw_from(stack, rng)
        mask, _, shifts = self._augmentation(rng)
        return RecordingCrop(stack.path.name, mask, shifts, torch.from_numpy(crop)[None])

    def draw_from(self, stack: Recording, rng: np.random.Generator) -> Array:
        """Draw the values of a crop (Z, Y, X) of a stack."""
        best, brightest = stack.volume, -1.0
        for _ in range(_TRIES):
            box = []
            for n, side in zip(stack.volume.shape, self.data.image_crop, strict=True):
                first = int(rng.integers(n - side + 1))
                box.append(slice(first, first + side))
            crop = stack.volume[tuple(box)]
            mean = float(crop.mean())
            if mean > brightest:
                best, brightest = crop, mean
            if brightest >= float(stack.volume.mean()):
                break
        return best.copy()


def tell_voxels(stack: Recording, params: Params, use: str) -> None:
    """Say what the file of a recording does not tell, and warn of voxels of another size.

    Parameters
    ----------
    stack
        The recording.
    params
        Of the configuration, by which its voxels count.
    use
        What the configuration's voxels are for: ``by which it is measured``.
    """
    expected = (params.res_axial, params.res_lateral, params.res_lateral)
    told = f"{use}; resample it, or check the configuration"
    voxel_of(stack.path, stack.steps, expected, told)
