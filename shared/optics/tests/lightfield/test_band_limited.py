import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optics import LightFieldOperator, OpticsError, phase_space_psf, presets, sample_views
from optics.lightfield.band import Sampling, sampling_matrix
from optics.lightfield.band_limited import BandLimitedOperator
from optics.lightfield.recording import RecordedLightField

sides = st.integers(1, 20)
samplings = st.sampled_from(["mean", "cubic", "point"])
bands = st.sampled_from([0.3, 1.0, math.inf])


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def view_size(volume_yx: tuple[int, int]) -> tuple[int, int]:
    return (max(volume_yx[0] // 3, 1), max(volume_yx[1] // 3, 1))


def full(psf: Tensor, volume: Tensor, views_yx: tuple[int, int], sampling: Sampling) -> Tensor:
    """Project at every frequency, then sample."""
    rows, columns = (
        sampling_matrix(source, target, sampling).to(psf)
        for source, target in zip(volume.shape[-2:], views_yx, strict=True)
    )
    return rows @ LightFieldOperator(psf).forward(volume) @ columns.T


@settings(max_examples=80)
@given(sides, sides, sides, sides, samplings, st.integers(0, 99))
def test_with_all_frequencies_it_is_the_full_operator(
    height: int, width: int, rows: int, columns: int, sampling: Sampling, seed: int
) -> None:
    psf, volume = random(2, 3, rows, columns, seed=seed), random(3, height, width, seed=seed + 1)
    views_yx = view_size((height, width))
    operator = BandLimitedOperator(psf, (height, width), views_yx, sampling=sampling, band=math.inf)
    torch.testing.assert_close(
        operator.forward(volume), full(psf, volume, views_yx, sampling), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40)
@given(sides, sides, sides, sides, samplings, bands, st.integers(0, 99))
def test_adjoint_is_the_transpose(
    dtype: torch.dtype,
    height: int,
    width: int,
    rows: int,
    columns: int,
    sampling: Sampling,
    band: float,
    seed: int,
) -> None:
    psf = random(2, 3, rows, columns, seed=seed, dtype=dtype)
    views_yx = view_size((height, width))
    operator = BandLimitedOperator(psf, (height, width), views_yx, sampling=sampling, band=band)
    volume = random(3, height, width, seed=seed + 1, dtype=dtype)
    views = random(2, *views_yx, seed=seed + 2, dtype=dtype)
    in_views = (operator.forward(volume) * views).double().sum()
    in_volume = (volume * operator.adjoint(views)).double().sum()
    assert abs(in_views - in_volume) <= (1e-5 if dtype == torch.float32 else 1e-12) * abs(in_views)


ends = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=60)
@given(st.integers(2, 5), st.integers(2, 5), ends, ends, samplings, bands, st.integers(0, 99))
def test_views_of_a_volume_that_reaches_beyond_are_the_middle_of_larger_views(
    height: int,
    width: int,
    rows: tuple[int, int],
    columns: tuple[int, int],
    sampling: Sampling,
    band: float,
    seed: int,
) -> None:
    large = (height + sum(rows), width + sum(columns))
    volume_yx = (3 * large[0], 3 * large[1])
    psf, volume = random(2, 2, 5, 7, seed=seed), random(2, *volume_yx, seed=seed + 1)
    wide = BandLimitedOperator(psf, volume_yx, large, sampling=sampling, band=band)
    operator = BandLimitedOperator(
        psf, volume_yx, (height, width), sampling=sampling, band=band, beyond=(rows, columns)
    )
    inside = (slice(rows[0], rows[0] + height), slice(columns[0], columns[0] + width))
    torch.testing.assert_close(operator.forward(volume), wide.forward(volume)[:, *inside])
    views = torch.zeros(2, *large, dtype=torch.float64)
    views[:, *inside] = random(2, height, width, seed=seed + 2)
    torch.testing.assert_close(operator.adjoint(views[:, *inside]), wide.adjoint(views))


@settings(max_examples=30)
@given(sides, sides, samplings, bands, st.integers(0, 99))
def test_projection_is_linear(
    height: int, width: int, sampling: Sampling, band: float, seed: int
) -> None:
    psf, one, other = random(2, 3, 5, 4), *random(2, 3, height, width, seed=seed)
    operator = BandLimitedOperator(
        psf, (height, width), view_size((height, width)), sampling=sampling, band=band
    )
    together = operator.forward(2 * one - 3 * other)
    torch.testing.assert_close(together, 2 * operator.forward(one) - 3 * operator.forward(other))


def tubes(depths: int, side: int) -> Tensor:
    """Draw bright tubes and a bubble, with the sharp edges of simulated samples."""
    z, y, x = torch.meshgrid(
        torch.arange(depths) * 1.6, *torch.arange(side).float().repeat(2, 1), indexing="ij"
    )
    volume = torch.zeros(depths, side, side)
    for slope, start, height in ((0.6, 0.1, 0.3), (-0.4, 0.8, 0.5), (0.1, 0.5, 0.8)):
        away = torch.hypot(y - side * start - slope * x, z - 1.6 * depths * height)
        volume[(away > 1) & (away < 3)] = 1
    radius = torch.sqrt((y - side / 2) ** 2 + (x - side / 3) ** 2 + (z - 0.8 * depths) ** 2)
    volume[(radius > 7) & (radius < 9)] = 0.5
    return volume


@pytest.mark.parametrize("side", [143, 195, 234])
@pytest.mark.parametrize("sampling", ["mean", "cubic"])
def test_views_of_the_microscope_are_within_a_thousandth(side: int, sampling: Sampling) -> None:
    preset = presets["nnum13"].with_middle_depths(31)
    psf = phase_space_psf(preset, views=[84, preset.views[30], preset.views[48]], size=101)
    volume, views_yx = tubes(31, side), (side * 3 // 13, side * 3 // 13)
    expected = full(psf, volume, views_yx, sampling)
    if sampling == "cubic":
        projected = LightFieldOperator(psf).forward(volume)
        torch.testing.assert_close(
            expected, sample_views(projected, 13 / 3), rtol=0, atol=1e-5 * float(expected.max())
        )
    views = BandLimitedOperator(psf, (side, side), views_yx, sampling=sampling).forward(volume)
    error = float((views - expected).abs().max() / expected.max())
    assert error < 1e-3
    narrow = BandLimitedOperator(psf, (side, side), views_yx, sampling=sampling, band=0.5)
    assert (narrow.forward(volume) - expected).abs().max() > 3e-3 * expected.max()


@pytest.mark.parametrize("point_samples", [False, True])
def test_views_are_those_of_the_recorded_light_field(point_samples: bool) -> None:
    psf, volume = random(2, 3, 8, 7), random(3, 30, 45, seed=1)
    recorded = RecordedLightField(psf, (30, 45), (6, 9), point_samples=point_samples)
    operator = BandLimitedOperator(
        psf, (30, 45), (6, 9), sampling="point" if point_samples else "mean", band=math.inf
    )
    torch.testing.assert_close(
        operator.forward(volume), recorded.forward(volume), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("band", [0.7, math.inf])
def test_gradients_and_their_gradients(band: float) -> None:
    operator = BandLimitedOperator(random(2, 2, 4, 3), (7, 6), (3, 2), band=band)
    volume = random(2, 2, 7, 6, seed=1).requires_grad_()
    views = random(2, 3, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: operator.forward(v, views=[1]), (volume,))
    assert torch.autograd.gradcheck(operator.adjoint, (views,))
    assert torch.autograd.gradgradcheck(lambda v: operator.forward(v).square(), (volume,))


def test_some_views_and_batches_are_parts_of_the_whole() -> None:
    operator = BandLimitedOperator(random(4, 3, 5, 5), (12, 15), (4, 5))
    volumes = random(2, 3, 12, 15, seed=1)
    views = operator.forward(volumes)
    assert views.shape == (2, 4, 4, 5)
    torch.testing.assert_close(operator.forward(volumes[1], views=[2, 0]), views[1, [2, 0]])
    volume = operator.adjoint(views)
    parts = [operator.adjoint(views[:, chosen], views=chosen) for chosen in ([1, 3], [0, 2])]
    torch.testing.assert_close(parts[0] + parts[1], volume)


def test_planes_come_in_slabs_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = BandLimitedOperator(random(2, 7, 5, 5), (12, 15), (4, 5))
    views = random(2, 4, 5, seed=1)
    expected = operator.adjoint(views)
    monkeypatch.setattr("optics.lightfield.band._SLAB_BYTES", {"cpu": 4000})
    slabs = list(operator.adjoint_slabs(views))
    assert len(slabs) > 2
    assert [depths.start for depths, _ in slabs[1:]] == [depths.stop for depths, _ in slabs[:-1]]
    torch.testing.assert_close(torch.cat([planes for _, planes in slabs]), expected)
    torch.testing.assert_close(operator.adjoint(views), expected)


def test_half_precision_of_networks_does_not_reach_it() -> None:
    operator = BandLimitedOperator(random(2, 3, 5, 5).float(), (12, 15), (4, 5))
    volume = random(3, 12, 15, seed=1).float()
    expected = operator.forward(volume), operator.adjoint(operator.forward(volume))
    with torch.autocast("cpu", torch.bfloat16):
        views = operator.forward(volume)
        assert torch.equal(views, expected[0])
        assert torch.equal(operator.adjoint(views), expected[1])


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    psf, volume = random(3, 9, 15, 14).float(), random(9, 60, 55, seed=1).float()
    here = BandLimitedOperator(psf, (60, 55), (12, 11))
    there = BandLimitedOperator(psf.cuda(), (60, 55), (12, 11))
    views = here.forward(volume)
    torch.testing.assert_close(there.forward(volume.cuda()).cpu(), views)
    torch.testing.assert_close(there.adjoint(views.cuda()).cpu(), here.adjoint(views))


def test_what_does_not_fit_is_refused() -> None:
    psf = random(2, 3, 5, 5)
    operator = BandLimitedOperator(psf, (12, 12), (4, 4))
    with pytest.raises(OpticsError, match=r"expected \(A, D, H, W\)"):
        BandLimitedOperator(psf[0], (12, 12), (4, 4))
    with pytest.raises(OpticsError, match="give mean, cubic or point"):
        BandLimitedOperator(psf, (12, 12), (4, 4), sampling="nearest")  # type: ignore[arg-type]
    with pytest.raises(OpticsError, match=r"expected \(3, 12, 12\)"):
        operator.forward(random(3, 12, 13))
    with pytest.raises(OpticsError, match=r"expected \(1, 4, 4\)"):
        operator.adjoint(random(2, 4, 4), views=[0])
    with pytest.raises(OpticsError, match="views 0 to 1"):
        operator.forward(random(3, 12, 12), views=[2])
    with pytest.raises(OpticsError, match=r"float32, the PSF is torch\.float64"):
        operator.forward(random(3, 12, 12).float())
