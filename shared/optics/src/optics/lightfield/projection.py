"""Projection of a volume onto the views of a light field, and its adjoint.

``views_a = sum_z volume_z * psf_{a,z}`` (true convolution, same size, zeros beyond the border,
the PSF's centre at pixel ``size // 2``). The sum over z is taken in the Fourier domain: one
inverse transform a view instead of one a view and depth. Transfer functions are computed one
slab of depths at a time, and not held unless asked for.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from optics.convolution import padded_size
from optics.errors import OpticsError

# Size of the transforms of one slab of depths: within the caches, or enough to fill a GPU.
_SLAB_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}

Shape = tuple[int, int]


def _plane_shape(array: Tensor) -> Shape:
    return array.shape[-2], array.shape[-1]


class _Grid:
    """Fourier grid on which neither the projection nor its adjoint wraps around.

    Spectra have their columns first: (..., columns // 2 + 1, rows).
    """

    def __init__(self, image: Shape, kernel: Shape, like: Tensor) -> None:
        self.image = image
        self.kernel = kernel
        self.like = like
        self.rows = padded_size(image[0], kernel[0])
        self.columns = padded_size(image[1], kernel[1])
        self.dtype = like.dtype.to_complex()
        # The kernel's first pixel lies at the corner, so the images it makes are shifted.
        self.shifted: Shape = (kernel[0] // 2, kernel[1] // 2)

    def zeros(self, *counts: int) -> Tensor:
        """Return an empty spectrum (*counts, columns // 2 + 1, rows)."""
        shape = (*counts, self.columns // 2 + 1, self.rows)
        return self.like.new_zeros(shape, dtype=self.dtype)

    def slabs(self, n_depths: int) -> Iterator[slice]:
        plane_bytes = (self.columns // 2 + 1) * self.rows * self.dtype.itemsize
        slab_bytes = _SLAB_BYTES.get(self.like.device.type, _SLAB_BYTES["cpu"])
        count = max(slab_bytes // plane_bytes, 1)
        for first in range(0, n_depths, count):
            yield slice(first, min(first + count, n_depths))

    def inverse(self, spectrum: Tensor, shape: Shape, corner: Shape = (0, 0)) -> Tensor:
        """Return the window (..., *shape) of the inverse transform."""
        (top, left), (height, width) = corner, shape
        rows = torch.fft.ifft(spectrum)[..., top : top + height].mT
        image: Tensor = torch.fft.irfft(rows, n=self.columns)[..., left : left + width]
        return image


class _Transform:
    """Transform of images (..., *shape) with their first pixel at a corner of the grid.

    Its buffers keep their zero borders from call to call: only the images are copied, and only
    rows that hold something are transformed.
    """

    def __init__(self, grid: _Grid, shape: Shape, corner: Shape = (0, 0)) -> None:
        self._grid = grid
        self._place = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
        self._height = shape[0]
        self._resize(0)

    def _resize(self, count: int) -> None:
        grid = self._grid
        self._rows = grid.like.new_zeros((count, self._height, grid.columns))
        self._columns = grid.zeros(count)

    def __call__(self, images: Tensor) -> Tensor:
        planes = images.flatten(0, -3)
        count = len(planes)
        if count > len(self._rows):
            self._resize(count)
        y, x = self._place
        self._rows[:count, :, x] = planes
        self._columns[:count, :, y] = torch.fft.rfft(self._rows[:count]).mT
        spectra: Tensor = torch.fft.fft(self._columns[:count]).unflatten(0, images.shape[:-2])
        return spectra


Kept = dict[tuple[Any, ...], Tensor] | None


class _TransferFunctions:
    """Transforms of a PSF (A, D, h, w), one view and slab of depths at a time."""

    def __init__(self, grid: _Grid, psf: Tensor, kept: Kept) -> None:
        self._psf = psf
        self._transform = _Transform(grid, grid.kernel)
        self._kept = kept
        self._grid = (grid.rows, grid.columns, grid.dtype)

    def __call__(self, a: int, slab: slice) -> Tensor:
        if self._kept is None:
            return self._transform(self._psf[a, slab])
        name = (*self._grid, a, slab.start)
        if name not in self._kept:
            self._kept[name] = self._transform(self._psf[a, slab])
        return self._kept[name]


def _project(volume: Tensor, psf: Tensor, kept: Kept) -> Tensor:
    """(B, D, H, W), (A, D, h, w) -> (B, A, H, W)."""
    grid = _Grid(_plane_shape(volume), _plane_shape(psf), volume)
    of_volume, of_psf = _Transform(grid, grid.image), _TransferFunctions(grid, psf, kept)
    spectrum = grid.zeros(len(volume), len(psf))
    for slab in grid.slabs(volume.shape[1]):
        planes = of_volume(volume[:, slab])
        for a in range(len(psf)):
            if volume.is_cuda:
                spectrum[:, a] += (planes * of_psf(a, slab)).sum(1)
                continue
            # Plane by plane the sum stays within a CPU's caches.
            for d, transfer in enumerate(of_psf(a, slab)):
                spectrum[:, a].addcmul_(planes[:, d], transfer)
    views = volume.new_empty((len(volume), len(psf), *grid.image))
    for a in range(len(psf)):
        views[:, a] = grid.inverse(spectrum[:, a], grid.image, grid.shifted)
    return views


def _view_spectra(grid: _Grid, views: Tensor) -> Tensor:
    """Return the conjugate spectra (B, A, ...) of views, which lie where `_project` reads them."""
    of_views = _Transform(grid, grid.image, grid.shifted)
    spectrum = grid.zeros(*views.shape[:2])
    for a in range(views.shape[1]):
        spectrum[:, a] = of_views(views[:, a])
    return spectrum.conj_physical_()


def _back_project(views: Tensor, psf: Tensor, kept: Kept) -> Tensor:
    """(B, A, H, W), (A, D, h, w) -> (B, D, H, W): the transpose of `_project`."""
    grid = _Grid(_plane_shape(views), _plane_shape(psf), views)
    of_psf = _TransferFunctions(grid, psf, kept)
    spectrum = _view_spectra(grid, views)
    volume = views.new_empty((len(views), psf.shape[1], *grid.image))
    for slab in grid.slabs(psf.shape[1]):
        planes = grid.zeros(len(views), slab.stop - slab.start)
        for a in range(len(psf)):
            planes.addcmul_(spectrum[:, a, None], of_psf(a, slab))
        volume[:, slab] = grid.inverse(planes.conj_physical_(), grid.image)
    return volume


def _correlate(volume: Tensor, views: Tensor, kernel: Shape) -> Tensor:
    """(B, D, H, W), (B, A, H, W) -> (A, D, h, w): the gradient of `_project` in the PSF."""
    grid = _Grid(_plane_shape(volume), kernel, volume)
    of_volume = _Transform(grid, grid.image)
    spectrum = _view_spectra(grid, views)
    psf = volume.new_empty((views.shape[1], volume.shape[1], *kernel))
    for slab in grid.slabs(volume.shape[1]):
        planes = of_volume(volume[:, slab])
        for a in range(views.shape[1]):
            gradient = (planes * spectrum[:, a, None]).sum(0)
            psf[a, slab] = grid.inverse(gradient.conj_physical_(), kernel)
    return psf


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, psf: Tensor, kept: Kept) -> Tensor:
        ctx.save_for_backward(volume, psf)
        ctx.kept = kept
        return _project(volume, psf, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, views: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        volume, psf = ctx.saved_tensors
        need_volume, need_psf, _ = ctx.needs_input_grad
        return (
            _back_project(views, psf, ctx.kept) if need_volume else None,
            _correlate(volume, views, _plane_shape(psf)) if need_psf else None,
            None,
        )


class _BackProject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Tensor, psf: Tensor, kept: Kept) -> Tensor:
        ctx.save_for_backward(views, psf)
        ctx.kept = kept
        return _back_project(views, psf, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, volume: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        views, psf = ctx.saved_tensors
        need_views, need_psf, _ = ctx.needs_input_grad
        return (
            _project(volume, psf, ctx.kept) if need_views else None,
            _correlate(volume, views, _plane_shape(psf)) if need_psf else None,
            None,
        )


class LightFieldOperator:
    """Projection of a volume onto views by their PSFs, differentiable in the volume and the PSF.

    Parameters
    ----------
    psf
        (A, D, h, w): one PSF a view and depth, of any odd or even support. With
        ``psf.requires_grad`` gradients flow into it.
    keep_transfer
        Hold the transfer functions from call to call: faster, and as many bytes as a padded
        volume a view. The PSF must not change then.

    Examples
    --------
    >>> import torch, optics
    >>> operator = optics.LightFieldOperator(torch.ones(2, 3, 5, 5))
    >>> views = operator.forward(torch.ones(3, 16, 16))
    >>> views.shape, operator.adjoint(views).shape
    (torch.Size([2, 16, 16]), torch.Size([3, 16, 16]))
    """

    def __init__(self, psf: Tensor, *, keep_transfer: bool = False) -> None:
        if psf.dim() != 4 or 0 in psf.shape:
            raise OpticsError(f"psf has shape {tuple(psf.shape)}; expected (A, D, H, W)")
        self.psf = psf
        self._kept: Kept = {} if keep_transfer else None

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
        psf, kept = self._selected(views)
        _require_planes("volume", volume, f"(D, H, W) with {psf.shape[1]} depths", psf.shape[1])
        batch = volume if volume.dim() == 4 else volume[None]
        projected: Tensor = _Project.apply(batch, psf.to(batch.dtype), kept)  # type: ignore[no-untyped-call]
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
        psf, kept = self._selected(views)
        _require_planes("views", views_image, f"(A, H, W) with {len(psf)} views", len(psf))
        batch = views_image if views_image.dim() == 4 else views_image[None]
        volume: Tensor = _BackProject.apply(batch, psf.to(batch.dtype), kept)  # type: ignore[no-untyped-call]
        return volume if views_image.dim() == 4 else volume[0]

    def _selected(self, views: Sequence[int] | None) -> tuple[Tensor, Kept]:
        if views is None:
            return self.psf, self._kept
        if not all(0 <= a < len(self.psf) for a in views):
            raise OpticsError(f"views {list(views)}: the PSF has views 0 to {len(self.psf) - 1}")
        return self.psf[list(views)], None


def _require_planes(name: str, images: Tensor, expected: str, count: int) -> None:
    if images.dim() not in (3, 4) or images.shape[-3] != count or 0 in images.shape:
        raise OpticsError(
            f"{name} {tuple(images.shape)} do not fit the PSF: expected {expected}, or a batch"
        )
    if images.dtype not in (torch.float32, torch.float64):
        raise OpticsError(f"{name} are {images.dtype}: give float32 or float64")
