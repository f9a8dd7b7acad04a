"""Volumes to learn from where there is no truth: deconvolved light fields, kept on the disk."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.images.files import StackFile, open_stack, write_volume
from scopekit.outputs import make_folder
from scopekit.progress import progress_bar
from scopekit.settings import read_yaml, write_yaml
from serenet.api.volumes import deconvolve
from serenet.training.crops import TrainingData
from serenet.training.sections import Teacher
from serenet.views.brightness import subtract_background

_SETTINGS = "teacher.yaml"


def write_teachers(
    folder: Path,
    data: TrainingData,
    microscope: LightFieldMicroscope,
    psf: Tensor,
    settings: Teacher,
) -> None:
    """Deconvolve light fields into ``folder``, except those that are there already.

    Light fields that have a volume are left out, unless ``settings.everywhere``.

    Parameters
    ----------
    folder
        Where to; volumes there that were made in another way are replaced.
    data
        The light fields.
    microscope
        The microscope, with the views and depths of the network.
    psf
        (A, D, H, W) of these.
    settings
        How to deconvolve.

    Raises
    ------
    UserError
        If the disk is full.
    """
    make_folder(folder)
    made_by = _made_by(data, microscope, psf, settings)
    kept = folder / _SETTINGS
    if not kept.exists() or read_yaml(kept) != made_by:
        for old in folder.glob("field*.tif"):
            old.unlink()
        write_yaml(kept, made_by, overwrite=True)
    missing = [n for n in _untaught(data, settings) if not _file(folder, n).exists()]
    if not missing:
        return
    with progress_bar("deconvolving what to learn from", len(missing)) as advance:
        for index in missing:
            views = subtract_background(torch.from_numpy(data.field(index)))
            volume = deconvolve(views.to(psf.device), psf, settings.sweeps, microscope=microscope)
            taught = volume.cpu().numpy()
            write_volume(_file(folder, index), taught, microscope.voxel_um, overwrite=True)
            advance()


def open_teachers(folder: Path, data: TrainingData, settings: Teacher) -> list[StackFile | None]:
    """Return the volumes that `write_teachers` left, in the order of the light fields."""
    taught = set(_untaught(data, settings))
    return [open_stack(_file(folder, n)) if n in taught else None for n in range(len(data))]


def _untaught(data: TrainingData, settings: Teacher) -> list[int]:
    fields = enumerate(data.fields)
    return [n for n, field in fields if settings.everywhere or field.volume is None]


def _file(folder: Path, index: int) -> Path:
    return folder / f"field{index:05d}.tif"


def _made_by(
    data: TrainingData, microscope: LightFieldMicroscope, psf: Tensor, settings: Teacher
) -> dict[str, Any]:
    """Return what the volumes depend on, as plain values."""
    sources = []
    for field in data.fields:
        about = field.views.path.stat()
        sources.append([field.source, about.st_size, about.st_mtime_ns])
    return {
        **settings.model_dump(mode="json"),
        "microscope": microscope.model_dump(mode="json"),
        "psf": [list(psf.shape), float(psf.double().square().sum())],
        "light_fields": sources,
    }
