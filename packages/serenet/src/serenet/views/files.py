"""The user's inputs: files and folders of view stacks."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.errors import Page, UserError
from scopekit.images.files import (
    IMAGE_SUFFIXES,
    TIFF_SUFFIXES,
    WHOLE_FILE,
    Selection,
    StackFile,
    is_zarr,
    open_stack,
    stack_stem,
)
from scopekit.images.folder import open_folder_series
from scopekit.inputs import files_inside, find_inputs
from scopekit.progress import say
from serenet.views.scan import check_scanned

# Of cameras. Programs write pages that they know nothing about as channels: as many as the
# microscope has views, and more than these, can be nothing else.
_MOST_CHANNELS = 7
# Relative range of a view that holds nothing but rounding; noise alone is more.
_UNIFORM = 1e-5


def find_stacks(inputs: Iterable[Path], *, folders_are_series: bool = False) -> list[Path]:
    """Return the view stacks among the inputs, see `scopekit.inputs.find_inputs`."""
    return find_inputs(inputs, IMAGE_SUFFIXES, _is_result, folders_are_series=folders_are_series)


def _is_result(path: Path, stems: Collection[str]) -> bool:
    stem = stack_stem(path)
    return stem.rpartition("_")[0] in stems and (path.parent / f"{stem}.yaml").exists()


def require_tiff(out: Path) -> None:
    """Raise `UserError` if a view stack is to be written under a name that is not a TIFF's."""
    if out.suffix.lower() not in TIFF_SUFFIXES:
        raise UserError(f"{out}: view stacks are TIFF; give a name ending in .tif")


def open_views(
    path: Path, microscope: LightFieldMicroscope, selection: Selection = WHOLE_FILE
) -> tuple[StackFile, list[int]]:
    """Inspect a view stack and say which of its pages are the microscope's views.

    Parameters
    ----------
    path
        (A, h, w) or (T, A, h, w), A = all n_num^2 views or the microscope's subset; or a folder, a
        series of the stacks inside.
    microscope
        The microscope, its views in the order wanted.
    selection
        Which channel and position are meant, where there are several.

    Raises
    ------
    UserError
        If the number of pages fits neither, or a file cannot be used, see
        `scopekit.images.files.open_stack`.
    """
    n_all, n_subset = microscope.n_num**2, len(microscope.views)
    n_views = tuple(n for n in (n_all, n_subset) if n > _MOST_CHANNELS)
    selection = replace(selection, n_views=n_views)
    is_series = path.is_dir() and not is_zarr(path)
    if is_series:
        stack: StackFile = open_folder_series(
            path, files_inside(path, IMAGE_SUFFIXES, _is_result), selection
        )
    else:
        stack = open_stack(path, selection, single_image=True)
    return stack, pages_of_views(stack.shape[-3], microscope, str(path))


def pages_of_views(n_pages: int, microscope: LightFieldMicroscope, name: str) -> list[int]:
    """Return which pages of a stack are the microscope's views.

    Parameters
    ----------
    n_pages
        All n_num^2 views, or the microscope's.
    microscope
        The microscope, its views in the order wanted.
    name
        Of the stack.

    Raises
    ------
    UserError
        If it is another number.
    """
    n_all, n_subset = microscope.n_num**2, len(microscope.views)
    if n_pages == n_all:
        return list(microscope.views)
    if n_pages == n_subset:
        return list(range(n_subset))
    if n_pages == 1:
        raise UserError(
            f"{name}: a single 2D image, no views; a raw camera frame goes through `serenet "
            "rectify` first",
            page=Page.rectifying,
        )
    if n_subset == n_all:
        raise UserError(
            f"{name}: {n_pages} views; all {n_all} of this microscope are needed: give them, or "
            "the name, the YAML file or the PSF of the microscope that recorded them",
            page=Page.microscope,
        )
    raise UserError(
        f"{name}: {n_pages} views; this microscope has {n_all}, of which {n_subset} are used: give "
        "all or those, or the name, the YAML file or the PSF of the microscope that recorded them",
        page=Page.microscope,
    )


def open_scanned(path: Path, selection: Selection = WHOLE_FILE) -> StackFile:
    """Inspect a stack of any views of a 3 x 3 scan; a single 2D image is a stack of one.

    Parameters
    ----------
    path
        (A, Y, X), (T, A, Y, X) or (Y, X).
    selection
        Which channel and position are meant, where there are several.

    Raises
    ------
    UserError
        If the sides of the views are not multiples of 3.
    """
    stack = open_stack(path, selection, single_image=True)
    check_scanned(stack.shape, str(path))
    return stack


def warn_if_dark(stack: StackFile, views: Tensor) -> None:
    """Say so if nothing is left of views after their background was subtracted."""
    if float(views.max()) <= 0:
        say(f"warning: {stack.path}: no view is brighter than the background; nothing to be seen")


def warn_if_uniform(stack: StackFile, views: Tensor) -> None:
    """Say so if recorded views (A, h, w) hold nothing: every one is of one brightness all over."""
    least, most = views.amin((1, 2)), views.amax((1, 2))
    if float(most.max()) > 0 and bool((most - least <= _UNIFORM * most.abs()).all()):
        say(
            f"warning: {stack.path}: every view is of one brightness all over; a radiometry frame "
            "rectified as if it were a sample?"
        )


def read_views(stack: StackFile, pages: list[int], frame: int = 0) -> Tensor:
    """Read the wanted views of one time point: (A, h, w), float32.

    Or float64, where float32 does not hold the numbers: an offset of 2^30 leaves it no digits.
    """
    if np.can_cast(stack.dtype, np.float32):
        return torch.from_numpy(stack.read(frame)[pages])
    views = np.stack([page.astype(np.float64) for page in stack.stored(pages, frame=frame)])
    if not float(np.abs(views).max()) < np.finfo(np.float32).max:
        raise UserError(
            f"{stack.frame_name(frame)}: NaN or infinite values; replace them by numbers first",
            page=Page.files,
        )
    return torch.from_numpy(views)
