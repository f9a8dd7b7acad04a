"""Two-photon imaging: from a PSF's section to a kernel, and to blurred planes further apart."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from optics.convolution import fast_size, inverse_window, transform
from optics.errors import OpticsError


def section_to_kernel(section: Tensor, size_zyx: tuple[int, int, int]) -> Tensor:
    """Turn the (z, r) section of a PSF about its axis into a kernel.

    Every (y, x) takes the nearest radius, in columns of the section, from the kernel's centre;
    kernel plane i takes row ``i * rows // size_z``. Differentiable.

    Parameters
    ----------
    section
        (rows, radii), radii from 0 in steps of a pixel.
    size_zyx
        Of the kernel, in pixels.

    Returns
    -------
    Tensor
        (size_z, size_y, size_x), its sum 1.

    Raises
    ------
    OpticsError
        If a size is not positive, or the section ends before the kernel's corner.

    Examples
    --------
    >>> import torch, optics
    >>> optics.section_to_kernel(torch.ones(6, 5), (3, 5, 5)).shape
    torch.Size([3, 5, 5])
    """
    size_z, size_y, size_x = size_zyx
    if section.dim() != 2 or min(size_zyx) < 1:
        raise OpticsError(
            f"section {tuple(section.shape)}, kernel {size_zyx}: give a section (rows, radii) and "
            "three positive sizes"
        )
    y, x = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in (size_y, size_x))
    radius = torch.hypot(y[:, None], x).round().long()
    rows, columns = section.shape
    if radius.max() >= columns:
        raise OpticsError(
            f"the section has {columns} radii, the corner of a kernel {size_zyx} is at radius "
            f"{int(radius.max())}: make the section for that size"
        )
    row = torch.arange(size_z) * rows // size_z
    kernel = section[row.to(section.device)][:, radius.to(section.device)]
    return kernel / kernel.sum()


def blur_padding(
    size_zyx: tuple[int, int, int], *, res_axial: float, res_lateral: float
) -> tuple[int, int, int]:
    """Return how far a kernel starts before the place it blurs for, in (z, y, x).

    ``int((size_z - res_axial // res_lateral + 1) // 2)`` and half the lateral sizes: the image of
    the middle of a thick plane. The first ``//`` divides binary fractions, so 0.5 // 0.05 is 9, as
    published models have it.

    Parameters
    ----------
    size_zyx
        Of the kernel, in pixels of the sharp volume.
    res_axial, res_lateral
        Step of the blurred planes and of the sharp ones, um.

    Examples
    --------
    >>> import optics
    >>> optics.blur_padding((31, 5, 5), res_axial=0.5, res_lateral=0.05)
    (11, 2, 2)
    """
    size_z, size_y, size_x = size_zyx
    return int((size_z - res_axial // res_lateral + 1) // 2), size_y // 2, size_x // 2


def blur_and_downsample(
    volume: Tensor, kernel: Tensor, scale: int, padding: tuple[int, int, int]
) -> Tensor:
    """Correlate a volume with a kernel at every ``scale``-th plane: what the microscope records.

    With zeros beyond the border, and sums over the kernel's elements (i, j, l)::

        image[k, y, x] = sum kernel[i, j, l] volume[k scale + i - p_z, y + j - p_y, x + l - p_x]

    Differentiable in both. The planes k scale + p of each phase p are a volume of their own, and
    the image is the sum of their convolutions: real FFTs at fast sizes, one inverse for all.

    Parameters
    ----------
    volume
        (B, 1, D, H, W), sharp.
    kernel
        (size_z, size_y, size_x), of any size.
    scale
        Planes of the volume for one of the image.
    padding
        (p_z, p_y, p_x), see `blur_padding`; each from 0 to below the kernel's size.

    Returns
    -------
    Tensor
        (B, 1, D // scale, H, W).

    Raises
    ------
    OpticsError
        For a volume or kernel of other axes, fewer than ``scale`` planes, or a wrong padding.

    Examples
    --------
    >>> import torch, optics
    >>> volume, kernel = torch.ones(1, 1, 20, 8, 8), torch.ones(5, 3, 3) / 45
    >>> optics.blur_and_downsample(volume, kernel, 10, (2, 1, 1)).shape
    torch.Size([1, 1, 2, 8, 8])
    """
    if volume.dim() != 5 or volume.shape[1] != 1 or kernel.dim() != 3:
        raise OpticsError(
            f"volume {tuple(volume.shape)}, kernel {tuple(kernel.shape)}: give a volume "
            "(B, 1, D, H, W) and a kernel (Z, Y, X)"
        )
    if not 1 <= scale <= volume.shape[2]:
        raise OpticsError(
            f"scale is {scale}, the volume has {volume.shape[2]} planes: give 1 to that many"
        )
    if not all(0 <= p < k for p, k in zip(padding, kernel.shape, strict=True)):
        raise OpticsError(
            f"padding {padding} of a kernel {tuple(kernel.shape)}: give 0 to below its size"
        )
    taps, window = split_kernel(kernel, scale, padding, tuple(volume.shape[2:]))
    image: Tensor = _SumOfConvolutions.apply(  # type: ignore[no-untyped-call]
        split_planes(volume[:, 0], scale), taps, window
    )
    return image[:, None]


def split_planes(volume: Tensor, scale: int) -> Tensor:
    """Return the planes k scale + p of each phase p: (B, scale, K, H, W) of (B, D, H, W).

    The last phases may lack a plane, which is 0 then.
    """
    batch, depth, height, width = volume.shape
    padded = F.pad(volume, (0, 0, 0, 0, 0, -depth % scale))
    return padded.reshape(batch, -1, scale, height, width).transpose(1, 2)


def split_kernel(
    kernel: Tensor, scale: int, padding: tuple[int, int, int], zyx_shape: tuple[int, ...]
) -> tuple[Tensor, "Window"]:
    """Return the kernels (scale, K, Y, X) with which the phases are convolved, and the window.

    Their sum, in that window, is the image of a volume of shape ``zyx_shape``.
    """
    # A correlation is the convolution with the turned kernel.
    lead = -padding[0] % scale
    tail = -(kernel.shape[0] + lead) % scale
    taps = F.pad(kernel, (0, 0, 0, 0, lead, tail))
    taps = taps.reshape(-1, scale, *kernel.shape[1:]).transpose(0, 1)
    before = ((padding[0] + lead) // scale, *padding[1:])
    window = Window(
        corner=tuple(k - 1 - p for k, p in zip(taps.shape[1:], before, strict=True)),
        shape=(zyx_shape[0] // scale, *zyx_shape[1:]),
    )
    return taps.flip(1, 2, 3), window


class Window(NamedTuple):
    """What is wanted of a full convolution, in (z, y, x)."""

    corner: tuple[int, ...]
    shape: tuple[int, ...]

    def sizes(self, image: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Return FFT sizes at which what wraps around falls outside the window."""
        axes = zip(image, kernel, self.corner, self.shape, strict=True)
        return [fast_size(max(c + w, n + k - 1 - c, n, k)) for n, k, c, w in axes]

    def place(self, image: Tensor) -> Tensor:
        """Pad an image of the window's shape in front, to lie in the full convolution."""
        return F.pad(image, [n for c in reversed(self.corner) for n in (c, 0)])


class _SumOfConvolutions(torch.autograd.Function):
    """Window of the sum over p of ``volumes[:, p] * kernels[p]``, by FFT.

    On a CPU one p is in memory at a time; spectra are computed again for the way back.
    """

    @staticmethod
    def forward(ctx: Any, volumes: Tensor, kernels: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(volumes, kernels)
        ctx.window = window
        sizes = window.sizes(volumes.shape[2:], kernels.shape[1:])
        total: Tensor | int = 0
        for p in _at_once(kernels):
            product = transform(volumes[:, p], sizes) * transform(kernels[p], sizes)
            total = total + product.sum(1)
        assert isinstance(total, Tensor)
        return inverse_window(total, sizes[-1], window.shape, window.corner)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        volumes, kernels = ctx.saved_tensors
        sizes = ctx.window.sizes(volumes.shape[2:], kernels.shape[1:])
        spectrum = transform(ctx.window.place(upstream), sizes)[:, None]
        by_volumes = torch.empty_like(volumes) if ctx.needs_input_grad[0] else None
        by_kernels = torch.empty_like(kernels) if ctx.needs_input_grad[1] else None
        origin = (0, 0, 0)
        for p in _at_once(kernels):
            if by_volumes is not None:
                product = spectrum * transform(kernels[p], sizes).conj()
                by_volumes[:, p] = inverse_window(product, sizes[-1], volumes.shape[2:], origin)
            if by_kernels is not None:
                product = (spectrum * transform(volumes[:, p], sizes).conj()).sum(dim=0)
                by_kernels[p] = inverse_window(product, sizes[-1], kernels.shape[1:], origin)
        return by_volumes, by_kernels, None


def _at_once(kernels: Tensor) -> list[slice]:
    """Return which phases are transformed together: a GPU waits for many small transforms."""
    step = len(kernels) if kernels.is_cuda else 1
    return [slice(p, p + step) for p in range(0, len(kernels), step)]
