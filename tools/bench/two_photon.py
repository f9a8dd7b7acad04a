"""The two-photon blur against a full-resolution FFT convolution with every tenth plane kept."""

import math

import torch
from torch import Tensor

from bench.timing import Bench, Result, Work
from optics import blur_and_downsample, blur_padding
from optics.convolution import fast_size

SCALE, KERNEL, VOLUME = 10, (201, 51, 51), (240, 112, 112)


def plain_blur(volume: Tensor, kernel: Tensor, padding: tuple[int, int, int]) -> Tensor:
    """Return the planes of a convolution of the whole volume, padded to the full linear size."""
    sizes = [fast_size(n + k - 1) for n, k in zip(volume.shape[2:], kernel.shape, strict=True)]
    spectrum = torch.fft.rfftn(volume, s=sizes) * torch.fft.rfftn(kernel.flip(0, 1, 2), s=sizes)
    full = torch.fft.irfftn(spectrum, s=sizes)
    z, y, x = (k - 1 - p for k, p in zip(kernel.shape, padding, strict=True))
    depth, height, width = volume.shape[2:]
    kept: Tensor = full[:, :, z : z + depth : SCALE, y : y + height, x : x + width]
    return kept


def bench_two_photon(bench: Bench) -> list[Result]:
    generator = torch.Generator().manual_seed(0)
    sizes, kernel_sizes = ((40, 24, 24), (41, 11, 11)) if bench.tiny else (VOLUME, KERNEL)
    volume = torch.rand((1, 1, *sizes), generator=generator).to(bench.device)
    kernel = torch.rand(kernel_sizes, generator=generator).to(bench.device)
    kernel /= kernel.sum()
    padding = blur_padding(kernel_sizes, res_axial=0.5, res_lateral=0.05)
    inputs = (volume.clone().requires_grad_(), kernel.clone().requires_grad_())

    def gradient(image: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(image.square().sum(), inputs)])

    # Volume, kernel and image on the grid of a tenth of the planes, times the planes' phases.
    pairs = zip(sizes, kernel_sizes, strict=True)
    points = math.prod(fast_size(n + k // 2) for n, k in pairs) / SCALE
    transform, product = 2.5 * points * math.log2(points), 4 * points
    blur = (2 * SCALE + 1) * transform + SCALE * product
    moved = 4 * (1 + 1 / SCALE) * volume.numel() + 4 * kernel.numel()
    # The image's transform, and for both gradients products and inverses.
    back = (2 * SCALE + 1) * transform + 2 * SCALE * product
    name = f"two-photon blur, {sizes} with {kernel_sizes} to every {SCALE}th plane"
    plain = "real FFT convolution at full resolution, then strided"
    return [
        bench.compare(
            name,
            lambda: blur_and_downsample(volume, kernel, SCALE, padding),
            plain,
            lambda: plain_blur(volume, kernel, padding),
            Work(blur, moved),
            repeats=5,
        ),
        bench.compare(
            f"{name}, with the gradients of both",
            lambda: gradient(blur_and_downsample(*inputs, SCALE, padding)),
            plain,
            lambda: gradient(plain_blur(*inputs, padding)),
            Work(blur + back, 2 * moved),
            repeats=5,
        ),
    ]
