import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optics import (
    OpticsError,
    blur_and_downsample,
    blur_padding,
    gaussian_section,
    section_to_kernel,
)

Sizes = tuple[int, int, int]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def directly(volume: Tensor, kernel: Tensor, scale: int, padding: Sizes) -> Tensor:
    """Return the sum of the docstring: a strided correlation with ample zeros around."""
    margins = [n for k in reversed(kernel.shape) for n in (k, k)]
    full = F.conv3d(F.pad(volume, margins), kernel[None, None])
    corner = [k - p for k, p in zip(kernel.shape, padding, strict=True)]
    _, _, depth, height, width = volume.shape
    planes = slice(corner[0], corner[0] + depth // scale * scale, scale)
    return full[:, :, planes, corner[1] : corner[1] + height, corner[2] : corner[2] + width]


sizes = st.tuples(*[st.integers(1, 9)] * 3)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, Sizes]:
    volume, kernel = draw(sizes), draw(sizes)
    scale = draw(st.integers(1, volume[0]))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    batch = draw(st.integers(1, 2))
    return random(batch, 1, *volume), random(*kernel, seed=1), scale, padding  # type: ignore[return-value]


@settings(max_examples=80)
@given(cases())
def test_equals_the_direct_sum(case: tuple[Tensor, Tensor, int, Sizes]) -> None:
    torch.testing.assert_close(blur_and_downsample(*case), directly(*case))


@settings(max_examples=30)
@given(cases())
def test_gradients_equal_those_of_the_direct_sum(
    case: tuple[Tensor, Tensor, int, Sizes],
) -> None:
    volume, kernel, scale, padding = case
    gradients = []
    for blur in (blur_and_downsample, directly):
        inputs = (volume.clone().requires_grad_(), kernel.clone().requires_grad_())
        image = blur(*inputs, scale, padding)
        weights = random(*image.shape, seed=2)
        gradients.append(torch.autograd.grad((weights * image).sum(), inputs))
    for by_fft, by_sum in zip(*gradients, strict=True):
        torch.testing.assert_close(by_fft, by_sum)


def test_single_precision_agrees_to_1e_5() -> None:
    volume, kernel = random(1, 1, 60, 24, 25, dtype=torch.float32), gaussian_kernel((41, 11, 9))
    results = []
    for blur in (blur_and_downsample, directly):
        inputs = (volume.clone().requires_grad_(), kernel.clone().requires_grad_())
        image = blur(*inputs, 10, (16, 5, 4))
        results.append((image, *torch.autograd.grad(image.square().sum(), inputs)))
    for by_fft, by_sum in zip(*results, strict=True):
        assert (by_fft - by_sum).abs().max() <= 1e-5 * by_sum.abs().max()


def gaussian_kernel(size_zyx: Sizes) -> Tensor:
    size_z, size_y, size_x = size_zyx
    section, _ = gaussian_section(
        size_x=size_x, size_y=size_y, size_z=size_z, res_lateral=1, scale=1, bet_xy=3, bet_z=9
    )
    return section_to_kernel(section, size_zyx)


@pytest.mark.parametrize("scale", [1, 3])
def test_gradients_are_exact(scale: int) -> None:
    volume = random(2, 1, 7, 4, 3).requires_grad_()
    kernel = random(5, 2, 3, seed=1).requires_grad_()

    def blur(volume: Tensor, kernel: Tensor) -> Tensor:
        return blur_and_downsample(volume, kernel, scale, (2, 1, 1))

    assert torch.autograd.gradcheck(blur, (volume, kernel))


def test_only_the_wanted_gradient_is_computed() -> None:
    volume, kernel = random(1, 1, 6, 4, 4).requires_grad_(), random(3, 3, 3)
    blur_and_downsample(volume, kernel, 2, (1, 1, 1)).sum().backward()
    assert volume.grad is not None
    assert kernel.grad is None


def test_no_spectra_are_kept_for_the_gradient() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    volume = random(1, 1, 20, 8, 8).requires_grad_()
    kernel = random(9, 5, 5).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        blur_and_downsample(volume, kernel, 5, (3, 2, 2))
    assert sum(kept) <= volume.numel() + 15 * 25  # the kernel in whole phases; no spectra


def test_published_blur_is_reproduced(reference: Path) -> None:
    golden = np.load(reference / "golden/tenet_blur_beads.npz")
    section = torch.tensor(np.load(reference / "golden/gibson_lanni_beads.npz")["psf_rz"])
    size_zyx = (201, 51, 51)
    padding = blur_padding(size_zyx, res_axial=0.5, res_lateral=0.05)
    kernel = section_to_kernel(section.float(), size_zyx)
    blurred = blur_and_downsample(torch.tensor(golden["sharp"]), kernel, 10, padding)
    expected = torch.tensor(golden["blurred"])
    assert blurred.shape == expected.shape
    assert (blurred - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("size_zyx", "res_axial", "res_lateral", "expected"),
    [
        ((201, 51, 51), 0.5, 0.05, (96, 25, 25)),  # 0.5 // 0.05 is 9
        ((200, 51, 51), 0.5, 0.05, (96, 25, 25)),
        ((201, 51, 31), 1.0, 0.25, (99, 25, 15)),
        ((8, 4, 6), 1.0, 1.0, (4, 2, 3)),
    ],
)
def test_padding(size_zyx: Sizes, res_axial: float, res_lateral: float, expected: Sizes) -> None:
    assert blur_padding(size_zyx, res_axial=res_axial, res_lateral=res_lateral) == expected


@pytest.mark.parametrize("size_zyx", [(7, 5, 5), (6, 4, 7), (1, 1, 1), (21, 9, 2)])
def test_kernel_takes_the_nearest_radius(size_zyx: Sizes) -> None:
    rows, columns = 3, 9
    section = random(rows, columns)
    kernel = section_to_kernel(section, size_zyx)
    assert kernel.sum() == pytest.approx(1)
    raw = np.empty(size_zyx)
    for i, j, k in np.ndindex(*size_zyx):
        radius = math.hypot(j - (size_zyx[1] - 1) / 2, k - (size_zyx[2] - 1) / 2)
        raw[i, j, k] = section[math.floor(i * rows / size_zyx[0]), round(radius)]
    np.testing.assert_allclose(kernel.numpy(), raw / raw.sum())


@given(st.integers(1, 40), st.integers(1, 40))
def test_sections_reach_the_corner_of_their_kernel(size_y: int, size_x: int) -> None:
    section, _ = gaussian_section(
        size_x=size_x, size_y=size_y, size_z=3, res_lateral=1, scale=1, bet_xy=9, bet_z=9
    )
    kernel = section_to_kernel(section, (3, size_y, size_x))
    torch.testing.assert_close(kernel, kernel.flip(1))
    torch.testing.assert_close(kernel, kernel.flip(0, 2))


def test_kernel_is_differentiable() -> None:
    section = random(3, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: section_to_kernel(s, (5, 6, 4)), section)


def test_a_flat_field_stays_flat_within_the_border() -> None:
    kernel = gaussian_kernel((21, 9, 9))
    image = blur_and_downsample(torch.ones(1, 1, 60, 30, 30), kernel, 3, (9, 4, 4))
    inside = image[:, :, 4:-4, 4:-4, 4:-4]
    torch.testing.assert_close(inside, torch.ones_like(inside))


@pytest.mark.parametrize(
    ("volume", "kernel", "scale", "padding", "message"),
    [
        ((1, 8, 4, 4), (3, 3, 3), 2, (1, 1, 1), "give a volume"),
        ((1, 2, 8, 4, 4), (3, 3, 3), 2, (1, 1, 1), "give a volume"),
        ((1, 1, 8, 4, 4), (1, 3, 3, 3), 2, (1, 1, 1), "give a volume"),
        ((1, 1, 8, 4, 4), (3, 3, 3), 9, (1, 1, 1), "scale is 9, the volume has 8 planes"),
        ((1, 1, 8, 4, 4), (3, 3, 3), 0, (1, 1, 1), "scale is 0"),
        ((1, 1, 8, 4, 4), (3, 3, 3), 2, (3, 1, 1), r"padding \(3, 1, 1\) of a kernel \(3, 3, 3\)"),
        ((1, 1, 8, 4, 4), (3, 3, 3), 2, (1, -1, 1), "padding"),
    ],
)
def test_wrong_shapes_are_named(
    volume: tuple[int, ...], kernel: tuple[int, ...], scale: int, padding: Sizes, message: str
) -> None:
    with pytest.raises(OpticsError, match=message):
        blur_and_downsample(torch.ones(volume), torch.ones(kernel), scale, padding)


@pytest.mark.parametrize(
    ("shape", "size_zyx", "message"),
    [
        ((3, 4), (3, 9, 9), "4 radii, the corner of a kernel .* is at radius 6"),
        ((3, 4), (0, 3, 3), "three positive sizes"),
        ((4,), (3, 3, 3), "give a section"),
    ],
)
def test_wrong_sections_are_named(shape: tuple[int, ...], size_zyx: Sizes, message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        section_to_kernel(torch.ones(shape), size_zyx)
