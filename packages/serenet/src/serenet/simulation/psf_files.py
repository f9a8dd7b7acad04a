"""PSF files from the optics of a microscope."""

import os
from collections.abc import Sequence
from pathlib import Path

from optics import LightFieldMicroscope, lateral_band_limit, phase_space_psf, write_psf
from scopekit.errors import UserError
from scopekit.outputs import require_new, require_space, whole_file
from serenet.views.kept_psf import ComputedPSF
from serenet.views.microscope import load_microscope

_TOLD_DEPTHS = 6
_HDF5_OVERHEAD = 2**16


def make_psf(
    microscope: str,
    out: Path,
    *,
    all_views: bool,
    n_depths: int | None,
    size: int | None,
    overwrite: bool,
    aberrations: Sequence[str] = (),
) -> LightFieldMicroscope:
    """Compute a phase-space PSF and write it with its shift as HDF5.

    Parameters
    ----------
    microscope
        Name of a preset, or YAML file of the microscope.
    out
        The ``.h5`` file.
    all_views
        All n_num^2 views instead of the microscope's.
    n_depths
        Keep this many planes around the middle of the microscope's range.
    size
        Lateral support in object pixels; default: the microscope's ``psf_size``.
    overwrite
        Whether to replace an existing file.
    aberrations
        ``NAME=WAVES`` each, see `optics.aberrations`.

    Returns
    -------
    LightFieldMicroscope
        The microscope with the views and depths of the file.
    """
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"{out}: PSF files are HDF5; give a name ending in .h5")
    resolved = load_microscope(microscope)
    coefficients = _read_aberrations(aberrations)
    require_new(out, overwrite=overwrite, inputs=[Path(microscope)])
    if n_depths is not None:
        resolved = resolved.with_middle_depths(n_depths)
    # What the views in use need: those beyond would make it much larger.
    size = size or resolved.psf_size
    if all_views:
        resolved = resolved.with_all_views()
    with whole_file(out, overwrite=overwrite) as partial:
        _take_space(partial, len(resolved.views) * len(resolved.depths_um) * size**2 * 4)
        if coefficients:
            psf = phase_space_psf(resolved, size=size, aberrations=coefficients)
        else:
            psf = ComputedPSF(resolved, size).whole()
        write_psf(partial, psf, resolved, coefficients)
    return resolved


def expected_detail(microscope: LightFieldMicroscope) -> str:
    """Return the finest lateral period at a few depths, in words (`optics.lateral_band_limit`)."""
    distances = sorted({abs(z) for z in microscope.depths_um})
    chosen = distances[:: max(len(distances) // _TOLD_DEPTHS, 1)]
    limits = lateral_band_limit(microscope, chosen)
    return ", ".join(f"{1 / f:.2g} at {z:g}" for f, z in zip(limits, chosen, strict=True))


def _read_aberrations(texts: Sequence[str]) -> dict[str, float]:
    coefficients: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in coefficients:
            raise UserError(f"`aberration={name}` is given twice; give it once")
        try:
            coefficients[name] = float(value)
        except ValueError as failure:
            raise UserError(
                f"`aberration={text}`: give NAME=WAVES, such as astigmatism=0.1"
            ) from failure
    return coefficients


def _take_space(path: Path, n_bytes: int) -> None:
    """Raise an error if the disk, or a quota, has no room for ``n_bytes``.

    HDF5 prints tracebacks of its own when that happens while it writes.
    """
    require_space(path.parent, n_bytes)
    with path.open("wb") as handle:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, n_bytes + _HDF5_OVERHEAD)
