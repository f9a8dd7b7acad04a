"""Volumes that other programs made of the images, to be measured beside ours."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scopekit.errors import UserError
from scopekit.images.files import SUFFIXES, is_zarr, stack_stem
from tenet.array_kinds import Array
from tenet.data.recordings import fold_folder, open_recording


@dataclass(frozen=True)
class OtherVolumes:
    """What another program made, a file for each image.

    Attributes
    ----------
    name
        Of the program: CARE, say.
    path
        The folder, or the only file.
    """

    name: str
    path: Path

    def of_fold(self, fold: str | None) -> "OtherVolumes":
        """Return the volumes of a fold of a cross-validation, where they lie apart."""
        apart = fold_folder(self.path, fold)
        return replace(self, path=apart) if apart.exists() else self

    def find(self, image: str) -> Path:
        """Return the file of an image: ``IMAGE.tif``, or what goes on with no letter or digit.

        Raises
        ------
        UserError
            If there is none, or several.
        """
        if self.path.is_file() or is_zarr(self.path):
            return self.path
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such file or folder; check what {self.name} wrote")
        files = sorted(p for p in self.path.iterdir() if p.suffix.lower() in SUFFIXES)
        same = [path for path in files if stack_stem(path) == image]
        begun = [path for path in files if _goes_on(stack_stem(path), image)]
        found = same or begun
        if len(found) != 1:
            number = "no file" if not found else f"{len(found)} files"
            raise UserError(
                f"{self.path}: {number} of {self.name} for the image {image}; name one "
                f"{image}.tif or {image}_{self.name}.tif"
            )
        return found[0]

    def read(self, image: str, shape: tuple[int, ...]) -> Array:
        """Return the volume of an image, as stored.

        Raises
        ------
        UserError
            If it cannot be read, is of another shape, or holds NaN.
        """
        path = self.find(image)
        file = open_recording(path)
        if file.shape != shape:
            raise UserError(
                f"{path}: {file.shape} voxels, the result has {shape}; resample it to that"
            )
        volume: Array = file.planes(0, 0, file.shape[0]).astype(np.float32)
        if not np.isfinite(volume).all():
            raise UserError(f"{path}: holds NaN or infinite values; make it anew")
        return volume


def _goes_on(stem: str, image: str) -> bool:
    return stem.startswith(image) and not stem[len(image) : len(image) + 1].isalnum()


def parse_others(texts: Iterable[str]) -> tuple[OtherVolumes, ...]:
    """Return what texts ``NAME=FOLDER`` name; raise `UserError` if one is no such text."""
    found = []
    for text in texts:
        name, _, path = text.partition("=")
        if not (name and path):
            raise UserError(f"{text}: give NAME=FOLDER, such as CARE=care_results")
        found.append(OtherVolumes(name, Path(path)))
    return tuple(found)
