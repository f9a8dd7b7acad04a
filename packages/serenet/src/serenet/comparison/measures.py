"""How like the truth a volume is: correlation, PSNR, SSIM and resolution."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scopekit.errors import UserError
from scopekit.images.files import VoxelSize
from scopekit.metrics import correlation, match_brightness, psnr, ssim
from serenet.comparison.resolution import volume_resolution

Volume = NDArray[np.float32]
Resolution = tuple[float, float]
# The window of the structural similarity.
_LEAST_SIDE = 7


@dataclass(frozen=True)
class Comparison:
    """A result measured against a truth; NaN for what cannot be told.

    Attributes
    ----------
    correlation
        Pearson's coefficient, -1 to 1.
    psnr_db
        Peak signal-to-noise ratio, dB, after gain and offset were fitted to the truth.
    ssim
        Structural similarity after the same fit, up to 1.
    lateral_um, axial_um
        Resolution of the result, um.
    truth_lateral_um, truth_axial_um
        That of the truth.
    """

    correlation: float
    psnr_db: float
    ssim: float
    lateral_um: float
    axial_um: float
    truth_lateral_um: float
    truth_axial_um: float


@dataclass(frozen=True)
class Reference:
    """A truth ready to be compared with.

    Attributes
    ----------
    values
        (Z, Y, X), blurred and cut.
    window
        The part of the whole volume that it is.
    voxel_um
        (z, y, x) step, um; ``None`` if it is not known.
    resolution
        Lateral and axial, um.
    """

    values: Volume
    window: tuple[slice, ...]
    voxel_um: VoxelSize | None
    resolution: Resolution

    @classmethod
    def of(
        cls,
        truth: Volume,
        voxel_um: VoxelSize | None,
        border: tuple[int, int],
        blur: tuple[float, float, float] | None,
    ) -> "Reference":
        """Blur a truth (Z, Y, X) by a Gaussian sigma (z, y, x), voxels, and cut its borders.

        Raises
        ------
        UserError
            If the border leaves nothing, or the blur is no sigma.
        """
        if blur is not None:
            if not all(0 <= n < math.inf for n in blur):
                raise UserError(f"`blur={' '.join(f'{n:g}' for n in blur)}`: give numbers from 0")
            truth = gaussian_filter(truth, blur)
        window = _window(truth.shape, border)
        values = truth[window]
        if min(values.shape[-2:]) < _LEAST_SIDE:
            height, width = values.shape[-2:]
            raise UserError(
                f"a field of {height} x {width} pixels (y, x) is too small to compare: at least "
                f"{_LEAST_SIDE} x {_LEAST_SIDE} must be left after `border`"
            )
        return cls(values, window, voxel_um, resolution_of(values, voxel_um, values))

    def compare(self, volume: Volume) -> Comparison:
        """Measure a volume that is cut to the window already."""
        fitted = match_brightness(self.values, volume)
        return Comparison(
            correlation(self.values, volume),
            psnr(self.values, fitted),
            ssim(self.values, fitted),
            *resolution_of(volume, self.voxel_um, self.values),
            *self.resolution,
        )


def resolution_of(volume: Volume, voxel_um: VoxelSize | None, guide: Volume) -> Resolution:
    """Return the lateral and axial resolution, um, where ``guide`` has most contrast."""
    if voxel_um is None:
        return math.nan, math.nan
    return volume_resolution(volume, voxel_um, guide)


def _window(shape: tuple[int, ...], border: tuple[int, int]) -> tuple[slice, ...]:
    cuts = (border[0], border[1], border[1])
    if min(border) < 0 or any(n <= 2 * cut for n, cut in zip(shape, cuts, strict=True)):
        raise UserError(
            f"`border={border[0]} {border[1]}` does not fit {shape}; give smaller numbers, from 0"
        )
    return tuple(slice(cut, n - cut) for n, cut in zip(shape, cuts, strict=True))
