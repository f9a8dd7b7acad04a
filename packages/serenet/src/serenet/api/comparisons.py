"""Results against a truth, in numbers."""

import numpy as np

from scopekit.errors import UserError
from scopekit.images.files import VoxelSize
from serenet.api.arrays import AnyArray, as_tensor, voxel_of
from serenet.comparison.measures import Comparison, Reference


def compare(
    truth: AnyArray,
    result: AnyArray,
    voxel_um: VoxelSize | None = None,
    *,
    border: tuple[int, int] = (0, 0),
    blur: tuple[float, float, float] | None = None,
) -> Comparison:
    """Measure a result against the truth: correlation, PSNR, SSIM and resolution.

    PSNR and SSIM are taken after the result's gain and offset are fitted to the truth by least
    squares, since reconstructions have arbitrary units.

    Parameters
    ----------
    truth, result
        (Z, Y, X), of one shape.
    voxel_um
        (z, y, x) step in um; default: what the truth, or else the result, carries. Without it
        resolution is NaN.
    border
        Planes and pixels left out on every side, (axial, lateral).
    blur
        Gaussian sigma (z, y, x) in voxels applied to the truth first.

    Returns
    -------
    Comparison
        ``correlation``, ``psnr_db``, ``ssim``; ``lateral_um``, ``axial_um``, and these of the
        truth, ``truth_lateral_um``, ``truth_axial_um``. NaN for what cannot be told.

    Raises
    ------
    UserError
        If the shapes differ, values are not finite, or the border leaves nothing.

    References
    ----------
    SSIM: Wang et al. (2004). Resolution by decorrelation analysis: Descloux, Grussmayer and
    Radenovic, Nature Methods 16, 918 (2019).

    Examples
    --------
    >>> import numpy as np, serenet
    >>> truth = np.random.default_rng(0).random((8, 20, 20))
    >>> round(serenet.compare(truth, 3 * truth + 1).correlation, 6)
    1.0
    """
    volumes = [as_tensor(volume).detach().cpu().float().numpy() for volume in (truth, result)]
    if volumes[0].ndim != 3 or volumes[0].shape != volumes[1].shape:
        raise UserError(
            f"compare: shapes {volumes[0].shape} and {volumes[1].shape}; give (Z, Y, X) twice"
        )
    if not all(np.isfinite(volume).all() for volume in volumes):
        raise UserError("compare: NaN or infinite values; replace them by numbers first")
    size = voxel_um or voxel_of(truth) or voxel_of(result)
    reference = Reference.of(volumes[0], size, border, blur)
    return reference.compare(volumes[1][reference.window])
