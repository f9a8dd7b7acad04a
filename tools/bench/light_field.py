"""PSF, projection, its adjoint and a deconvolution update against complex FFTs one by one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.timing import Bench, Result, Work
from optics import (
    LightFieldOperator,
    RecordedLightField,
    Subset,
    phase_space_psf,
    presets,
    richardson_lucy_step,
)
from optics.convolution import padded_size
from optics.lightfield.recording import resize_matrix

PRESET = presets["nnum13"]


def plain_psf(views: Sequence[int], depth_um: float, samples: int, size: int) -> Tensor:
    """Return |IFFT[pupil x windows]|^2, (A, size, size), on a periodic grid of so many pixels."""
    frequency = torch.fft.fftfreq(samples, PRESET.pixel_um)
    radius2 = frequency[:, None] ** 2 + frequency**2
    axial = ((PRESET.refractive_index / PRESET.wavelength_um) ** 2 - radius2).clamp(min=0).sqrt()
    inside = radius2 <= (PRESET.numerical_aperture / PRESET.wavelength_um) ** 2
    pupil = inside * torch.exp(2j * math.pi * depth_um * axial)
    window_um = PRESET.microlens_pitch_um / PRESET.magnification
    at = torch.arange(-(size // 2), size - size // 2)

    def window(order: int) -> Tensor:
        return torch.sinc((frequency - order * PRESET.view_step) * window_um)

    def seen(view: int) -> Tensor:
        u, v = view // PRESET.n_num - PRESET.n_num // 2, view % PRESET.n_num - PRESET.n_num // 2
        field = torch.fft.ifft2(pupil * window(u)[:, None] * window(v))
        intensity: Tensor = field[at][:, at].abs() ** 2
        return intensity

    return torch.stack([seen(view) for view in views])


def bench_psf(bench: Bench) -> list[Result]:
    size, wide = (31, 1024) if bench.tiny else (195, 4096)
    depths = PRESET.depths_um[::10] if bench.tiny else PRESET.depths_um
    places = [(0, len(depths) // 2 + 1), (9, len(depths) // 3), (48, len(depths) // 2)]

    def matching(psf: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        # A narrow periodic grid wraps around: the values are compared on a wide one.
        total = plain_psf([PRESET.central_view], 0.0, wide, size).sum() / psf[0, places[2][1]].sum()
        plain = [plain_psf([PRESET.views[a]], depths[d], wide, size)[0] for a, d in places]
        return torch.stack([psf[p] for p in places]), torch.stack(plain) / total

    # Of the eight views of an octant, and of z and -z, one: its result squared and written.
    octants = {tuple(sorted((abs(u), abs(v)))) for u, v in map(_order, PRESET.views)}
    planes = len(octants) * len({abs(z) for z in depths})
    samples = 432
    transform = 5 * samples**2 * math.log2(samples**2)
    return [
        bench.compare(
            f"psf {len(PRESET.views)} x {len(depths)} x {size} x {size}",
            lambda: phase_space_psf(PRESET, depths, size=size),
            f"an FFT of {samples} x {samples} a view and depth, 4 of {len(depths)} depths, scaled",
            lambda: torch.stack(
                [plain_psf(PRESET.views, z, samples, size) for z in (-10, -4, 0.6, 7)]
            ),
            Work(planes * transform, 4 * len(PRESET.views) * len(depths) * size**2),
            scale=len(depths) / 4,
            matching=matching,
        )
    ]


def _order(view: int) -> tuple[int, int]:
    return view // PRESET.n_num - PRESET.n_num // 2, view % PRESET.n_num - PRESET.n_num // 2


class ProjectionCase:
    """A random volume and the PSFs of 13 views, and what their transforms cost."""

    def __init__(self, bench: Bench) -> None:
        self.side, size = (45, 31) if bench.tiny else (429, 195)
        depths = PRESET.depths_um[::20] if bench.tiny else PRESET.depths_um
        psf = phase_space_psf(PRESET, depths, PRESET.views[:13], size)
        self.psf = psf.to(bench.device)
        generator = torch.Generator().manual_seed(0)
        shape = (self.psf.shape[1], self.side, self.side)
        self.volume = torch.rand(shape, generator=generator).to(bench.device)
        self.full = self.side + size - 1
        self.name = f"{shape[0]} x {self.side} x {self.side}, PSF {size}"
        self.plain_name = f"complex FFTs of {self.full} x {self.full} a view and depth"

    def transforms(self, count: int) -> float:
        """Return the operations of so many real transforms on the smallest sufficient grid."""
        points = padded_size(self.side, self.psf.shape[-1]) ** 2
        return count * 2.5 * points * math.log2(points)

    def products(self, count: int) -> float:
        """Return the operations of multiplying so many pairs of spectra, and adding them up."""
        return count * 8 * padded_size(self.side, self.psf.shape[-1]) ** 2 / 2


def plain_projection(volume: Tensor, psf: Tensor) -> Tensor:
    """Return one view: every depth padded, complex-transformed and inverted."""
    side, size = volume.shape[-1], psf.shape[-1]
    full, first = side + size - 1, size // 2
    view = volume.new_zeros(side, side)
    for plane, kernel in zip(volume, psf, strict=True):
        spectrum = torch.fft.fft2(plane.to(torch.complex64), (full, full))
        spectrum = spectrum * torch.fft.fft2(kernel.to(torch.complex64), (full, full))
        view = view + torch.fft.ifft2(spectrum).real[first : first + side, first : first + side]
    return view


def plain_back_projection(view: Tensor, psf: Tensor) -> Tensor:
    """Return the volume of one view, a complex transform and inverse for every depth."""
    side, size = view.shape[-1], psf.shape[-1]
    full, first = side + size - 1, (size - 1) // 2
    volume = view.new_empty(len(psf), side, side)
    for d, kernel in enumerate(psf):
        spectrum = torch.fft.fft2(view.to(torch.complex64), (full, full))
        turned = kernel.flip(0, 1).to(torch.complex64)
        spectrum = spectrum * torch.fft.fft2(turned, (full, full))
        volume[d] = torch.fft.ifft2(spectrum).real[first : first + side, first : first + side]
    return volume


def bench_projection(bench: Bench) -> list[Result]:
    case = ProjectionCase(bench)
    psf, volume = case.psf, case.volume
    operator = LightFieldOperator(psf)
    n_views, n_depths = psf.shape[:2]
    return [
        bench.compare(
            f"projection {n_views} views x {case.name}",
            lambda: operator.forward(volume),
            f"{case.plain_name}, 1 of {n_views} views, scaled",
            lambda: plain_projection(volume, psf[12]),
            Work(
                case.transforms(n_depths + n_views * n_depths + n_views)
                + case.products(n_views * n_depths),
                4 * (psf.numel() + volume.numel() + n_views * case.side**2),
            ),
            scale=n_views,
            matching=lambda views, plain: (views[12], plain),
        )
    ]


def bench_adjoint(bench: Bench) -> list[Result]:
    case = ProjectionCase(bench)
    psf = case.psf
    operator = LightFieldOperator(psf)
    views = operator.forward(case.volume)
    n_views, n_depths = psf.shape[:2]
    return [
        bench.compare(
            f"adjoint {n_views} views x {case.name}",
            lambda: operator.adjoint(views),
            f"{case.plain_name}, 1 of {n_views} views, scaled",
            lambda: plain_back_projection(views[12], psf[12]),
            Work(
                case.transforms(n_views + n_views * n_depths + n_depths)
                + case.products(n_views * n_depths),
                4 * (psf.numel() + case.volume.numel() + views.numel()),
            ),
            scale=n_views,
            matching=lambda _, plain: (operator.adjoint(views[12:], views=[12]), plain),
        )
    ]


def bench_update(bench: Bench) -> list[Result]:
    case = ProjectionCase(bench)
    side, psf = case.side, case.psf[12:]
    n_depths, size = psf.shape[1], psf.shape[-1]
    recorded = round(side / PRESET.lateral_scale)
    to_recorded = resize_matrix(side, recorded, antialias=True).to(psf)
    start = case.volume + 0.5
    measured = RecordedLightField(psf, (side, side), (recorded, recorded)).forward(case.volume)

    def ours() -> Tensor:
        operator = RecordedLightField(psf, (side, side), (recorded, recorded))
        return richardson_lucy_step(start.clone(), Subset(operator, measured))[0]

    def plain() -> Tensor:
        predicted = to_recorded @ plain_projection(start, psf[0]) @ to_recorded.T
        ratio = to_recorded.T @ (measured[0] / predicted) @ to_recorded
        ones = to_recorded.T @ torch.ones_like(measured[0]) @ to_recorded
        return start * plain_back_projection(ratio, psf[0]) / plain_back_projection(ones, psf[0])

    margin = size // 2 + 1
    inner = (..., slice(margin, side - margin), slice(margin, side - margin))
    return [
        bench.compare(
            f"deconvolution, update by one view, {case.name}",
            ours,
            f"{case.plain_name}, three times",
            plain,
            Work(
                case.transforms(3 * n_depths + 2) + case.products(2 * n_depths),
                4 * (psf.numel() + 2 * start.numel()),
            ),
            # Farther out little light is recorded.
            matching=lambda result, expected: (result[inner], expected[inner]),
        )
    ]
