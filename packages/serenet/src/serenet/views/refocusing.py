"""Digital refocusing of the views of a light field."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from optics import LightFieldMicroscope


def decompose(views: Tensor, shift: Tensor) -> Tensor:
    """Refocus views digitally: shift every view to every depth (depth decomposition).

    ``out[a, z](p) = view_a(p + shift[a, z])``, bilinear, zero outside.

    Parameters
    ----------
    views
        (A, h, w).
    shift
        (A, D, 2): row and column shift in view pixels. The PSF's shift is in object pixels;
        divide it by the lateral scale ``n_num / scanning``.

    Returns
    -------
    Tensor
        (A, D, h, w).
    """
    height, width = views.shape[-2:]
    return decompose_window(views, shift, (0, height), (0, width))


def decompose_window(
    views: Tensor, shift: Tensor, rows: tuple[int, int], columns: tuple[int, int]
) -> Tensor:
    """Return the window ``[..., rows[0]:rows[1], columns[0]:columns[1]]`` of `decompose`.

    Parameters
    ----------
    views, shift
        As in `decompose`.
    rows, columns
        First and last (exclusive) pixel of the window, inside the views.

    Returns
    -------
    Tensor
        (A, D, rows[1] - rows[0], columns[1] - columns[0]).
    """
    height, width = views.shape[-2:]
    # One zero on every side stands for all that lies outside.
    padded = F.pad(views, (1, 1, 1, 1))
    whole = shift.floor()
    # One more than the window, for the second neighbour.
    y = torch.arange(rows[0], rows[1] + 1, device=views.device) + whole[..., 0, None].long() + 1
    x = torch.arange(columns[0], columns[1] + 1, device=views.device)
    x = x + whole[..., 1, None].long() + 1
    y, x = y.clamp(0, height + 1), x.clamp(0, width + 1)
    weight = (shift - whole).to(views.dtype)[..., None, None]
    out = views.new_empty((*shift.shape[:2], rows[1] - rows[0], columns[1] - columns[0]))
    for a, view in enumerate(padded):
        lines = view[y[a]]
        lines = torch.lerp(lines[:, :-1], lines[:, 1:], weight[a, :, 0])
        pixels = lines.gather(2, x[a][:, None].expand(-1, lines.shape[1], -1))
        torch.lerp(pixels[..., :-1], pixels[..., 1:], weight[a, :, 1], out=out[a])
    return out


def ray_shift(microscope: LightFieldMicroscope, depths_um: Sequence[float]) -> Tensor:
    """Return where rays of each view through a point at each depth meet the focal plane.

    A view looks along the direction of sine ``k wavelength / n``, k its spatial frequency; a point
    at depth z appears at ``z tan`` of it. The PSF's centre of mass (`optics.psf_shift`) lies there
    within a few percent, and takes longer to compute.

    Parameters
    ----------
    microscope
        The microscope with its views.
    depths_um
        Depths, um, positive ones where the microscope has them.

    Returns
    -------
    Tensor
        (A, D, 2): row and column, um on the object side.
    """
    places = torch.tensor(microscope.view_coordinates, dtype=torch.float64)
    sines = places * microscope.view_step * microscope.wavelength_um / microscope.refractive_index
    # Views beyond the aperture are dark; they shall not look along the focal plane.
    steepest = microscope.numerical_aperture / microscope.refractive_index
    cosines = (1 - sines.norm(dim=1).clamp(max=steepest) ** 2).sqrt()
    depths = torch.tensor(depths_um, dtype=torch.float64)
    if microscope.z_direction == "towards":
        depths = -depths
    shift: Tensor = depths[None, :, None] * (sines / cosines[:, None])[:, None]
    return shift


def refocus(views: Tensor, shift: Tensor, finer: int = 1) -> Tensor:
    """Refocus views to each depth and average them: shift and add.

    Parameters
    ----------
    views
        (A, h, w).
    shift
        (A, D, 2): row and column shift in view pixels, as in `decompose`.
    finer
        Pixels per view pixel: where views are shifted by parts of a pixel they tell finer detail
        together.

    Returns
    -------
    Tensor
        (D, finer h, finer w).

    References
    ----------
    Ng et al., Light field photography with a hand-held plenoptic camera, Stanford CSTR 2005-02.

    Examples
    --------
    >>> import torch
    >>> refocus(torch.ones(3, 4, 5), torch.zeros(3, 2, 2), 2).shape
    torch.Size([2, 8, 10])
    """
    size = [finer * n for n in views.shape[-2:]]
    total = views.new_zeros((shift.shape[1], *size))
    for view, of_view in zip(views, shift, strict=True):
        large = F.interpolate(view[None, None], size, mode="bilinear")[0]
        total += decompose(large, finer * of_view[None])[0]
    return total.div_(len(views))
