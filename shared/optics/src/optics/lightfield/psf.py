"""Phase-space PSF of a light-field microscope by scalar wave optics."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from optics.aberrations import Aberrations, largest_slope, wavefront, zernike_coefficients
from optics.errors import OpticsError
from optics.lightfield.microscope import LightFieldMicroscope, view_coordinates
from optics.lightfield.octants import OctantPSF, block_sums, finer_voxels
from optics.lightfield.pupil import FADED, confined_pupil, window_transform

# Zernike polynomials grow beyond the pupil: a confined one may end here, in its radii.
_ABERRATED_END = 1.25
_MOST_FREQUENCIES = 700


def phase_space_psf(
    microscope: LightFieldMicroscope,
    depths_um: Sequence[float] | None = None,
    views: Sequence[int] | None = None,
    size: int | None = None,
    aberrations: Aberrations | None = None,
) -> Tensor:
    """Return the PSF of every view at every depth over the position of the microlens.

    A point at depth z, positive away from the objective unless the microscope says otherwise,
    gives the pupil field ``exp(2 pi i z sqrt((n / lambda)^2 - |f|^2))`` inside
    ``|f| <= NA / lambda``. A microlens is a square window of side ``W = pitch / M``; the pixel
    (u, v) behind it sees the window's Fourier component at ``(u, v) df``, u and v counted from
    the central view. Over the lens position x::

        psf_uv(x; z) = | IFFT[ P(f; z) sinc((f_y - u df) W) sinc((f_x - v df) W) ] |^2

    Aberrations of the wavefront w(f) waves multiply the pupil by ``exp(2 pi i w(f))``, which moves
    the light that passes through f by ``-grad w(f)``.

    Normalisation: the central view sums to 1 over an unbounded support, at every depth; another
    view sums to the light it receives relative to the central one.

    Parameters
    ----------
    microscope
        The microscope.
    depths_um
        Depths of the point in um; default: the microscope's.
    views
        View indices; default: the microscope's.
    size
        Lateral support in object pixels; default: the microscope's ``psf_size``.
    aberrations
        Zernike coefficients in waves rms by name or ANSI index (`optics.aberrations`), such as
        ``{"astigmatism": 0.1, "coma_x": -0.05}``; default: none.

    Returns
    -------
    Tensor
        (A, D, size, size), float32; a point on the axis is centred on pixel ``size // 2``. Voxels
        coarser than the camera's pixels hold sums over several samples.
        Without aberrations ``psf(-z)`` is ``psf(+z)`` rotated by 180 degrees.

    Raises
    ------
    OpticsError
        For wrong sizes, depths, views or aberrations, and aberrations too strong to compute.

    Notes
    -----
    The windows are separable, so the transform is two matrix products per view and depth,
    evaluated at the wanted positions only. The pupil is even in both directions, which folds its
    frequencies onto one quadrant, gives ``-z`` from ``+z``, and gives eight views from one.
    There is no wrap-around: the values lie within 1e-4 of their view's maximum, mostly 1e-5, of
    the formula on an unbounded plane. An aberrated pupil has none of these symmetries and is summed
    over all of its frequencies, to the same accuracy but several times slower.

    Examples
    --------
    >>> import optics
    >>> microscope = optics.presets["nnum13"]
    >>> optics.phase_space_psf(microscope, depths_um=[-1, 0, 1], views=[84], size=21).shape
    torch.Size([1, 3, 21, 21])
    """
    depths = microscope.depths_um if depths_um is None else tuple(depths_um)
    selected = microscope.views if views is None else tuple(views)
    size = microscope.psf_size if size is None else size
    if size < 1:
        raise OpticsError(f"PSF size {size}: give at least 1 pixel")
    if not depths or not all(math.isfinite(z) for z in depths):
        raise OpticsError("depths_um: give at least one depth, and only finite ones")
    if microscope.z_direction == "towards":
        depths, microscope = tuple(-z for z in depths), microscope.with_z_away()
    if any(not 0 <= a < microscope.n_num**2 for a in selected):
        raise OpticsError(f"views must lie between 0 and {microscope.n_num**2 - 1}")

    coefficients = zernike_coefficients(aberrations or {})
    if coefficients:
        refining = finer_voxels(microscope)
        if refining > 1:
            return _over_voxels(microscope, depths, selected, size, refining, aberrations)
        signed = view_coordinates(selected, microscope.n_num)
        return _aberrated_psf(microscope, depths, signed, size, coefficients)
    octants = OctantPSF(microscope, depths, selected, size)
    out = torch.empty((len(selected), len(depths), size, size))
    for members, images in zip(octants.members, octants.images(), strict=True):
        for a in members:
            out[a] = octants.mirrored(images, a)
    return out


def _over_voxels(
    microscope: LightFieldMicroscope,
    depths: Sequence[float],
    views: Sequence[int],
    size: int,
    refining: int,
    aberrations: Aberrations | None,
) -> Tensor:
    """Return the PSF as sums over blocks of ``refining`` x ``refining`` samples."""
    fine = microscope.with_voxels_a_lens(refining * microscope.voxels_a_lens)
    odd = size | 1
    out = torch.empty((len(views), len(depths), size, size))
    for part, view in zip(out, views, strict=True):
        samples = phase_space_psf(fine, depths, [view], refining * odd, aberrations)[0]
        part.copy_(block_sums(samples, refining)[:, :size, :size])
    return out


def _aberrated_psf(
    microscope: LightFieldMicroscope,
    depths: Sequence[float],
    signed: Sequence[tuple[int, int]],
    size: int,
    coefficients: Mapping[int, float],
) -> Tensor:
    """Return the PSF (A, D, size, size) of a pupil without symmetry.

    The confined pupil is smooth and so are the polynomials: their product is the confined,
    aberrated pupil if the confined field reaches as much farther as the aberrations move light.
    """
    limit = microscope.numerical_aperture / microscope.wavelength_um
    half = size // 2
    positions = torch.arange(-half, size - half, dtype=torch.float64) * microscope.pixel_um
    moved_um = largest_slope(coefficients, _ABERRATED_END) / limit
    reach_um = (
        half * microscope.pixel_um + microscope.microlens_pitch_um / microscope.magnification / 2
    )
    distances = sorted({abs(z) for z in depths})
    least_fade_um = FADED / (math.pi * (_ABERRATED_END - 1) * limit)
    if 2 * limit * (reach_um + moved_um) > _MOST_FREQUENCIES:
        raise OpticsError(
            f"the aberrations move light by up to {moved_um:.3g} um: give smaller coefficients"
        )
    frequency, pupil = confined_pupil(microscope, distances, reach_um + moved_um, least_fade_um)
    index = torch.arange(1 - len(frequency), len(frequency))
    f = frequency[index.abs()] * index.sign()
    waves = wavefront(coefficients, f[:, None] / limit, f / limit)
    turned = torch.exp(2j * math.pi * waves).to(torch.complex64)
    windows = {
        order: window_transform(microscope, positions, f, order).to(torch.complex64)
        for order in {n for pair in signed for n in pair}
    }
    rows: dict[int, list[int]] = {}
    for a, (u, _) in enumerate(signed):
        rows.setdefault(u, []).append(a)

    out = torch.empty((len(signed), len(depths), size, size), dtype=torch.float32)
    for d, z in enumerate(depths):
        whole = pupil[distances.index(abs(z))][index.abs()][:, index.abs()]
        whole = (whole if z >= 0 else whole.conj()) * turned
        for u, members in rows.items():
            half_way = windows[u] @ whole
            for a in members:
                field = half_way @ windows[signed[a][1]].T
                torch.addcmul(field.real.square(), field.imag, field.imag, out=out[a, d])
    return out


def psf_shift(psf: Tensor) -> Tensor:
    """Return the centre of mass of every view and depth: ``sum(psf x) / (sum(psf) + 1e-9)``.

    Parameters
    ----------
    psf
        (A, D, H, W).

    Returns
    -------
    Tensor
        (A, D, 2): row and column in pixels from the support's middle, ``(H - 1) / 2`` and
        ``(W - 1) / 2``.

    Examples
    --------
    >>> import torch, optics
    >>> psf = torch.zeros(1, 1, 5, 5)
    >>> psf[0, 0, 3, 1] = 1
    >>> optics.psf_shift(psf).tolist()
    [[[1.0, -1.0]]]
    """
    height, width = psf.shape[-2:]
    y = torch.arange(height, dtype=psf.dtype, device=psf.device) - (height - 1) / 2
    x = torch.arange(width, dtype=psf.dtype, device=psf.device) - (width - 1) / 2
    rows, columns = psf.sum(-1), psf.sum(-2)
    total = rows.sum(-1) + 1e-9
    return torch.stack([(rows @ y) / total, (columns @ x) / total], dim=-1)
