"""Projection of a volume onto the views of a light field, and its adjoint.

``views_a = sum_z volume_z * psf_{a,z}`` (true convolution, same size, zeros beyond the border,
the PSF's centre at pixel ``size // 2``). The sum over z is taken in the Fourier domain: one
inverse transform a view instead of one a view and depth. Transfer functions are computed one
slab of depths at a time and never held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from optics.convolution import padded_size
from optics.errors import OpticsError

# Depths transformed together: large enough to keep the cores busy, small enough for the caches.
_SLAB = 8


@dataclass(frozen=True)
class _Grid:
    """Fourier grid on which neither the projection nor its adjoint wraps around."""

    image: tuple[int, int]
    kernel: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        return (
            padded_size(self.image[0], self.kernel[0]),
            padded_size(self.image[1], self.kernel[1]),
        )

    def transform(self, array: Tensor, at_centre: bool = False) -> Tensor:
        """Return the real 2D transform of (..., y, x), rows first: only they hold values.

        ``at_centre`` puts the first pixel where the kernel's centre puts it after convolution.
        """
        rows, columns = self.size
        if at_centre:
            top, left = self.kernel[0] // 2, self.kernel[1] // 2
            array = torch.nn.functional.pad(array, (left, 0, top, 0))
        return torch.fft.fft(torch.fft.rfft(array, n=columns), n=rows, dim=-2)

    def inverse(self, spectrum: Tensor, shape: tuple[int, int], at_centre: bool = False) -> Tensor:
        """Return the window (..., *shape) of the inverse transform, columns first."""
        top = self.kernel[0] // 2 if at_centre else 0
        left = self.kernel[1] // 2 if at_centre else 0
        kept = torch.fft.ifft(spectrum, dim=-2)[..., top : top + shape[0], :]
        return torch.fft.irfft(kept, n=self.size[1])[..., left : left + shape[1]]


def _slabs(n_depths: int) -> Iterator[slice]:
    for first in range(0, n_depths, _SLAB):
        yield slice(first, min(first + _SLAB, n_depths))


def _project(volume: Tensor, psf: Tensor) -> Tensor:
    """(B, D, H, W), (A, D, h, w) -> (B, A, H, W)."""
    grid = _Grid(tuple(volume.shape[-2:]), tuple(psf.shape[-2:]))
    rows, columns = grid.size
    spectrum = torch.zeros(
        (volume.shape[0], psf.shape[0], rows, columns // 2 + 1),
        dtype=volume.dtype.to_complex(),
        device=volume.device,
    )
    for slab in _slabs(volume.shape[1]):
        planes = grid.transform(volume[:, slab])
        for a in range(psf.shape[0]):
            spectrum[:, a] += (planes * grid.transform(psf[a, slab])).sum(1)
    return grid.inverse(spectrum, grid.image, at_centre=True)


def _back_project(views: Tensor, psf: Tensor) -> Tensor:
    """(B, A, H, W), (A, D, h, w) -> (B, D, H, W): the transpose of `_project`."""
    grid = _Grid(tuple(views.shape[-2:]), tuple(psf.shape[-2:]))
    spectrum = grid.transform(views, at_centre=True)
    volume = views.new_empty((views.shape[0], psf.shape[1], *grid.image))
    for slab in _slabs(psf.shape[1]):
        planes: Tensor | float = 0.0
        for a in range(psf.shape[0]):
            planes = planes + spectrum[:, a, None] * grid.transform(psf[a, slab]).conj()
        volume[:, slab] = grid.inverse(torch.as_tensor(planes), grid.image)
    return volume


def _correlate(volume: Tensor, views: Tensor, kernel: tuple[int, int]) -> Tensor:
    """(B, D, H, W), (B, A, H, W) -> (A, D, h, w): the gradient of `_project` in the PSF."""
    grid = _Grid(tuple(volume.shape[-2:]), kernel)
    spectrum = grid.transform(views, at_centre=True)
    psf = volume.new_empty((views.shape[1], volume.shape[1], *kernel))
    for slab in _slabs(volume.shape[1]):
        planes = grid.transform(volume[:, slab]).conj()
        for a in range(views.shape[1]):
            psf[a, slab] = grid.inverse((planes * spectrum[:, a, None]).sum(0), kernel)
    return psf


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, psf: Tensor) -> Tensor:
        ctx.save_for_backward(volume, psf)
        return _project(volume, psf)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, views: Tensor) -> tuple[Tensor | None, Tensor | None]:
        volume, psf = ctx.saved_tensors
        need_volume, need_psf = ctx.needs_input_grad
        return (
            _back_project(views, psf) if need_volume else None,
            _correlate(volume, views, tuple(psf.shape[-2:])) if need_psf else None,
        )


class _BackProject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Tensor, psf: Tensor) -> Tensor:
        ctx.save_for_backward(views, psf)
        return _back_project(views, psf)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, volume: Tensor) -> tuple[Tensor | None, Tensor | None]:
        views, psf = ctx.saved_tensors
        need_views, need_psf = ctx.needs_input_grad
        return (
            _project(volume, psf) if need_views else None,
            _correlate(volume, views, tuple(psf.shape[-2:])) if need_psf else None,
        )


class LightFieldOperator:
    """Projection of a volume onto views by their PSFs, differentiable in the volume and the PSF.

    Parameters
    ----------
    psf
        (A, D, h, w): one PSF a view and depth, of any odd or even support. With
        ``psf.requires_grad`` gradients flow into it.
    """

    def __init__(self, psf: Tensor) -> None:
        if psf.dim() != 4:
            raise OpticsError(f"psf has shape {tuple(psf.shape)}; expected (A, D, H, W)")
        self.psf = psf

    def forward(self, volume: Tensor, views: Sequence[int] | None = None) -> Tensor:
        """Project a volume.

        Parameters
        ----------
        volume
            (D, H, W), or a batch (B, D, H, W), at the resolution of the PSF.
        views
            Which of the PSF's views; default: all.

        Returns
        -------
        Tensor
            (A, H, W) or (B, A, H, W).
        """
        psf = self._selected(views)
        if volume.dim() not in (3, 4) or volume.shape[-3] != psf.shape[1]:
            raise OpticsError(
                f"volume {tuple(volume.shape)} does not fit a PSF of {psf.shape[1]} depths; "
                "expected (D, H, W)"
            )
        batch = volume if volume.dim() == 4 else volume[None]
        projected: Tensor = _Project.apply(batch, psf.to(batch.dtype))
        return projected if volume.dim() == 4 else projected[0]

    def adjoint(self, views_image: Tensor, views: Sequence[int] | None = None) -> Tensor:
        """Back-project views: exactly the transpose of `forward`.

        Parameters
        ----------
        views_image
            (A, H, W), or a batch (B, A, H, W).
        views
            Which of the PSF's views they are; default: all.

        Returns
        -------
        Tensor
            (D, H, W) or (B, D, H, W).
        """
        psf = self._selected(views)
        if views_image.dim() not in (3, 4) or views_image.shape[-3] != psf.shape[0]:
            raise OpticsError(
                f"views {tuple(views_image.shape)} do not fit a PSF of {psf.shape[0]} views; "
                "expected (A, H, W)"
            )
        batch = views_image if views_image.dim() == 4 else views_image[None]
        volume: Tensor = _BackProject.apply(batch, psf.to(batch.dtype))
        return volume if views_image.dim() == 4 else volume[0]

    def _selected(self, views: Sequence[int] | None) -> Tensor:
        return self.psf if views is None else self.psf[list(views)]
