"""A two-photon microscope as a linear operator: blur, and planes further apart; and its adjoint."""

import torch
from torch import Tensor

from optics.convolution import inverse_window, transform
from optics.errors import OpticsError
from optics.two_photon.blur import Window, split_kernel, split_planes


class TwoPhotonOperator:
    """`blur_and_downsample` with one kernel, its transforms kept, and the exact adjoint.

    Parameters
    ----------
    kernel
        (size_z, size_y, size_x), as from `section_to_kernel`.
    scale
        Planes of the volume for one of the image.
    padding
        (p_z, p_y, p_x), see `blur_padding`.

    Attributes
    ----------
    scale, padding
        As given.

    Examples
    --------
    >>> import torch, optics
    >>> operator = optics.TwoPhotonOperator(torch.ones(4, 3, 3) / 36, 2, (1, 1, 1))
    >>> operator.forward(torch.ones(6, 5, 5)).shape
    torch.Size([3, 5, 5])
    """

    def __init__(self, kernel: Tensor, scale: int, padding: tuple[int, int, int]) -> None:
        sizes_fit = all(0 <= p < k for p, k in zip(padding, kernel.shape, strict=True))
        if scale < 1 or not sizes_fit:
            raise OpticsError(
                f"scale {scale}, padding {padding}, kernel {tuple(kernel.shape)}: give a scale of "
                "1 or more, and a padding from 0 to below the kernel's size"
            )
        self._kernel, self.scale, self.padding = kernel, scale, padding
        self._spectra: tuple[tuple[int, ...], list[Tensor]] = ((), [])

    def forward(self, volume: Tensor) -> Tensor:
        """Return the image (K, H, W) of a volume (K scale, H, W)."""
        if volume.dim() != 3 or volume.shape[0] % self.scale:
            raise OpticsError(
                f"a volume {tuple(volume.shape)}: give (Z, Y, X), Z a multiple of {self.scale}"
            )
        window, sizes, kernels = self._prepared(tuple(volume.shape))
        total: Tensor | int = 0
        for phase, kernel in zip(split_planes(volume[None], self.scale)[0], kernels, strict=True):
            total = total + transform(phase, sizes) * kernel
        assert isinstance(total, Tensor)
        return inverse_window(total, sizes[-1], window.shape, window.corner)

    def adjoint(self, image: Tensor) -> Tensor:
        """Return the transpose of `forward` applied to an image (K, H, W)."""
        planes, height, width = image.shape
        window, sizes, kernels = self._prepared((planes * self.scale, height, width))
        spectrum = transform(window.place(image), sizes)
        phases = [
            inverse_window(spectrum * kernel.conj(), sizes[-1], image.shape, (0, 0, 0))
            for kernel in kernels
        ]
        return torch.stack(phases, dim=1).reshape(-1, height, width)

    def _prepared(self, zyx_shape: tuple[int, ...]) -> tuple[Window, list[int], list[Tensor]]:
        """Return the window of the image, FFT sizes, and the kernels' transforms."""
        taps, window = split_kernel(self._kernel, self.scale, self.padding, zyx_shape)
        sizes = window.sizes(window.shape, taps.shape[1:])
        if self._spectra[0] != tuple(sizes):
            self._spectra = (tuple(sizes), [transform(kernel, sizes) for kernel in taps])
        return window, sizes, self._spectra[1]
