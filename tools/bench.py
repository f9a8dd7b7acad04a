"""Speed and memory, each against the plain formula in the same run: ``nox -s bench``.

Times are the shortest of the repeats, which take turns with the plain formula. Where that is
timed on a part of the work and scaled up, its name says so. Memory is the whole process's largest
resident size while the code runs.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_baselines import bench_baselines
from bench_two_photon import bench_two_photon
from timing import Result, compare, relative
from torch import Tensor, nn

import serenet
from optics import (
    NLLMPG,
    LightFieldOperator,
    RecordedLightField,
    Subset,
    phase_space_psf,
    presets,
    psf_shift,
    update,
)
from optics.recorded import resize_matrix
from scopekit.memory import keep_freed_memory
from serenet.crop_recipe import Crop
from serenet.networks import SeReNet
from serenet.recipes import Optics, SelfSupervised
from serenet.training_settings import Perceptual, load_settings

PRESET = presets["nnum13"]
VIEWS = PRESET.views[:13]
SIDE = 429


def plain_psf(views: Sequence[int], depth_um: float, samples: int) -> Tensor:
    """Return |IFFT[pupil x windows]|^2, (A, 195, 195), on a periodic grid of so many pixels."""
    frequency = torch.fft.fftfreq(samples, PRESET.pixel_um)
    radius2 = frequency[:, None] ** 2 + frequency**2
    axial = ((PRESET.refractive_index / PRESET.wavelength_um) ** 2 - radius2).clamp(min=0).sqrt()
    inside = radius2 <= (PRESET.numerical_aperture / PRESET.wavelength_um) ** 2
    pupil = inside * torch.exp(2j * math.pi * depth_um * axial)
    window_um = PRESET.microlens_pitch_um / PRESET.magnification
    at = torch.arange(-97, 98)

    def window(order: int) -> Tensor:
        return torch.sinc((frequency - order * PRESET.view_step) * window_um)

    def seen(view: int) -> Tensor:
        u, v = view // PRESET.n_num - PRESET.n_num // 2, view % PRESET.n_num - PRESET.n_num // 2
        field = torch.fft.ifft2(pupil * window(u)[:, None] * window(v))
        return field[at][:, at].abs() ** 2

    return torch.stack([seen(view) for view in views])


def bench_psf() -> list[Result]:
    def differ(psf: Tensor, _: Tensor) -> float:
        # A narrow periodic grid wraps around: the values are compared on a wide one.
        total = plain_psf([PRESET.central_view], 0.0, 4096).sum() / psf[0, 50].sum()
        return max(
            relative(psf[a, d], plain_psf([PRESET.views[a]], PRESET.depths_um[d], 4096)[0] / total)
            for a, d in ((0, 55), (9, 30), (48, 50))
        )

    return [
        compare(
            "psf 49 x 101 x 195 x 195",
            lambda: phase_space_psf(PRESET),
            "an FFT of 432 x 432 a view and depth, 4 of 101 depths, scaled",
            lambda: torch.stack([plain_psf(PRESET.views, z, 432) for z in (-10, -4, 0.6, 7)]),
            scale=101 / 4,
            differ=differ,
        )
    ]


def projection_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return phase_space_psf(PRESET, views=VIEWS), torch.rand(101, SIDE, SIDE, generator=generator)


def plain_projection(volume: Tensor, psf: Tensor) -> Tensor:
    """Return one view: every depth padded, complex-transformed and inverted."""
    side = volume.shape[-1]
    full = side + psf.shape[-1] - 1
    view = torch.zeros(side, side)
    for plane, kernel in zip(volume, psf, strict=True):
        spectrum = torch.fft.fft2(plane.to(torch.complex64), (full, full))
        spectrum = spectrum * torch.fft.fft2(kernel.to(torch.complex64), (full, full))
        view = view + torch.fft.ifft2(spectrum).real[97 : 97 + side, 97 : 97 + side]
    return view


def plain_back_projection(view: Tensor, psf: Tensor) -> Tensor:
    """Return the volume of one view, a complex transform and inverse for every depth."""
    full = SIDE + psf.shape[-1] - 1
    volume = torch.empty(len(psf), SIDE, SIDE)
    for d, kernel in enumerate(psf):
        spectrum = torch.fft.fft2(view.to(torch.complex64), (full, full))
        turned = kernel.flip(0, 1).to(torch.complex64)
        spectrum = spectrum * torch.fft.fft2(turned, (full, full))
        volume[d] = torch.fft.ifft2(spectrum).real[97 : 97 + SIDE, 97 : 97 + SIDE]
    return volume


def bench_projection() -> list[Result]:
    psf, volume = projection_case()
    operator = LightFieldOperator(psf)
    return [
        compare(
            f"projection 13 views x 101 x {SIDE} x {SIDE}, PSF 195",
            lambda: operator.forward(volume),
            "complex FFTs of 623 x 623 a view and depth, 1 of 13 views, scaled",
            lambda: plain_projection(volume, psf[12]),
            scale=13,
            differ=lambda views, plain: relative(views[12], plain),
        )
    ]


def bench_adjoint() -> list[Result]:
    psf, volume = projection_case()
    operator = LightFieldOperator(psf)
    views = operator.forward(volume)
    return [
        compare(
            f"adjoint 13 views x 101 x {SIDE} x {SIDE}, PSF 195",
            lambda: operator.adjoint(views),
            "complex FFTs of 623 x 623 a view and depth, 1 of 13 views, scaled",
            lambda: plain_back_projection(views[12], psf[12]),
            scale=13,
            differ=lambda _, plain: relative(operator.adjoint(views[12:], views=[12]), plain),
        )
    ]


def bench_update() -> list[Result]:
    psf, volume = projection_case()
    psf = psf[12:]
    recorded = round(SIDE / PRESET.lateral_scale)
    to_recorded = resize_matrix(SIDE, recorded, antialias=True)
    start = volume + 0.5
    measured = RecordedLightField(psf, (SIDE, SIDE), (recorded, recorded)).forward(volume)

    def ours() -> Tensor:
        operator = RecordedLightField(psf, (SIDE, SIDE), (recorded, recorded))
        return update(start.clone(), Subset(operator, measured))[0]

    def plain() -> Tensor:
        predicted = to_recorded @ plain_projection(start, psf[0]) @ to_recorded.T
        ratio = to_recorded.T @ (measured[0] / predicted) @ to_recorded
        ones = to_recorded.T @ torch.ones(recorded, recorded) @ to_recorded
        return start * plain_back_projection(ratio, psf[0]) / plain_back_projection(ones, psf[0])

    def differ(result: Tensor, expected: Tensor) -> float:
        inner = (..., slice(98, -98), slice(98, -98))  # farther out little light is recorded
        return relative(result[inner], expected[inner])

    name = f"deconvolution, update by one view, 101 x {SIDE} x {SIDE}, PSF 195"
    formula = "complex FFTs of 623 x 623, three times a depth"
    return [compare(name, ours, formula, plain, differ=differ)]


def plain_network(model: SeReNet, inputs: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the volume, and it before the final resize, by contiguous float32 operators."""

    def convolve(x: Tensor, stack: nn.Sequential) -> Tensor:
        for layer in stack:
            if isinstance(layer, nn.Conv3d):
                x = F.leaky_relu(F.conv3d(x, layer.weight, layer.bias, padding=1), 0.1)
        return x

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)

    x = convolve(enlarge(convolve(inputs, model.coarse)), model.middle)
    x = convolve(enlarge(x), model.fine)
    size = (x.shape[2], *(round(n * scale) for n in inputs.shape[-2:]))
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False), x


def bench_network() -> list[Result]:
    torch.manual_seed(0)
    inputs, scale = torch.rand(1, 49, 101, 99, 99), PRESET.lateral_scale
    plain = serenet.build_model("serenet").eval()
    fast = serenet.build_model("serenet").eval()
    fast.load_state_dict(plain.state_dict())
    fast.to(memory_format=torch.channels_last_3d)

    def half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return fast(inputs, scale).float()

    results = []
    with torch.inference_mode():
        for precision, ours in (("float32", lambda: fast(inputs, scale)), ("bfloat16", half)):
            results.append(
                compare(
                    f"network 49 x 101 x 99 x 99, {precision}",
                    ours,
                    "contiguous float32",
                    lambda: plain_network(plain, inputs, scale)[0],
                    repeats=2,
                    differ=relative,
                )
            )
    return results


class NoData:
    """Stands for training data where the crops are given."""

    def __len__(self) -> int:
        return 1


def training_case(side: int) -> tuple[SelfSupervised, Crop, SeReNet]:
    """Return the recipe of serenet, a crop of that side, and the plain network."""
    torch.manual_seed(0)
    settings = load_settings("serenet_nnum13").model_copy(
        update={"perceptual": Perceptual(weight=0)}
    )
    psf = phase_space_psf(PRESET)
    optics = Optics(PRESET, LightFieldOperator(psf), psf_shift(psf))
    model, plain = (serenet.build_model("serenet").train() for _ in range(2))
    with torch.no_grad():
        # Light everywhere: where there is almost none the gradient is ill-conditioned.
        model.fine[-2].bias += 10
    plain.load_state_dict(model.state_dict())
    model.to(memory_format=torch.channels_last_3d)
    parts = (model, optics, NoData(), NoData(), settings)
    inputs = 100 * torch.rand(49, side, side)
    projected = tuple(range(0, 49, 4))
    crop = Crop("random", inputs, inputs[list(projected)], projected)
    return SelfSupervised(*parts, perceptual=None), crop, plain


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def plain_step(recipe: SelfSupervised, crop: Crop, model: SeReNet) -> Tensor:
    """Return the gradient of the training loss, every view projected by complex FFTs."""
    model.zero_grad(set_to_none=True)
    scale, likelihood = PRESET.lateral_scale, NLLMPG(0, 9)
    inputs = serenet.decompose(crop.inputs, recipe.optics.shift / scale)[None]
    volume, enlarged = plain_network(model, inputs, scale)
    leaf = volume.detach().requires_grad_()
    peaks = torch.quantile(crop.target.flatten(1), 0.999, dim=1).abs() + 1
    # View by view, or the graph of all transforms would not fit the memory.
    for target, view in zip(crop.target, crop.projected, strict=True):
        projected = plain_projection(leaf[0, 0], recipe.optics.operator.psf[view])
        resized = F.interpolate(projected[None, None], size=target.shape, mode="bilinear")[0, 0]
        (likelihood(resized, target) / peaks.mean() / len(peaks)).backward()
    negativity = 1000 * (enlarged - enlarged.abs()).abs().mean()
    torch.autograd.backward([volume, negativity], [leaf.grad, torch.ones(())])
    return gradients(model)


def bench_training_step() -> list[Result]:
    keep_freed_memory()
    results = []
    for side in (33, 99):
        recipe, crop, plain = training_case(side)

        def ours(recipe: SelfSupervised = recipe, crop: Crop = crop) -> Tensor:
            recipe.model.zero_grad(set_to_none=True)
            torch.stack(list(recipe.losses(recipe.model, [crop]).values())).sum().backward()
            return gradients(recipe.model)

        results.append(
            compare(
                f"training step of serenet, crop {side}, 101 depths, without LPIPS",
                ours,
                "contiguous float32 network, complex FFTs a view and depth",
                lambda r=recipe, c=crop, p=plain: plain_step(r, c, p),
                repeats=2 if side < 99 else 1,
                differ=relative,
            )
        )
    return results


CASES = {
    "psf": bench_psf,
    "projection": bench_projection,
    "adjoint": bench_adjoint,
    "update": bench_update,
    "network": bench_network,
    "training": bench_training_step,
    "baselines": bench_baselines,
    "two-photon": bench_two_photon,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known are {', '.join(CASES)}")

    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    results = []
    for case in arguments.cases or CASES:
        for result in CASES[case]():
            results.append(result)
            print(
                f"{result.name}: {result.seconds:.2f} s, plain {result.plain_seconds:.2f} s "
                f"({result.plain}), {result.ratio:.1f} x faster, "
                f"difference {result.max_relative_difference:.1e}, "
                f"peak {result.peak_gib:.2f} GiB, plain {result.plain_peak_gib:.2f} GiB",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
