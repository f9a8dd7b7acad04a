"""PSF files from the optics of a microscope."""

import os
from collections.abc import Sequence
from pathlib import Path

from optics import LightFieldPreset, phase_space_psf, write_psf
from scopekit.errors import UserError
from scopekit.outputs import require_new, require_space, whole_file
from serenet.views.microscope import load_preset

_HDF5_OVERHEAD = 2**16


def make_psf(
    preset_or_file: str,
    out: Path,
    *,
    all_views: bool,
    n_depths: int | None,
    size: int | None,
    overwrite: bool,
    aberrations: Sequence[str] = (),
) -> LightFieldPreset:
    """Compute a phase-space PSF and write it with its shift as HDF5.

    Parameters
    ----------
    preset_or_file
        Name of a preset or YAML file of the optics.
    out
        The ``.h5`` file.
    all_views
        All n_num^2 views instead of the preset's.
    n_depths
        Keep this many planes around the middle of the preset's range.
    size
        Lateral support in object pixels; default: the preset's ``psf_size``.
    overwrite
        Whether to replace an existing file.
    aberrations
        ``NAME=WAVES`` each, see `optics.aberrations`.

    Returns
    -------
    LightFieldPreset
        The microscope with the views and depths of the file.
    """
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"{out}: PSF files are HDF5; give a name ending in .h5")
    preset = load_preset(preset_or_file)
    coefficients = _read_aberrations(aberrations)
    require_new(out, overwrite=overwrite)
    if n_depths is not None:
        if n_depths > len(preset.depths_um):
            raise UserError(
                f"--depths {n_depths}: the preset has {len(preset.depths_um)}; give fewer"
            )
        preset = preset.with_middle_depths(n_depths)
    views = tuple(range(preset.n_num**2)) if all_views else preset.views
    resolved = preset.model_copy(update={"views": views})
    size = size or preset.psf_size
    with whole_file(out, overwrite=overwrite) as partial:
        _take_space(partial, len(views) * len(resolved.depths_um) * size**2 * 4)
        psf = phase_space_psf(resolved, size=size, aberrations=coefficients)
        write_psf(partial, psf, resolved, coefficients)
    return resolved


def _read_aberrations(texts: Sequence[str]) -> dict[str, float]:
    coefficients: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in coefficients:
            raise UserError(f"--aberration {name} is given twice; give it once")
        try:
            coefficients[name] = float(value)
        except ValueError as failure:
            raise UserError(
                f"--aberration {text}: give NAME=WAVES, such as astigmatism=0.1"
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
