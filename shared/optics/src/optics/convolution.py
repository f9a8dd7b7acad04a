"""Convolution by real FFTs at fast sizes."""

import torch
from scipy.fft import next_fast_len
from torch import Tensor


def fast_size(minimum: int) -> int:
    """Return the smallest even FFT length >= ``minimum`` with factors up to 11."""
    size = next_fast_len(minimum, real=False)
    while size % 2:  # odd lengths have no fast real transform
        size = next_fast_len(size + 1, real=False)
    return int(size)


def padded_size(image: int, kernel: int) -> int:
    """Return the FFT length at which a 'same' convolution does not wrap around.

    Only the longer half of the kernel needs padding: what wraps falls outside the kept window.
    """
    centre = kernel // 2
    return fast_size(image + max(centre, kernel - 1 - centre))


class KernelOperator:
    """Convolution of a volume with one kernel: a wide-field, confocal or two-photon microscope.

    ``forward`` is the true convolution of the same size with zeros beyond the border, the
    kernel's centre being element ``size // 2`` on every axis; ``adjoint`` is its transpose.
    Differentiable in the volume.

    Parameters
    ----------
    kernel
        (Z, Y, X), or with as many axes as the images.
    """

    def __init__(self, kernel: Tensor) -> None:
        self.kernel = kernel
        self._transforms: dict[tuple[int, ...], Tensor] = {}

    def _transform(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Tensor]:
        sizes = tuple(padded_size(n, k) for n, k in zip(shape, self.kernel.shape, strict=True))
        if sizes not in self._transforms:
            self._transforms = {sizes: torch.fft.rfftn(self.kernel, s=sizes)}
        return sizes, self._transforms[sizes]

    def forward(self, volume: Tensor) -> Tensor:
        """Return the blurred volume, of the volume's shape."""
        sizes, transfer = self._transform(tuple(volume.shape))
        full = torch.fft.irfftn(torch.fft.rfftn(volume, s=sizes) * transfer, s=sizes)
        return full[self._window(volume.shape)]

    def adjoint(self, image: Tensor) -> Tensor:
        """Return the correlation of the image with the kernel, of the image's shape."""
        sizes, transfer = self._transform(tuple(image.shape))
        placed = image.new_zeros(sizes)
        placed[self._window(image.shape)] = image
        full = torch.fft.irfftn(torch.fft.rfftn(placed) * transfer.conj(), s=sizes)
        return full[tuple(slice(n) for n in image.shape)]

    def _window(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(
            slice(k // 2, k // 2 + n) for n, k in zip(shape, self.kernel.shape, strict=True)
        )
