"""The light field as the camera records it: projection, then sampling at the lens positions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from optics.lightfield import LightFieldOperator


def resize_matrix(source: int, target: int, *, antialias: bool) -> Tensor:
    """Return the linear resize of an axis as a matrix (target, source) without negative weights.

    Same sampling points as ``interpolate(..., align_corners=False)``. With ``antialias`` every
    target sample is a weighted mean over its surroundings, without it a sample at its centre.
    """
    identity = torch.eye(source)[None, None]
    resized = F.interpolate(
        identity, size=(target, source), mode="bilinear", antialias=antialias, align_corners=False
    )
    return resized[0, 0]


class RecordedLightField:
    """From a volume to the recorded views: `LightFieldOperator`, then a coarser lateral grid.

    Parameters
    ----------
    psf
        (A, D, h, w), on the volume's grid.
    volume_yx
        Lateral size of the volume.
    views_yx
        Size of a recorded view.
    point_samples
        Whether a recorded pixel is the value at its centre, as without scanning, where the lens
        positions are far apart, or a mean over its surroundings, as `optics.sample_views` makes
        it for scanned light fields.
    """

    def __init__(
        self,
        psf: Tensor,
        volume_yx: tuple[int, int],
        views_yx: tuple[int, int],
        *,
        point_samples: bool = False,
    ) -> None:
        self._projection = LightFieldOperator(psf)
        self._volume_yx = volume_yx
        self._point_samples = point_samples
        self._rows, self._columns = (
            resize_matrix(source, target, antialias=not point_samples).to(psf)
            for source, target in zip(volume_yx, views_yx, strict=True)
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Return the recorded views (A, h, w) of a volume (D, H, W)."""
        return self._rows @ self._projection.forward(volume) @ self._columns.T

    def adjoint(self, views: Tensor) -> Tensor:
        """Return the volume (D, H, W) that the views (A, h, w) project back to."""
        return self._projection.adjoint(self._rows.T @ views @ self._columns)

    def sensitivity(self) -> Tensor:
        """Return how much of a voxel's light is recorded: (D, H, W), about ``adjoint(ones)``.

        With point samples it is that, since near the focal plane it varies from pixel to pixel.
        Else it is the box sums of the PSF times the mean density of samples, at no more than the
        price of a cumulative sum.
        """
        if self._point_samples:
            views = (self._projection.psf.shape[0], len(self._rows), len(self._columns))
            return self.adjoint(self._rows.new_ones(views))
        density = self._rows.mean() * self._columns.mean() * self._rows.numel()
        density = density * self._columns.numel() / (self._volume_yx[0] * self._volume_yx[1])
        return box_sums(self._projection.psf.sum(0), self._volume_yx) * density


def box_sums(kernel: Tensor, image_yx: Sequence[int]) -> Tensor:
    """Return the correlation of an image of ones with kernels: (D, h, w) -> (D, H, W)."""
    table = F.pad(kernel.double().cumsum(-2).cumsum(-1), (1, 0, 1, 0))
    bounds = []
    for size, image in zip(kernel.shape[-2:], image_yx, strict=True):
        first = size // 2 - torch.arange(image, device=kernel.device)
        bounds.append((first.clamp(0, size), (first + image).clamp(0, size)))
    (top, bottom), (left, right) = bounds
    rows = table[:, bottom] - table[:, top]
    return (rows[:, :, right] - rows[:, :, left]).to(kernel.dtype)
