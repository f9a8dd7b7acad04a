"""The light field as the camera records it: projection, then sampling at the lens positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from optics.lightfield.projection import LightFieldOperator


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

    Transfer functions are held between the calls, so make one for few views at a time.

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

    Examples
    --------
    >>> import torch, optics
    >>> operator = optics.RecordedLightField(torch.ones(2, 3, 5, 5), (13, 13), (3, 3))
    >>> operator.forward(torch.ones(3, 13, 13)).shape
    torch.Size([2, 3, 3])
    """

    def __init__(
        self,
        psf: Tensor,
        volume_yx: tuple[int, int],
        views_yx: tuple[int, int],
        *,
        point_samples: bool = False,
    ) -> None:
        self._projection = LightFieldOperator(psf, keep_transfer=True)
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
        """Return how much of a voxel's light is recorded: ``adjoint(ones)``, (D, H, W).

        Ones on the recorded grid are a product of rows and columns, which needs no transforms.
        """
        kernel = self._projection.psf.sum(0)
        rows, columns = (
            _shifted_copies(matrix.sum(0), size)
            for matrix, size in zip((self._rows, self._columns), kernel.shape[-2:], strict=True)
        )
        return rows @ kernel @ columns.T


def _shifted_copies(line: Tensor, size: int) -> Tensor:
    """Return the correlation of a line (n,) with a kernel, as a matrix (n, size) on the kernel."""
    before = size // 2
    return F.pad(line, (before, size - 1 - before)).unfold(0, size, 1)
