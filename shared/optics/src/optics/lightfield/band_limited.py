"""Projection onto views as coarse as they are recorded, at the low frequencies they can hold.

Views have a sample every n_num / scanning volume pixels. What they average away need not be
computed: planes are transformed within a band only, transfer functions of all views are held, and
the sampling of the views is part of their inverse transform. The result is that of
`LightFieldOperator` followed by the sampling, zeros beyond the border; `BAND` says how nearly.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from optics.errors import OpticsError
from optics.lightfield.band import WITHIN, Band, Beyond, Sampling, Shape
from optics.lightfield.resolution import Sieve

BAND = 1.0
"""Highest frequency computed, in cycles a view pixel: twice what views can hold, and where the
mean over a pixel's surroundings passes nothing.

Error of the views against `LightFieldOperator` and sampling, of their maximum (nnum13, 101 planes,
104 to 429 volume pixels): 6e-4 at most for tubes and bubbles, 7e-5 for noise; 5e-3 for points in
all planes, 8e-3 for points in the focal plane alone, the hardest case (1e-3 sampled ``"cubic"``).
With 0.7 it is 4e-3, 3e-4, 2e-2 and 1.4e-2.

Point samples hold higher frequencies: all are kept, unless a band is given. With 4, 2e-3 for
tubes, shells and beads, 2e-2 for points in all planes (60x, NA 1.2, 15 pixels a lens, unscanned).
"""


class BandLimitedOperator:
    """From a volume to recorded views, and the transpose; differentiable in both.

    Parameters
    ----------
    psf
        (A, D, h, w), float32 or float64, on the volume's grid: one PSF a view and depth, its
        centre at pixel ``size // 2``. Or its views (D, h, w) one by one. Not held: its transfer
        functions are, on its device.
    volume_yx
        Lateral size of the volume.
    views_yx
        Size of a recorded view.
    sampling
        ``"mean"`` (bilinear, antialiased), ``"cubic"`` (as `optics.sample_views`) or ``"point"``
        (bilinear at the pixel's centre).
    band
        Lower is faster and less exact, ``math.inf`` keeps all frequencies; default: `BAND`, with
        point samples all.
    sieve
        Let the operator take coefficients instead of volumes, see `Sieve`.
    beyond
        View pixels by which the volume reaches beyond the views: (above, below), (left, right).

    Examples
    --------
    >>> import torch, optics
    >>> operator = optics.BandLimitedOperator(torch.ones(2, 3, 5, 5), (13, 13), (3, 3))
    >>> operator.forward(torch.ones(3, 13, 13)).shape
    torch.Size([2, 3, 3])
    """

    def __init__(
        self,
        psf: Tensor | Iterable[Tensor],
        volume_yx: Shape,
        views_yx: Shape,
        *,
        sampling: Sampling = "mean",
        band: float | None = None,
        sieve: Sieve | None = None,
        beyond: Beyond = WITHIN,
    ) -> None:
        if isinstance(psf, Tensor) and (psf.dim() != 4 or 0 in psf.shape):
            raise OpticsError(f"psf has shape {tuple(psf.shape)}; expected (A, D, H, W)")
        if band is None:
            band = math.inf if sampling == "point" else BAND
        self._views_yx = views_yx
        self._transfer: list[Tensor] = []
        for kernels in psf:
            if not self._transfer:
                size = (kernels.shape[-2], kernels.shape[-1])
                self._band = Band(volume_yx, views_yx, size, sampling, band, kernels, beyond)
                self._dtype = kernels.dtype
                self._volume_shape = (len(kernels), *volume_yx)
            transfer = kernels.new_empty(
                (len(kernels), *self._band.shape), dtype=kernels.dtype.to_complex()
            )
            for slab in self._band.slabs(len(kernels), kernels.device):
                transfer[slab] = self._band.transform(kernels[slab])
            if sieve is not None:
                transfer = sieve.filter_transfer(transfer, *self._band.frequencies)
            self._transfer.append(transfer)

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self._transfer)

    @property
    def views_yx(self) -> Shape:
        """Size of a recorded view."""
        return self._views_yx

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape (D, H, W) of a volume."""
        return self._volume_shape

    @property
    def dtype(self) -> torch.dtype:
        """Of volumes and views."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where volumes and views are to lie."""
        return self._transfer[0].device

    @property
    def n_bytes(self) -> int:
        """Memory that the transfer functions take."""
        return sum(transfer.nbytes for transfer in self._transfer)

    def forward(self, volume: Tensor, views: Sequence[int] | None = None) -> Tensor:
        """Return the recorded views of a volume.

        Parameters
        ----------
        volume
            (D, H, W), or a batch (B, D, H, W), of the PSF's dtype.
        views
            Which of the PSF's views; default: all.

        Returns
        -------
        Tensor
            (A, h, w) or (B, A, h, w).
        """
        self._require("volume", volume, self._volume_shape)
        projected: Tensor = _Forward.apply(volume, self, self._selected(views))  # type: ignore[no-untyped-call]
        return projected

    def adjoint(self, views_image: Tensor, views: Sequence[int] | None = None) -> Tensor:
        """Return the volume that views project back to: exactly the transpose of `forward`.

        Parameters
        ----------
        views_image
            (A, h, w), or a batch (B, A, h, w).
        views
            Which of the PSF's views they are; default: all.

        Returns
        -------
        Tensor
            (D, H, W) or (B, D, H, W).
        """
        selected = self._selected(views)
        self._require("views", views_image, (len(selected), *self._views_yx))
        volume: Tensor = _Adjoint.apply(views_image, self, selected)  # type: ignore[no-untyped-call]
        return volume

    def adjoint_slabs(
        self, views_image: Tensor, views: Sequence[int] | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield `adjoint` of views (A, h, w) a few planes at a time: (depths, planes).

        Without gradients. What is done with the planes then finds them in the caches.
        """
        selected = self._selected(views)
        self._require("views", views_image, (len(selected), *self._views_yx))
        return self._back_project(views_image.detach(), selected)

    def _selected(self, views: Sequence[int] | None) -> list[int]:
        n_views = len(self._transfer)
        selected = list(range(n_views) if views is None else views)
        if not all(0 <= a < n_views for a in selected):
            raise OpticsError(f"views {selected}: the PSF has views 0 to {n_views - 1}")
        return selected

    def _require(self, name: str, images: Tensor, shape: tuple[int, ...]) -> None:
        if images.dim() not in (3, 4) or images.shape[-3:] != shape:
            raise OpticsError(
                f"{name} {tuple(images.shape)} do not fit the operator: expected {shape}, "
                "or a batch of them"
            )
        if images.dtype != self._dtype:
            raise OpticsError(f"{name} are {images.dtype}, the PSF is {self._dtype}")

    def _project(self, volume: Tensor, views: Sequence[int]) -> Tensor:
        """(D, H, W) -> (A, h, w)."""
        spectra = self._transfer[0].new_zeros((len(views), *self._band.shape))
        for slab in self._band.slabs(len(volume), volume.device):
            planes = self._band.transform(volume[slab])
            for spectrum, a in zip(spectra, views, strict=True):
                transfer = self._transfer[a][slab]
                if volume.is_cuda:
                    spectrum += (planes * transfer).sum(0)
                    continue
                # Plane by plane the sum stays within a CPU's caches.
                for plane, weight in zip(planes, transfer, strict=True):
                    spectrum.addcmul_(plane, weight)
        return self._band.sample(spectra)

    def _back_project(self, images: Tensor, views: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
        """Yield slabs of (D, H, W) from (A, h, w): the transpose of `_project`."""
        spectra = self._band.spread(images)
        for slab in self._band.slabs(self._volume_shape[0], images.device):
            planes = spectra.new_zeros((slab.stop - slab.start, *self._band.shape))
            for spectrum, a in zip(spectra, views, strict=True):
                planes.addcmul_(self._transfer[a][slab], spectrum)
            yield slab, self._band.back(planes)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, volume: Tensor, operator: BandLimitedOperator, views: list[int]
    ) -> Tensor:
        ctx.operator, ctx.views = operator, views
        if volume.dim() == 3:
            return operator._project(volume, views)
        return torch.stack([operator._project(one, views) for one in volume])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        back: Tensor = _Adjoint.apply(gradient, ctx.operator, ctx.views)  # type: ignore[no-untyped-call]
        return back, None, None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, operator: BandLimitedOperator, views: list[int]
    ) -> Tensor:
        ctx.operator, ctx.views = operator, views
        volume = images.new_empty((*images.shape[:-3], *operator._volume_shape))
        for one, image in zip(
            volume.view(-1, *operator._volume_shape),
            images.reshape(-1, *images.shape[-3:]),
            strict=True,
        ):
            for slab, planes in operator._back_project(image, views):
                one[slab] = planes
        return volume

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        forth: Tensor = _Forward.apply(gradient, ctx.operator, ctx.views)  # type: ignore[no-untyped-call]
        return forth, None, None
