"""Views of a bubtub dataset: every view of a volume, some at a time, through the optics."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from optics import (
    LightFieldMicroscope,
    LightFieldOperator,
    PSFFile,
    open_psf,
    phase_space_psf,
    presets,
    sample_views,
)
from scopekit.errors import Page, UserError
from scopekit.progress import say
from scopekit.settings import read_named_settings

# They share the volume's transforms; more would share them better, and hold more memory.
_VIEWS_AT_ONCE = 13


@dataclass(frozen=True)
class ViewPSF:
    """The PSF of all views of a microscope, computed or read some views at a time.

    Attributes
    ----------
    microscope
        The microscope, with the depths of the PSF.
    file
        Where it is read from; ``None`` to compute it.
    """

    microscope: LightFieldMicroscope
    file: PSFFile | None = None

    def read(self, views: Sequence[int]) -> Tensor:
        """Return the PSF (A, D, h, w) of these views."""
        if self.file is None:
            return phase_space_psf(self.microscope, views=views)
        names = self.file.views or range(self.file.n_views)
        return self.file.read([names.index(a) for a in views])

    def settings(self) -> dict[str, Any]:
        """Return what tells this PSF and microscope from others, as plain values."""
        source = "computed from the optics"
        if self.file is not None:
            with self.file.path.open("rb") as handle:
                source = f"file of SHA-256 {hashlib.file_digest(handle, 'sha256').hexdigest()}"
        # Of the views all are made.
        return {"psf": source, **self.microscope.model_dump(mode="json", exclude={"views"})}


def find_psf(name_or_file: str | None, psf: Path | None) -> ViewPSF:
    """Return the PSF of a microscope, or of a file.

    Parameters
    ----------
    name_or_file
        Name of a microscope, or its YAML file; with a PSF file only if that does not tell its
        microscope.
    psf
        PSF file with all views, or ``None`` to compute it.

    Raises
    ------
    UserError
        If both or none are given, or the file lacks views.
    """
    told = None
    if name_or_file is not None:
        told = read_named_settings(name_or_file, presets, LightFieldMicroscope, Page.microscope)
    if psf is None:
        if told is None:
            raise UserError(
                f"give the microscope ({', '.join(presets)}, or a YAML file), or a PSF file"
            )
        return ViewPSF(told)
    file = open_psf(psf, told)
    if file.remark is not None:
        say(file.remark)
    if told is not None and file.microscope is not None:
        raise UserError(f"{psf} tells its microscope: do not name it as well")
    microscope = told or file.microscope
    if microscope is None:
        raise UserError(f"{psf} does not tell its microscope: name it as well")
    missing = set(range(microscope.n_num**2)) - set(file.views or range(file.n_views))
    if missing:
        raise UserError(
            f"{psf}: a PSF of {file.n_views} views, all {microscope.n_num**2} are needed; make "
            "it with 'serenet psf ... --views all'"
        )
    if file.n_depths != len(microscope.depths_um):
        raise UserError(
            f"{psf}: {file.n_depths} depths, the microscope has {len(microscope.depths_um)}; "
            "make the PSF with 'serenet psf', which stores its depths"
        )
    return ViewPSF(microscope, file)


def plan_batches(n_num: int) -> list[list[int]]:
    """Return all views in batches, those of one PSF but for mirroring and turning together."""
    middle = n_num // 2

    def octant(view: int) -> tuple[int, int]:
        u, v = (abs(n - middle) for n in divmod(view, n_num))
        return max(u, v), min(u, v)

    views = sorted(range(n_num**2), key=octant)
    return [views[i : i + _VIEWS_AT_ONCE] for i in range(0, len(views), _VIEWS_AT_ONCE)]


def project(volume: Tensor, psf: Tensor, microscope: LightFieldMicroscope) -> NDArray[np.uint16]:
    """Return recorded views (A, h, w) of a volume (D, H, W), rounded and clipped.

    Scanned light fields are resized with antialiasing to ``scanning`` samples a microlens, those
    without scanning are sampled at the lens centres.
    """
    images = LightFieldOperator(psf).forward(volume)
    if microscope.scanning == 1:
        centre = microscope.n_num // 2
        recorded = images[:, centre :: microscope.n_num, centre :: microscope.n_num]
    else:
        recorded = sample_views(images, microscope.lateral_scale)
    return recorded.round().clamp(0, 65535).cpu().numpy().astype(np.uint16)
