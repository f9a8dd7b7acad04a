"""Which microscope a run is about: named, described by a YAML file, or told by a PSF file."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from optics import LightFieldMicroscope, OpticsError, PSFFile, open_psf, presets
from scopekit.errors import Page, UserError
from scopekit.progress import say
from scopekit.settings import read_named_settings

_SAMPLING_FIELDS = {"depths_um", "views", "voxels_a_lens", "z_direction"}


def load_microscope(name_or_file: str) -> LightFieldMicroscope:
    """Return the preset of that name, or the microscope described by a YAML file.

    Raises
    ------
    UserError
        Naming every wrong or missing key of the file.
    """
    return read_named_settings(name_or_file, presets, LightFieldMicroscope, Page.microscope)


def with_voxels(microscope: LightFieldMicroscope, count: int) -> LightFieldMicroscope:
    """Return the microscope with volumes of so many voxels a microlens side."""
    try:
        return microscope.with_voxels_a_lens(count)
    except OpticsError as failure:
        raise UserError(f"`supersample={count}`: {failure}") from failure


def open_psf_file(path: Path, told: LightFieldMicroscope | None = None) -> PSFFile:
    """Inspect a PSF file, see `optics.open_psf`; say what of it is not as a matter of course."""
    file = open_psf(path, told)
    if file.remark is not None:
        _say_once(file.remark)
    return file


@lru_cache(maxsize=64)
def _say_once(text: str) -> None:
    # A file is opened anew for every frame that is refined.
    say(text)


def microscope_for_model(n_views: int) -> LightFieldMicroscope:
    """Return the preset whose reconstruction uses ``n_views`` views."""
    for preset in presets.values():
        if len(preset.views) == n_views:
            return preset
    raise UserError(
        f"no preset uses {n_views} views; describe the microscope in a YAML file",
        page=Page.microscope,
    )


def same_microscope(a: LightFieldMicroscope, b: LightFieldMicroscope) -> bool:
    """Tell whether two microscopes differ in nothing but depths, views and voxels."""
    optics_a, optics_b = (m.model_dump(exclude=_SAMPLING_FIELDS) for m in (a, b))
    alike = (bool(np.isclose(optics_a[name], optics_b[name], rtol=1e-6)) for name in optics_a)
    return a.z_direction == b.z_direction and all(alike)


def preset_of(microscope: LightFieldMicroscope) -> LightFieldMicroscope | None:
    """Return the preset that differs in nothing but depths and views, ``None`` without one."""
    return next((p for p in presets.values() if same_microscope(p, microscope)), None)


def require_same_microscope(file: PSFFile, told: LightFieldMicroscope | None) -> None:
    """Raise `UserError` if a PSF file tells another microscope than the user."""
    if told and file.microscope and not same_microscope(told, file.microscope):
        raise UserError(
            f"{file.path}: the PSF of another microscope than the one named; give only one of them"
        )
    if told and not file.microscope and file.views and len(file.views) != told.n_num**2:
        side = round(len(file.views) ** 0.5)
        raise UserError(
            f"{file.path}: a PSF of {side} x {side} views; the microscope named has {told.n_num} x "
            f"{told.n_num} (n_num): give the PSF of that microscope, or the microscope of this PSF"
        )


def require_views(microscope: LightFieldMicroscope, n_views: int) -> None:
    """Raise `UserError` if the microscope has not the number of views that a network takes."""
    if len(microscope.views) != n_views:
        raise UserError(
            f"the checkpoint takes {n_views} views, the microscope names "
            f"{len(microscope.views)}: give the microscope that it was trained for",
            page=Page.microscope,
        )


def require_depths(path: Path, n_depths: int, microscope: LightFieldMicroscope) -> None:
    """Raise `UserError` if a file's number of depths is not the microscope's."""
    if n_depths != len(microscope.depths_um):
        raise UserError(
            f"{path}: {n_depths} depths; the microscope has {len(microscope.depths_um)}. "
            "Describe it, with the depths of this file, in a YAML file",
            page=Page.microscope,
        )


def microscope_of_views(
    n_views: int, n_depths: int, psf: Path | None, told: LightFieldMicroscope | None
) -> LightFieldMicroscope:
    """Find the microscope of a network that takes views and gives a fixed number of planes.

    Parameters
    ----------
    n_views, n_depths
        Of the network: all views of the microscope or those that it uses; planes.
    psf
        PSF file that tells the microscope, or ``None``.
    told
        The microscope, or ``None``.
    """
    if psf is not None:
        file = open_psf_file(psf, told)
        require_same_microscope(file, told)
        told = told or file.microscope
    candidates = presets.values() if told is None else (told,)
    fitting = [m for m in candidates if n_views in (len(m.views), m.n_num**2)]
    if not fitting:
        has = f", the microscope has {told.n_num**2} and uses {len(told.views)}" if told else ""
        raise UserError(
            f"the checkpoint takes {n_views} views{has}: give the microscope that it was trained "
            "for, by name or as a YAML file",
            page=Page.microscope,
        )
    found = fitting[0]
    if n_depths > len(found.depths_um):
        raise UserError(
            f"the checkpoint makes {n_depths} planes, the microscope has "
            f"{len(found.depths_um)}: give the microscope that it was trained for",
            page=Page.microscope,
        )
    if n_depths < len(found.depths_um):
        say(f"the network makes {n_depths} planes: taken to be those around the middle")
        found = found.with_middle_depths(n_depths)
    return found.with_all_views() if n_views == found.n_num**2 else found
