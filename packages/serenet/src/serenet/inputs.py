"""The user's inputs: files and folders of view stacks."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from optics import LightFieldPreset
from scopekit.errors import UserError
from scopekit.folder_series import open_folder_series
from scopekit.progress import say
from scopekit.volumes import StackFile, is_zarr, open_frames, open_stack, stack_stem
from serenet.scan import check_scanned

_SUFFIXES = (".tif", ".tiff")


def find_stacks(inputs: Iterable[Path], *, folders_are_series: bool = False) -> list[Path]:
    """Return the files, and the view stacks inside the folders, in order, each once.

    A Zarr store counts as a file; other folders stay as they are if they are series.

    Raises
    ------
    UserError
        If an input is missing, a folder holds no stack, or two results would share a name.
    """
    files: list[Path] = []
    for item in inputs:
        if item.is_dir() and not is_zarr(item):
            found = _stacks_in(item)
            if not found:
                raise UserError(f"{item}: no .tif, .tiff or .zarr in this folder")
            files += [item] if folders_are_series else found
        elif item.exists():
            files.append(item)
        else:
            raise UserError(f"{item}: no such file or folder; check the path")
    files = list(dict.fromkeys(files))
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(stack_stem(file), file)
        if other is not file:
            raise UserError(f"{other} and {file} would give results of one name; rename one")
    return files


def _stacks_in(folder: Path) -> list[Path]:
    """Return the stacks of a folder, without results of earlier runs from files in it."""
    stacks = sorted(
        f
        for f in folder.iterdir()
        if f.suffix.lower() in (*_SUFFIXES, ".zarr") and not f.name.startswith(".")
    )
    stems = {stack_stem(f) for f in stacks}
    return [
        f
        for f in stacks
        if stack_stem(f).rpartition("_")[0] not in stems
        or not (folder / f"{stack_stem(f)}.yaml").exists()
    ]


def require_tiff(out: Path) -> None:
    """Raise `UserError` if a view stack is to be written under a name that is not a TIFF's."""
    if out.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{out}: view stacks are TIFF; give a name ending in .tif")


def open_views(path: Path, preset: LightFieldPreset) -> tuple[StackFile, list[int]]:
    """Inspect a view stack and say which of its pages are the preset's views.

    Parameters
    ----------
    path
        (A, h, w) or (T, A, h, w), A = all n_num^2 views or the preset's subset; or a folder, a
        series of the stacks inside.
    preset
        The microscope, its views in the order wanted.

    Raises
    ------
    UserError
        If the number of pages fits neither.
    """
    is_series = path.is_dir() and not is_zarr(path)
    stack = open_folder_series(path, _stacks_in(path)) if is_series else open_stack(path)
    n_pages, n_all, n_subset = stack.shape[-3], preset.n_num**2, len(preset.views)
    if n_pages == n_all:
        return stack, list(preset.views)
    if n_pages == n_subset:
        return stack, list(range(n_subset))
    if n_subset == n_all:
        raise UserError(
            f"{path}: {n_pages} views; all {n_all} of this microscope are needed: give them, or "
            "the --preset or PSF of the microscope that recorded them"
        )
    raise UserError(
        f"{path}: {n_pages} views; this microscope has {n_all}, of which {n_subset} are used: give "
        "all or those, or the --preset or PSF of the microscope that recorded them"
    )


def open_scanned(path: Path) -> StackFile:
    """Inspect a stack of any views of a 3 x 3 scan; a single 2D image is a stack of one.

    Raises
    ------
    UserError
        If the sides of the views are not multiples of 3.
    """
    stack = open_frames(path)
    stack = open_stack(path) if stack.n_frames > 1 else replace(stack, shape=stack.shape[1:])
    check_scanned(stack.shape, str(path))
    return stack


def warn_if_dark(stack: StackFile, views: Tensor) -> None:
    """Say so if nothing is left of views after their background was subtracted."""
    if float(views.max()) <= 0:
        say(f"warning: {stack.path}: no view is brighter than the background; nothing to be seen")


def read_views(stack: StackFile, pages: list[int], frame: int = 0) -> Tensor:
    """Read the wanted views of one time point: (A, h, w), float32."""
    return torch.from_numpy(stack.read(frame)[pages])
