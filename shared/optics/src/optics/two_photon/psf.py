"""(z, r) sections of point-spread functions: the Gibson-Lanni model and a Gaussian.

Lengths are in um. Argument names follow the configuration files of published models.
"""

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import j0, roots_legendre
from torch import Tensor

from optics.errors import OpticsError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Phase = Callable[[FloatArray], FloatArray]

_PHASE_SAMPLES = 1000  # to count the turns of the phase
# What else the section "params" of a configuration file holds.
_OTHER_KEYS = (
    "M activation apply_vq attn_list background blur_mode checkpointing device dropout "
    "hidden_channels_list loss_fn lr mid mu_z nblocks nipsf_loss_target num_iter_psf_pretrain "
    "partial poisson_weight reconstruct sig_eps sig_z superres threshold use_fftconv "
    "use_x_quantized"
)
_COMMENT = "$"  # begins a key that explains another


def gibson_lanni(
    *,
    size_x: int,
    size_y: int,
    size_z: int,
    NA: float,
    wavelength: float,
    ns: float,
    ng0: float,
    ng: float,
    ni0: float,
    ni: float,
    ti0: float,
    tg0: float,
    tg: float,
    res_lateral: float,
    res_axial: float,
    pZ: float,
    scale: int,
    photons: int = 1,
    **others: object,
) -> tuple[Tensor, Tensor]:
    """Return the Gibson-Lanni PSF of a point below a cover glass.

    With the optical path difference over the normalised pupil radius rho::

        OPD = pZ sqrt(ns^2 - (NA rho)^2)
              + (z + ti0) sqrt(ni^2 - (NA rho)^2) - ti0 sqrt(ni0^2 - (NA rho)^2)
              + tg sqrt(ng^2 - (NA rho)^2) - tg0 sqrt(ng0^2 - (NA rho)^2)

    the PSF is, divided by its maximum::

        PSF(z, r) = | int_0^a exp(2 pi i OPD / lambda) J0(2 pi r NA rho / lambda) rho drho |^2

    The pupil ends at ``a = min(NA, ns, ni, ni0, ng, ng0) / NA``: beyond, light is totally
    reflected.

    Parameters
    ----------
    size_x, size_y, size_z
        Kernel size in pixels; the axial size before division by ``scale``.
    NA
        Numerical aperture, below ``ni0``.
    wavelength
        In vacuum, um.
    ns
        Refractive index of the specimen.
    ng0, ng
        Index of the cover glass: design, actual.
    ni0, ni
        Index of the immersion medium: design, actual.
    ti0
        Design thickness of the immersion medium (working distance), um.
    tg0, tg
        Thickness of the cover glass: design, actual; um.
    res_lateral, res_axial
        Step between radii and between rows, um.
    pZ
        Distance of the point from the cover glass, um.
    scale
        The section has ``size_z // scale`` rows.
    photons
        2 squares the PSF: excitation by two photons goes with the square of the intensity, and
        the detector collects all the light, so that with ``wavelength`` that of the laser this is
        the PSF of a two-photon microscope. Published models leave it at 1, a focus about 1.4 times
        as wide.
    **others
        The rest of a configuration's section ``params``, which tells nothing about the PSF.

    Returns
    -------
    psf_zr : Tensor
        (rows, radii), float32, from 0 to 1, the maximum being 1; row i is at
        ``z = (i - (rows - 1) / 2) * res_axial``.
    r_um : Tensor
        (radii,), float64, from 0 in steps of ``res_lateral`` to the corner of the kernel.

    Raises
    ------
    TypeError
        For a parameter that no configuration has.
    OpticsError
        For a size, length or index that is not positive, ``NA >= ni0``, ``size_z < scale``, or
        ``photons`` other than 1 or 2.

    Notes
    -----
    Gauss-Legendre quadrature evaluates the same diffraction integral which the published fast
    Bessel series (Li, Xue and Blu, J. Opt. Soc. Am. A 34 (2017) 1029) approximates.
    """
    _require_known("gibson_lanni", others)
    _require_positive(NA=NA, wavelength=wavelength, ns=ns, ng0=ng0, ng=ng, ni0=ni0, ni=ni)
    _require_positive(res_axial=res_axial)
    for name, length in {"ti0": ti0, "tg0": tg0, "tg": tg, "pZ": pZ}.items():
        if not 0 <= length < math.inf:
            raise OpticsError(f"{name} is {length}: give a length in um, 0 or more")
    if ni0 <= NA:
        raise OpticsError(
            f"NA {NA} must be below ni0 {ni0}: no objective collects more; check both, "
            "ni0 is the index of the immersion medium that the objective is made for"
        )
    if photons not in (1, 2):
        raise OpticsError(f"photons is {photons}: give 1, or 2 for two-photon excitation")
    rows, r_um = _grid(size_x, size_y, size_z, res_lateral, scale)
    z_um = (np.arange(rows)[:, None] - (rows - 1) / 2) * res_axial

    def phase(rho: FloatArray) -> FloatArray:
        def axial(index: float) -> FloatArray:
            # At the pupil's edge rounding can leave the difference below 0.
            return np.sqrt(np.maximum(index**2 - (NA * rho) ** 2, 0))

        path_um = (
            pZ * axial(ns)
            + (z_um + ti0) * axial(ni)
            - ti0 * axial(ni0)
            + tg * axial(ng)
            - tg0 * axial(ng0)
        )
        return 2 * math.pi / wavelength * path_um

    edge = min(NA, ns, ni, ni0, ng, ng0) / NA
    radial = 2 * math.pi * NA / wavelength * r_um
    intensity = np.abs(_field(phase, edge, radial)) ** 2
    psf = (intensity / intensity.max()) ** photons
    return torch.from_numpy(psf).float(), torch.from_numpy(r_um)


def gaussian_section(
    *,
    size_x: int,
    size_y: int,
    size_z: int,
    res_lateral: float,
    scale: int,
    bet_xy: float,
    bet_z: float,
    **others: object,
) -> tuple[Tensor, Tensor]:
    """Return the Gaussian PSF ``exp(-((k / bet_xy)^2 + ((i - (rows - 1) / 2) / bet_z)^2))``.

    i is the row and k the number of the radius, both from 0.

    Parameters
    ----------
    size_x, size_y, size_z, res_lateral, scale
        As in `gibson_lanni`.
    bet_xy, bet_z
        Radius at which the PSF falls to 1 / e, in steps between radii and in rows.
    **others
        The rest of a configuration's section ``params``, which tells nothing about the PSF.

    Returns
    -------
    psf_zr : Tensor
        (rows, radii), float32, from 0 to 1.
    r_um : Tensor
        (radii,), float64, as in `gibson_lanni`.

    Raises
    ------
    TypeError
        For a parameter that no configuration has.
    OpticsError
        For a size or width that is not positive, or ``size_z < scale``.
    """
    _require_known("gaussian_section", others)
    _require_positive(bet_xy=bet_xy, bet_z=bet_z)
    rows, r_um = _grid(size_x, size_y, size_z, res_lateral, scale)
    i = torch.arange(rows, dtype=torch.float64)[:, None] - (rows - 1) / 2
    k = torch.arange(len(r_um), dtype=torch.float64)
    psf = torch.exp(-((k / bet_xy) ** 2 + (i / bet_z) ** 2))
    return psf.float(), torch.from_numpy(r_um)


def _require_known(function: str, others: Mapping[str, object]) -> None:
    of_psf = {*signature(gibson_lanni).parameters, *signature(gaussian_section).parameters}
    of_psf.discard("others")
    known = of_psf.union(_OTHER_KEYS.split())
    for name in others:
        if name not in known and not name.startswith(_COMMENT):
            near = get_close_matches(name, of_psf, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise TypeError(f"{function}() has no parameter '{name}'{hint}")


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise OpticsError(f"{name} is {value}: give a positive number")


def _grid(
    size_x: int, size_y: int, size_z: int, res_lateral: float, scale: int
) -> tuple[int, FloatArray]:
    """Return the number of rows, and the radii in um up to the kernel's corner."""
    _require_positive(size_x=size_x, size_y=size_y, size_z=size_z, scale=scale)
    _require_positive(res_lateral=res_lateral)
    if size_z < scale:
        raise OpticsError(
            f"size_z {size_z} is below scale {scale}, which leaves no row: enlarge size_z"
        )
    count = round(math.hypot((size_x + 1) / 2, (size_y + 1) / 2))
    return size_z // scale, res_lateral * np.arange(count, dtype=np.float64)


def _field(phase: Phase, edge: float, radial: FloatArray) -> ComplexArray:
    """Return the field (rows, radii) by Gauss-Legendre quadrature.

    ``rho = edge sin(theta)`` makes the phase smooth where the smallest index ends the pupil.
    """
    along = phase(edge * np.linspace(0, 1, _PHASE_SAMPLES))
    radians = np.abs(np.diff(along)).sum(axis=1).max() + edge * radial.max()
    # Half a node per radian is the limit; twice that and a margin converges to 1e-9.
    nodes, weights = roots_legendre(int(radians) + 100)
    theta = math.pi / 4 * (nodes + 1)
    rho = edge * np.sin(theta)
    measure = math.pi / 4 * weights * rho * edge * np.cos(theta)
    field: ComplexArray = (np.exp(1j * phase(rho)) * measure) @ j0(rho[:, None] * radial)
    return field
