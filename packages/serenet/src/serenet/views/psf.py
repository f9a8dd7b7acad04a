"""The PSF and the PSF shift of views: from a file, or computed, so that it need not fit in memory.

The PSF comes one view at a time; the shift is where the light of each view's points goes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optics import LightFieldMicroscope, PSFFile, presets, psf_shift
from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.progress import say
from serenet.views.kept_psf import ComputedPSF
from serenet.views.microscope import (
    microscope_for_model,
    open_psf_file,
    preset_of,
    require_depths,
    require_same_microscope,
    require_views,
)

TOGETHER = 3
"""Most views that are taken at a time."""

ViewPSF = Callable[[int], Tensor]
"""``view_psf(channel)`` gives (1, D, h, w) for a channel of the microscope's views."""


def psf_of_views(
    psf: Path | None, told: LightFieldMicroscope | None
) -> tuple[ViewPSF, LightFieldMicroscope]:
    """Return the PSF of single views, and the microscope with the views and depths of it.

    Parameters
    ----------
    psf
        PSF file, or ``None`` to compute it.
    told
        The microscope; may be ``None`` if the file tells it.

    Raises
    ------
    UserError
        If there is neither, or they do not fit each other.
    """
    if psf is None:
        if told is None:
            raise UserError("give the PSF as a file, or the microscope to compute it for")
        return ComputedPSF(told), told
    file = open_psf_file(psf, told)
    require_same_microscope(file, told)
    # A file of all views serves for those of the microscope.
    microscope = told or file.microscope or microscope_for_model(file.n_views)
    if file.microscope is not None:
        microscope = microscope.with_depths(file.microscope.depths_um)
        microscope = microscope.with_voxels_a_lens(file.microscope.voxels_a_lens)
    channels = channels_of(file, microscope.views)
    require_depths(psf, file.n_depths, microscope)
    return _from_file(file, channels), microscope


def view_groups(microscope: LightFieldMicroscope) -> list[list[int]]:
    """Return the channels that deconvolution takes at a time, in the order that it takes them.

    Of a scanned light field one each, the most oblique first. Of an unscanned one three, spread
    over the aperture: one view alone prints the grid of its samples, one a lens, into every plane.
    """
    order = microscope.oblique_first
    count = len(order) if microscope.scanning > 1 else -(-len(order) // TOGETHER)
    return [order[first::count] for first in range(count)]


def _from_file(file: PSFFile, channels: list[int]) -> ViewPSF:
    def view_psf(channel: int) -> Tensor:
        return file.read([channels[channel]])

    return view_psf


def shift_for_model(
    n_views: int | None, psf: Path | None, shift: Path | None, told: LightFieldMicroscope | None
) -> tuple[Tensor, LightFieldMicroscope]:
    """Find the PSF shift for a network: from a PSF file, a table, or computed from the optics.

    Parameters
    ----------
    n_views
        Views that the network takes; ``None``: any number, those of the microscope.
    psf
        PSF file, or ``None``.
    shift
        Table (A, D, 2) in object pixels, ``.pt`` or ``.npy``, or ``None``.
    told
        The microscope, or ``None`` to take it from the PSF file or the number of views.

    Returns
    -------
    tuple
        The shift (A, D, 2) in object pixels, and the microscope with the depths of the volume
        and the network's views.

    Raises
    ------
    UserError
        If they do not fit each other.
    """
    if psf is not None and shift is not None:
        raise UserError(f"{psf} and {shift}: a PSF and a PSF shift; give one of them")
    if n_views is None:
        n_views = len(_views_usually_used(psf, told))
    if psf is not None:
        return _shift_from_psf(n_views, open_psf_file(psf, told), told)
    microscope = told or microscope_for_model(n_views)
    require_views(microscope, n_views)
    if shift is None:
        name = next((n for n, p in presets.items() if p == microscope), "the microscope given")
        say(f"no PSF given: computing the PSF shift for the optics of {name}")
        return _computed_shift(microscope), microscope
    table = read_shift_table(shift)
    if table.shape[0] != n_views:
        raise UserError(f"{shift}: {table.shape[0]} views; the checkpoint takes {n_views}")
    require_depths(shift, table.shape[1], microscope)
    return table, microscope


def _views_usually_used(psf: Path | None, told: LightFieldMicroscope | None) -> tuple[int, ...]:
    if told is not None:
        return told.views
    microscope = open_psf_file(psf).microscope if psf else None
    if microscope is None:
        raise UserError(
            "the network does not tell its microscope: give that, or a PSF file that tells it"
        )
    # A PSF file may hold all views.
    return (preset_of(microscope) or microscope).views


def _computed_shift(microscope: LightFieldMicroscope) -> Tensor:
    """Return the PSF shift without holding the PSF of all views."""
    view_psf = ComputedPSF(microscope)
    return torch.cat([psf_shift(view_psf(a)) for a in range(len(microscope.views))])


def _shift_from_psf(
    n_views: int, file: PSFFile, told: LightFieldMicroscope | None
) -> tuple[Tensor, LightFieldMicroscope]:
    require_same_microscope(file, told)
    microscope = file.microscope or told or microscope_for_model(n_views)
    if told is None:
        wanted = _views_for_network(n_views, file, microscope)
    else:
        require_views(told, n_views)
        wanted = told.views
    require_depths(file.path, file.n_depths, microscope)
    return file.read_shift(channels_of(file, wanted)), microscope.with_views(wanted)


def _views_for_network(
    n_views: int, file: PSFFile, microscope: LightFieldMicroscope
) -> tuple[int, ...]:
    """Return the views in the network's channel order: a preset's, or else the file's."""
    preset = preset_of(microscope)
    for views in (preset.views if preset else (), microscope.views):
        if len(views) == n_views and set(views) <= set(file.views or views):
            return views
    raise UserError(
        f"{file.path}: a PSF of {file.n_views} views (n_num {microscope.n_num}); the checkpoint "
        f"takes {n_views}: give the PSF of the checkpoint's microscope, or name the views in a "
        "YAML file of the microscope"
    )


def channels_of(file: PSFFile, wanted: tuple[int, ...]) -> list[int]:
    """Return the file's channels that are the wanted views."""
    if file.views is None and file.n_views == len(wanted):
        return list(range(file.n_views))  # the file does not tell: taken to be in order
    names = file.views or ()
    missing = [a for a in wanted if a not in names]
    if missing:
        raise UserError(
            f"{file.path}: a PSF of {file.n_views} views; of the {len(wanted)} needed, "
            f"{len(missing)} are not in it (make it with 'serenet psf')"
        )
    return [names.index(a) for a in wanted]


def read_shift_table(path: Path) -> Tensor:
    """Read a PSF shift (A, D, 2) in object pixels from ``.npy`` or ``.pt``."""
    if path.suffix.lower() == ".npy":
        try:
            content: Any = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
        except FileNotFoundError as failure:
            raise UserError(f"{path}: no such file; check the path") from failure
        except (ValueError, OSError, EOFError, TypeError) as failure:
            raise UserError(f"{path}: not a NumPy array file, or damaged") from failure
    else:
        content = read_checkpoint(path)
    if not isinstance(content, Tensor) or content.dim() != 3 or content.shape[2] != 2:
        found = tuple(content.shape) if isinstance(content, Tensor) else type(content).__name__
        raise UserError(f"{path}: expected a PSF shift (views, depths, 2), found {found}")
    table: Tensor = content.float()
    if not torch.isfinite(table).all():
        raise UserError(f"{path}: the PSF shift holds NaN or infinite values")
    return table
