"""Labelled volumes as ``datagen`` writes them: ``NNNN_labelx.npy`` and ``NNNN_labelz.npy``."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from tenet.config.sections import LabelCrops

Array = NDArray[np.float32]


class LabelVolumes:
    """Structure (labelx, 0 or 1) and brightness (labelz, 0 to 1), read crop by crop.

    Parameters
    ----------
    data
        Folder, names and numbers of the volumes, and the crops' size.

    Raises
    ------
    UserError
        If a file is missing, damaged, of another shape than its partner, or smaller than a crop.
    """

    def __init__(self, data: LabelCrops) -> None:
        self._crop = data.cropsize
        folder = Path(data.folderpath)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; make the labels with datagen phantoms")
        names = [f"{number:04d}{data.labelname}" for number in range(data.low, data.high)]
        self.files = [folder / f"{name}x.npy" for name in names]
        self._pairs = [
            (open_label(folder / f"{name}x.npy"), open_label(folder / f"{name}z.npy"))
            for name in names
        ]
        for path, (x, z) in zip(self.files, self._pairs, strict=True):
            if x.shape != z.shape:
                raise UserError(f"{path}: {x.shape}, its labelz {z.shape}; make both anew")
            if any(n < side for n, side in zip(x.shape, self._crop, strict=True)):
                raise UserError(f"{path}: {x.shape}, the crop is {self._crop}: lower cropsize")

    def __len__(self) -> int:
        return len(self._pairs)

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        """Draw a volume and the corner of a crop, uniformly."""
        index = int(rng.integers(len(self)))
        sizes = zip(self._pairs[index][0].shape, self._crop, strict=True)
        z, y, x = (int(rng.integers(n - side + 1)) for n, side in sizes)
        return index, (z, y, x)

    def read(self, index: int, corner: tuple[int, int, int]) -> tuple[Array, Array]:
        """Return a crop (Z, Y, X) of labelx and of labelz."""
        box = tuple(slice(c, c + side) for c, side in zip(corner, self._crop, strict=True))
        x, z = (np.array(label[box], dtype=np.float32) for label in self._pairs[index])
        for name, label in (("labelx", x), ("labelz", z)):
            if not (np.isfinite(label).all() and label.min() >= 0 and label.max() <= 1):
                raise UserError(f"{self.files[index]}: {name} is not within 0 to 1; make it anew")
        return x, z


def open_label(path: Path) -> NDArray:
    """Map a label (Z, Y, X), stored so or as (1, Z, Y, X); raise `UserError` if it is none."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as failure:
        raise UserError(
            f"{path}: no such file; check folderpath, labelname, low and high, or make the labels "
            "with datagen phantoms"
        ) from failure
    except (OSError, ValueError, EOFError) as failure:
        raise UserError(f"{path}: not a label, or damaged; make it anew") from failure
    shape = array.shape
    if (
        array.dtype.kind not in "fui"
        or len(shape) not in (3, 4)
        or (len(shape) == 4 and shape[0] != 1)
    ):
        raise UserError(f"{path}: shape {shape} of {array.dtype}; allowed: numbers (1, Z, Y, X)")
    label: NDArray = array.reshape(shape[-3:])
    return label
