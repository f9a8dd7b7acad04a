"""The low spatial frequencies that coarsely sampled views can tell of a volume's planes.

A plane (H, W) is padded to the period of a linear convolution and transformed by real FFTs, of
which only the band is kept: columns 0 .. K_x, rows -K_y .. K_y. The other rows and columns are
not transformed any further.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from optics.convolution import padded_size
from optics.errors import OpticsError

Shape = tuple[int, int]

Beyond = tuple[tuple[int, int], tuple[int, int]]
"""View pixels by which a volume reaches beyond the views: above and below, left and right."""

WITHIN: Beyond = ((0, 0), (0, 0))
"""The volume ends where the views do."""

Sampling = Literal["mean", "cubic", "point"]
"""How a view's pixel is made from the projection on the volume's grid: a mean over its
surroundings (bilinear, antialiased), `optics.sample_views` (bicubic, antialiased), or the value
at its centre (bilinear)."""

# Planes of one slab: within the caches, or enough to fill a GPU.
_SLAB_BYTES = {"cpu": 2**20, "cuda": 256 * 2**20}


def sampling_matrix(source: int, target: int, sampling: Sampling) -> Tensor:
    """Return the sampling of an axis as a matrix (target, source), float64."""
    if sampling not in ("mean", "cubic", "point"):
        raise OpticsError(f"sampling {sampling!r}: give mean, cubic or point")
    resized = F.interpolate(
        torch.eye(source, dtype=torch.float64)[None, None],
        size=(target, source),
        mode="bicubic" if sampling == "cubic" else "bilinear",
        antialias=sampling != "point",
        align_corners=False,
    )
    return resized[0, 0]


class Band:
    """Transforms of planes within a band, and samples of spectra.

    Spectra have their columns first: (..., columns, rows).

    Parameters
    ----------
    volume_yx, views_yx
        Size of a plane and of a view.
    kernel
        Size of the PSF's planes.
    sampling
        How views are sampled.
    width
        Highest frequency kept, in cycles a view pixel.
    like
        A tensor of the dtype and on the device of the planes.
    beyond
        How far planes reach beyond the views.

    Attributes
    ----------
    frequencies
        Of the columns and of the rows of spectra, cycles a voxel.
    """

    def __init__(
        self,
        volume_yx: Shape,
        views_yx: Shape,
        kernel: Shape,
        sampling: Sampling,
        width: float,
        like: Tensor,
        beyond: Beyond = WITHIN,
    ) -> None:
        sampled = [n + sum(ends) for n, ends in zip(views_yx, beyond, strict=True)]
        self.image = volume_yx
        self.kernel = kernel
        self.dtype = like.dtype.to_complex()
        self.period: Shape = (
            padded_size(volume_yx[0], kernel[0]),
            padded_size(volume_yx[1], kernel[1]),
        )
        self.limit = [
            math.floor(period * min(0.5, width * n / source))
            for period, n, source in zip(self.period, sampled, volume_yx, strict=True)
        ]
        matrices = [
            sampling_matrix(source, all_samples, sampling)[before : before + n]
            for source, all_samples, n, (before, _) in zip(
                volume_yx, sampled, views_yx, beyond, strict=True
            )
        ]
        # An even period has no -period / 2 besides its +period / 2.
        self._negative = min(self.limit[0], self.period[0] - 1 - self.limit[0])
        self.shape: Shape = (self.limit[1] + 1, self.limit[0] + 1 + self._negative)
        rows = torch.cat([torch.arange(self.limit[0] + 1), torch.arange(-self._negative, 0)])
        columns = torch.arange(self.limit[1] + 1)
        self.frequencies = (columns.to(like) / self.period[1], rows.to(like) / self.period[0])
        self._rows, self._columns = (
            self._samples(matrix, frequency, axis).to(like.device, self.dtype)
            for axis, (matrix, frequency) in enumerate(zip(matrices, (rows, columns), strict=True))
        )
        # Columns beyond the first (and an even period's last) stand for their mirror images too.
        weight = torch.full((len(columns), 1), 2.0, dtype=like.dtype, device=like.device)
        weight[columns * 2 % self.period[1] == 0] = 1
        self._weighted = self._columns * weight[:, 0]

    def _samples(self, matrix: Tensor, frequency: Tensor, axis: int) -> Tensor:
        """Return (samples, frequencies): the inverse transform at a view's samples."""
        # The kernel's first pixel lies at the corner, so the images it makes are shifted.
        position = torch.arange(self.image[axis]) + self.kernel[axis] // 2
        # Whole turns are taken off before they could cost digits.
        turns = (position[:, None] * frequency % self.period[axis]).double() / self.period[axis]
        waves = torch.exp(2j * math.pi * turns)
        return matrix.to(waves.dtype) @ waves / self.period[axis]

    def slabs(self, n_planes: int, device: torch.device) -> Iterator[slice]:
        """Cut planes into slabs that are computed at once."""
        plane_bytes = self.shape[0] * self.period[0] * self.dtype.itemsize
        count = max(_SLAB_BYTES.get(device.type, _SLAB_BYTES["cpu"]) // plane_bytes, 1)
        for first in range(0, n_planes, count):
            yield slice(first, min(first + count, n_planes))

    def transform(self, planes: Tensor) -> Tensor:
        """Return the spectra (n, columns, rows) of planes (n, H, W) or of the PSF's (n, h, w)."""
        n_columns, n_rows = self.shape
        padded = planes.new_zeros((len(planes), n_columns, self.period[0]), dtype=self.dtype)
        lines = torch.fft.rfft(planes, n=self.period[1])[..., :n_columns]
        padded[..., : planes.shape[-2]] = lines.mT
        spectra = torch.fft.fft(padded)
        positive = n_rows - self._negative
        return torch.cat(
            [spectra[..., :positive], spectra[..., self.period[0] - self._negative :]], -1
        )

    def back(self, conjugates: Tensor) -> Tensor:
        """Return planes (n, H, W) from conjugate spectra: the transpose of `transform`."""
        n_columns, n_rows = self.shape
        padded = conjugates.new_zeros((len(conjugates), n_columns, self.period[0]))
        positive = n_rows - self._negative
        padded[..., :positive] = conjugates[..., :positive]
        padded[..., self.period[0] - self._negative :] = conjugates[..., positive:]
        lines = torch.fft.fft(padded)[..., : self.image[0]].mT
        planes: Tensor = torch.fft.hfft(lines, n=self.period[1])[..., : self.image[1]]
        return planes

    def sample(self, spectra: Tensor) -> Tensor:
        """Return the views (A, h, w) of spectra (A, columns, rows)."""
        lines = self._rows @ spectra.mT
        parts = torch.view_as_real(lines).flatten(-2)
        waves = torch.view_as_real(self._weighted.conj_physical()).flatten(-2)
        with _whole_precision(parts):
            return parts @ waves.T

    def spread(self, views: Tensor) -> Tensor:
        """Return conjugate spectra (A, columns, rows) of views: `sample` and weights transposed.

        The mirror images of columns are not in them, as `back` counts them itself.
        """
        waves = torch.view_as_real(self._columns).flatten(-2)
        with _whole_precision(views):
            parts = views @ waves
        lines = torch.view_as_complex(parts.view(*views.shape[:-1], -1, 2))
        return lines.mT @ self._rows


def _whole_precision(like: Tensor) -> torch.autocast:
    """Keep the half precision of networks in training from these products."""
    return torch.autocast(like.device.type, enabled=False)
