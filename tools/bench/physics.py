"""The physics of deconvolution and of the likelihood: as computed, in full, and by the formula.

``python -m bench.physics`` (in ``tools``) prints the table of docs/performance.md. Times are those
of the processor, which other work on the machine lengthens less than those of a clock.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bench.light_field import PRESET, plain_back_projection, plain_projection
from optics import (
    NLLMPG,
    BandLimitedOperator,
    LightFieldMicroscope,
    LightFieldOperator,
    RecordedLightField,
    Subset,
    phase_space_psf,
    presets,
    richardson_lucy,
    richardson_lucy_step,
    sample_views,
    sampled_size,
    volume_sieve,
)
from optics.lightfield.band import Sampling
from optics.lightfield.octants import OctantPSF
from optics.lightfield.recording import resize_matrix
from serenet.deconvolution.operators import ViewOperator
from serenet.deconvolution.subsets import EXPONENT
from serenet.views.psf import view_groups


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one call, s."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(case: str, ours: float, full: float, plain: float | None) -> None:
    """Print a row of the table."""
    ratio = f"{full / ours:.1f}"
    formula = "" if plain is None else f"{plain:.3g} s | {plain / ours:.0f}"
    print(f"| {case} | {ours:.3g} s | {full:.3g} s | {ratio} | {formula or ' | '} |", flush=True)


def bench_update(side: int = 429, size: int = 195) -> None:
    """One update by one view of a volume of 101 planes; its operator made, and kept."""
    psf = phase_space_psf(PRESET, views=PRESET.views[12:13], size=size)
    volume = torch.rand((psf.shape[1], side, side), generator=torch.Generator().manual_seed(0))
    views_yx = (sampled_size(side, PRESET.lateral_scale),) * 2
    full = RecordedLightField(psf, (side, side), views_yx)
    measured = full.forward(volume)
    matrix = resize_matrix(side, views_yx[0], antialias=True).to(psf)
    start = volume + 0.5

    def plain() -> Tensor:
        predicted = matrix @ plain_projection(start, psf[0]) @ matrix.T
        ratio = matrix.T @ (measured[0] / predicted) @ matrix
        ones = matrix.T @ torch.ones_like(measured[0]) @ matrix
        return start * plain_back_projection(ratio, psf[0]) / plain_back_projection(ones, psf[0])

    def before() -> Tensor:
        made = RecordedLightField(psf, (side, side), views_yx)
        return richardson_lucy_step(start.clone(), Subset(made, measured))[0]

    def first() -> Tensor:
        made = ViewOperator(psf, (side, side), views_yx, PRESET)
        return richardson_lucy_step(start.clone(), Subset(made, measured))[0]

    kept = ViewOperator(psf, (side, side), views_yx, PRESET)
    kept.keeps_sensitivity = True

    def later() -> Tensor:
        return richardson_lucy_step(start.clone(), Subset(kept, measured))[0]

    error = float((later() - before()).norm() / before().norm())
    slow, formula = seconds(before), seconds(plain)
    name = f"update by one view, {len(volume)} x {side} x {side}"
    row(f"{name}, operator made", seconds(first), slow, formula)
    row(f"{name}, operator kept", seconds(later), slow, formula)
    print(f"difference from the full operator {error:.1e} (L2)")


def bench_likelihood(crop: int, size: int = 195, count: int = 13) -> None:
    """Likelihood of 13 views of a crop, and its gradient."""
    scope = PRESET.with_views(PRESET.views[:count])
    side = round(crop * scope.lateral_scale)
    psf = phase_space_psf(scope, size=size)
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand((psf.shape[1], side, side), generator=generator).requires_grad_()
    likelihood = NLLMPG(0, 9)
    operator = BandLimitedOperator(psf, (side, side), (crop, crop), sampling="cubic")
    full = LightFieldOperator(psf)

    def loss(views: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(likelihood(views, target).mean(), volume)
        return gradient

    with torch.no_grad():
        target = operator.forward(volume.detach()) * 1.1
    fast = seconds(lambda: loss(operator.forward(volume)))
    slow = seconds(lambda: loss(sample_views(full.forward(volume), scope.lateral_scale)))

    def plain() -> None:
        leaf = volume.detach()
        plain_back_projection(plain_projection(leaf, psf[0]), psf[0])

    row(f"likelihood of {count} views, crop {crop}", fast, slow, count * seconds(plain))


def bench_sweep(side: int = 429, size: int = 195, tried: int = 13) -> None:
    """Time a sweep of all 169 views by so many of them: PSF, operators, updates."""
    every = PRESET.with_all_views()
    order = every.oblique_first[:: math.ceil(169 / tried)]
    octants = OctantPSF(every, every.depths_um, every.views, size)
    views_yx = (sampled_size(side, PRESET.lateral_scale),) * 2
    estimate = torch.rand((101, side, side), generator=torch.Generator().manual_seed(0)) + 0.5
    measured = torch.ones((1, *views_yx))
    images = dict(zip(octants.orders, octants.images(), strict=True))

    def updates(recorded: bool) -> None:
        volume = estimate.clone()
        for channel in order:
            number = next(n for n, m in enumerate(octants.members) if channel in m)
            psf = octants.mirrored(images[octants.orders[number]], channel)[None]
            operator = (
                RecordedLightField(psf, (side, side), views_yx)
                if recorded
                else ViewOperator(psf, (side, side), views_yx, PRESET)
            )
            richardson_lucy_step(volume, Subset(operator, measured), exponent=EXPONENT)

    scale = 169 / len(order)
    case = f"sweep of 169 views, 101 x {side} x {side}, from {len(order)} of them"
    row(case, scale * seconds(lambda: updates(False)), scale * seconds(lambda: updates(True)), None)


def volume_difference(scope: LightFieldMicroscope, side: int, size: int) -> float:
    """Return how far volumes of three sweeps are from those of full operators (L2)."""
    generator = torch.Generator().manual_seed(0)
    shape = scope.volume_shape((side, side))
    psf = phase_space_psf(scope, size=size)
    truth = torch.rand(shape, generator=generator).pow_(8)
    sieve = volume_sieve(scope) if scope.scanning == 1 else None
    groups = view_groups(scope)

    def operators(band: float | None) -> list[BandLimitedOperator]:
        sampling: Sampling = "point" if scope.scanning == 1 else "mean"
        if band is None:
            return [ViewOperator(psf[g], shape[1:], (side, side), scope, sieve) for g in groups]
        return [
            BandLimitedOperator(
                psf[g], shape[1:], (side, side), sampling=sampling, band=band, sieve=sieve
            )
            for g in groups
        ]

    full = operators(math.inf)
    views = [torch.poisson(200 * one.forward(truth).clamp(min=0), generator) for one in full]
    made = [
        richardson_lucy(
            [Subset(o, v) for o, v in zip(chosen, views, strict=True)],
            torch.ones(shape),
            iterations=3,
            exponent=EXPONENT,
        )
        for chosen in (full, operators(None))
    ]
    volumes = made if sieve is None else [sieve.volume(one) for one in made]
    return float((volumes[1] - volumes[0]).norm() / volumes[0].norm())


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(
        "| case | now | full operator | ratio | plain formula | ratio |\n|---|---|---|---|---|---|"
    )
    bench_likelihood(33)
    bench_update()
    bench_likelihood(99)
    bench_sweep()
    scanned = PRESET.with_depths([-4.0, -2.0, 0.0, 2.0, 4.0]).with_views(PRESET.views[:25])
    print(f"volumes of three sweeps, scanned: {volume_difference(scanned, 24, 65):.1e} (L2)")
    plain = presets["nnum15"].model_copy(update={"scanning": 1})
    single = plain.with_depths([-4.0, -2.0, 0.0, 2.0, 4.0]).with_views(plain.views[:24])
    print(f"volumes of three sweeps, unscanned: {volume_difference(single, 15, 75):.1e} (L2)")


if __name__ == "__main__":
    main()
