"""Convolution by real FFTs at fast sizes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from optics.errors import OpticsError


def fast_size(minimum: int) -> int:
    """Return the smallest even FFT length >= ``minimum`` with factors up to 11."""
    # Odd lengths have no fast real transform.
    return 2 * int(next_fast_len((minimum + 1) // 2))


def padded_size(image: int, kernel: int) -> int:
    """Return the FFT length at which a 'same' convolution does not wrap around.

    Only the longer half of the kernel needs padding: what wraps falls outside the kept window.
    """
    return fast_size(max(image + kernel // 2, kernel))


class KernelOperator:
    """Convolution of a volume with one kernel: a wide-field, confocal or two-photon microscope.

    Differentiable in the volume and in the kernel.

    Parameters
    ----------
    kernel
        (Z, Y, X), or any number of axes.

    Examples
    --------
    >>> import torch, optics
    >>> operator = optics.KernelOperator(torch.ones(1, 3, 3) / 9)
    >>> operator.forward(torch.ones(2, 5, 5))[0, 2, 2].round(decimals=4)
    tensor(1.)
    """

    def __init__(self, kernel: Tensor) -> None:
        if kernel.dim() == 0 or kernel.numel() == 0:
            raise OpticsError(f"the kernel is empty: shape {tuple(kernel.shape)}")
        self.kernel = kernel
        self._transfer: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}

    def forward(self, volume: Tensor) -> Tensor:
        """Return the blurred volume, of the volume's shape.

        Parameters
        ----------
        volume
            (..., Z, Y, X). Beyond its border there are zeros; the kernel's centre is element
            ``size // 2`` on every axis.
        """
        sizes = self._sizes(volume)
        spectrum = transform(volume, sizes) * self._transfer_function(sizes, volume.dtype)
        centre = [k // 2 for k in self.kernel.shape]
        return inverse_window(spectrum, sizes[-1], self._shape(volume), centre)

    def adjoint(self, image: Tensor) -> Tensor:
        """Return the correlation of the image with the kernel: the transpose of `forward`."""
        sizes = self._sizes(image)
        placed = F.pad(image, [n for k in reversed(self.kernel.shape) for n in (k // 2, 0)])
        transfer = self._transfer_function(sizes, image.dtype)
        spectrum = transform(placed, sizes) * transfer.conj()
        return inverse_window(spectrum, sizes[-1], self._shape(image), [0] * self.kernel.dim())

    def _shape(self, volume: Tensor) -> tuple[int, ...]:
        return tuple(volume.shape[-self.kernel.dim() :])

    def _sizes(self, volume: Tensor) -> tuple[int, ...]:
        if volume.dim() < self.kernel.dim():
            raise OpticsError(
                f"volume {tuple(volume.shape)} has fewer axes than the kernel "
                f"{tuple(self.kernel.shape)}"
            )
        return tuple(
            padded_size(n, k) for n, k in zip(self._shape(volume), self.kernel.shape, strict=True)
        )

    def _transfer_function(self, sizes: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if self.kernel.requires_grad:  # a kept one would belong to a graph already freed
            return transform(self.kernel.to(dtype), sizes)
        if (sizes, dtype) not in self._transfer:
            self._transfer = {(sizes, dtype): transform(self.kernel.to(dtype), sizes)}
        return self._transfer[sizes, dtype]


def transform(array: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the real transform over the last axes, innermost first: only lines with values."""
    spectrum: Tensor = torch.fft.rfft(array, n=sizes[-1])
    for axis in range(2, len(sizes) + 1):
        spectrum = torch.fft.fft(spectrum, n=sizes[-axis], dim=-axis)
    return spectrum


def inverse_window(
    spectrum: Tensor, last_size: int, shape: Sequence[int], corner: Sequence[int]
) -> Tensor:
    """Return a window of the inverse transform, outermost axis first: only the wanted lines."""
    for axis in range(len(shape), 1, -1):
        spectrum = torch.fft.ifft(spectrum, dim=-axis).narrow(-axis, corner[-axis], shape[-axis])
    window: Tensor = torch.fft.irfft(spectrum, n=last_size).narrow(-1, corner[-1], shape[-1])
    return window
