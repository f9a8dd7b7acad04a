"""What tells a function its optics: a microscope, a PSF file, or a PSF."""

from pathlib import Path

import torch

from optics import LightFieldMicroscope, PSFFile
from scopekit.errors import UserError
from serenet.api.arrays import AnyArray, as_tensor
from serenet.views.microscope import load_microscope as load_described
from serenet.views.psf import ViewPSF, psf_of_views

Optics = LightFieldMicroscope | PSFFile | AnyArray | str | Path
"""A microscope, the name of a preset, the path of a YAML file or of a PSF file, or a PSF."""

_PSF_ENDINGS = (".h5", ".hdf5", ".mat", ".pt", ".pth")


def is_psf_file(source: object) -> bool:
    """Whether a source of optics is the path of a PSF file."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in _PSF_ENDINGS


def view_psf_of(
    source: Optics, microscope: LightFieldMicroscope | None = None
) -> tuple[ViewPSF, LightFieldMicroscope]:
    """Return the PSF of single views, and the microscope with its views and depths.

    Parameters
    ----------
    source
        What tells the optics.
    microscope
        Of a PSF that does not tell it, with that PSF's views and depths.

    Raises
    ------
    UserError
        If the two do not fit, or a PSF (A, D, H, W) comes without its microscope.
    """
    if isinstance(source, LightFieldMicroscope):
        return psf_of_views(None, source)
    if isinstance(source, PSFFile):
        return psf_of_views(source.path, microscope)
    if isinstance(source, str | Path):
        if is_psf_file(source):
            return psf_of_views(Path(source), microscope)
        return psf_of_views(None, load_described(str(source)))
    psf = as_tensor(source)
    if microscope is None:
        raise UserError("a PSF alone does not tell its sampling: give microscope=... too")
    expected = (len(microscope.views), len(microscope.depths_um))
    if psf.dim() != 4 or tuple(psf.shape[:2]) != expected or psf.shape[2] != psf.shape[3]:
        raise UserError(
            f"psf: shape {tuple(psf.shape)}; the microscope has {expected[0]} views and "
            f"{expected[1]} depths: give ({expected[0]}, {expected[1]}, H, W), H and W equal"
        )
    if not (torch.isfinite(psf).all() and (psf >= 0).all() and (psf.flatten(1).amax(1) > 0).all()):
        raise UserError("psf: NaN, infinite or negative values, or a view without light")
    return (lambda channel: psf[channel : channel + 1]), microscope
