import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from optics import LightFieldMicroscope, OpticsError, phase_space_psf, presets, psf_shift

NNUM13, NNUM15 = presets["nnum13"], presets["nnum15"]
# Water immersion, unscanned, n_num 15 and the aperture's views.
WATER = LightFieldMicroscope(
    magnification=60,
    numerical_aperture=1.2,
    refractive_index=1.35,
    wavelength_um=0.593,
    microlens_pitch_um=100,
    microlens_focal_length_um=2500,
    n_num=15,
    depths_um=(-2, 0, 2),
)


def by_plain_fft(
    microscope: LightFieldMicroscope, depth_um: float, views: list[int], size: int, samples: int
) -> Tensor:
    """Return the PSF (A, size, size) by the formula on a wide grid that obeys Nyquist."""
    limit = microscope.numerical_aperture / microscope.wavelength_um
    every = math.ceil(microscope.pixel_um * 2 * limit)
    step_um = microscope.pixel_um / every
    f = torch.fft.fftfreq(samples, step_um, dtype=torch.float64)
    radius2 = f[:, None] ** 2 + f**2
    wave2 = (microscope.refractive_index / microscope.wavelength_um) ** 2
    axial = (wave2 - radius2).clamp(min=0).sqrt()
    pupil = torch.polar((radius2 <= limit**2).double(), 2 * math.pi * depth_um * axial)
    window_um = microscope.microlens_pitch_um / microscope.magnification
    step = (
        microscope.microlens_pitch_um
        / microscope.n_num
        * microscope.magnification
        / (microscope.wavelength_um * microscope.microlens_focal_length_um)
    )
    at = torch.arange(-(size // 2), size - size // 2) * every

    def seen(a: int) -> Tensor:
        u, v = (
            a // microscope.n_num - microscope.n_num // 2,
            a % microscope.n_num - microscope.n_num // 2,
        )
        window = torch.sinc((f[:, None] - u * step) * window_um) * torch.sinc(
            (f - v * step) * window_um
        )
        field = torch.fft.ifft2(pupil * window)
        return field[at][:, at].abs() ** 2

    # Parseval: the central view sums to 1 over all samples.
    central = (pupil.abs() * (torch.sinc(f[:, None] * window_um) * torch.sinc(f * window_um))) ** 2
    total = central.sum() / samples**2
    return torch.stack([seen(a) for a in views]) / total * every**2


@pytest.mark.parametrize(
    ("microscope", "depths", "size"),
    [
        pytest.param(NNUM13, [0.0, 1.0, -2.4], 41, id="nnum13"),
        pytest.param(NNUM13, [3.0], 40, id="nnum13-even"),
        pytest.param(NNUM15, [4.0], 21, id="nnum15-below-nyquist"),
        pytest.param(WATER, [0.5, -2.0], 31, id="water"),
    ],
)
def test_equals_the_plain_formula(
    microscope: LightFieldMicroscope, depths: list[float], size: int
) -> None:
    n = microscope.n_num
    centre = microscope.central_view
    views = [centre, centre + 2, centre - 3 * n + 1, centre + 4 * n - 4]
    psf = phase_space_psf(microscope, depths, views, size)
    assert psf.shape == (4, len(depths), size, size)
    assert psf.dtype == torch.float32
    for d, depth in enumerate(depths):
        expected = by_plain_fft(microscope, depth, views, size, samples=1440)
        error = (psf[:, d] - expected).abs().amax((1, 2)) / expected.amax((1, 2))
        assert error.max() < 1e-3


def test_the_published_shift_is_reproduced(reference: Path) -> None:
    table = torch.load(reference / "data/published/psfshift_nnum13_49views.pt", weights_only=True)
    few = list(range(0, 101, 10))
    depths = [NNUM13.depths_um[d] for d in few]
    error = (psf_shift(phase_space_psf(NNUM13, depths)) - table[:, few]).abs()
    assert error.mean() <= 0.2
    assert error.max() <= 1.5


def test_published_centre_of_mass_is_reproduced(reference: Path) -> None:
    golden = np.load(reference / "golden/center_of_mass.npz")
    shift = psf_shift(torch.from_numpy(golden["psf"]))
    np.testing.assert_allclose(shift.numpy(), golden["out"], rtol=1e-5, atol=1e-5)


def test_the_shift_of_a_point_and_of_nothing() -> None:
    psf = torch.zeros(2, 1, 6, 9)
    psf[0, 0, 5, 0] = 3
    expected = torch.tensor([[[2.5, -4.0]], [[0.0, 0.0]]])
    torch.testing.assert_close(psf_shift(psf), expected)


def test_the_other_side_of_focus_is_rotated() -> None:
    views = [84, 30, 71, 136, 122]
    psf = phase_space_psf(NNUM13, [-3.2, 3.2], views, 33)
    torch.testing.assert_close(psf[:, 0], psf[:, 1].flip(-1, -2), rtol=0, atol=0)
    # The point moves across the image from one side of the focus to the other.
    shift = psf_shift(psf)
    torch.testing.assert_close(shift[:, 0], -shift[:, 1])


def test_the_view_grid_is_eightfold_symmetric() -> None:
    middle = 6

    def view(u: int, v: int) -> Tensor:
        return phase_space_psf(NNUM13, [2.6], [(u + middle) * 13 + v + middle], 31)[0, 0]

    one = view(3, 1)
    for same in (
        view(-3, 1).flip(0),
        view(3, -1).flip(1),
        view(-3, -1).flip(0, 1),
        view(1, 3).T,
        view(-1, 3).flip(0).T,
        view(1, -3).flip(1).T,
    ):
        torch.testing.assert_close(same, one, rtol=0, atol=0)


@pytest.mark.parametrize("microscope", [NNUM13, NNUM15, WATER], ids=["nnum13", "nnum15", "water"])
def test_a_larger_support_changes_nothing(microscope: LightFieldMicroscope) -> None:
    """The wanted support sets the fading of the field, so this compares two of them."""
    depths = [0.0, microscope.depths_um[-1]]
    views = [microscope.views[0], microscope.views[3], microscope.views[-1]]
    small = phase_space_psf(microscope, depths, views, 61)
    large = phase_space_psf(microscope, depths, views, 121)[..., 30:91, 30:91]
    error = (small - large).abs().amax((2, 3)) / large.amax((2, 3))
    assert error.max() < 1e-4


def test_even_supports_lack_the_last_row_and_column() -> None:
    odd, even = (phase_space_psf(NNUM13, [1.5], [84, 100], size) for size in (31, 30))
    torch.testing.assert_close(even, odd[..., :30, :30], rtol=1e-4, atol=1e-9)


def test_the_central_view_sums_to_one() -> None:
    psf = phase_space_psf(NNUM13, [0.0, 1.0, -5.0, 10.0], [84, 45, 0], 261)
    sums = psf.sum((-1, -2))
    assert ((sums[0] - 1).abs() < 5e-3).all()
    assert ((sums[1] - 1).abs() < 2e-2).all()
    # The corner view looks past the objective's aperture.
    assert (sums[2] < 0.05).all()


def test_depths_come_in_the_given_order() -> None:
    depths = [1.0, -0.4, 0.0, 1.0, -1.0]
    together = phase_space_psf(NNUM13, depths, [98], 21)[0]
    for plane, depth in zip(together, depths, strict=True):
        alone = phase_space_psf(NNUM13, [depth], [98], 21)[0, 0]
        torch.testing.assert_close(plane, alone, rtol=1e-4, atol=1e-8)


def test_depths_and_views_are_the_presets_by_default() -> None:
    psf = phase_space_psf(WATER, size=9)
    assert psf.shape == (len(WATER.views), 3, 9, 9)
    torch.testing.assert_close(psf[5], phase_space_psf(WATER, views=[WATER.views[5]], size=9)[0])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_supports(size: int) -> None:
    psf = phase_space_psf(NNUM13, [0.0, 10.0], [84], size)
    assert psf.shape == (1, 2, size, size)
    assert torch.isfinite(psf).all()
    assert (psf > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "PSF size 0"),
        ({"views": [169]}, "views must lie between 0 and 168"),
        ({"views": [-1]}, "views must lie between 0 and 168"),
        ({"depths_um": []}, "give at least one depth"),
        ({"depths_um": [math.nan]}, "only finite ones"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        phase_space_psf(NNUM13, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["nnum13", "nnum15"])
def test_by_itself_the_support_holds_the_light_of_the_last_view(name: str) -> None:
    microscope = presets[name]
    last, deepest = [microscope.views[-1]], [microscope.depths_um[-1]]
    held = phase_space_psf(microscope, deepest, last).sum()
    # 0.966 for both; what is missing is diffraction, in a cross as wide as the field.
    assert held > 0.95 * phase_space_psf(microscope, deepest, last, 401).sum()


def test_depths_towards_the_objective_are_those_of_the_other_side():
    away = presets["nnum13"].with_depths([-3.0, 2.0]).with_views([84, 86])
    towards = type(away).model_validate(away.model_dump() | {"z_direction": "towards"})
    there = phase_space_psf(away, depths_um=[3.0, -2.0], size=41)
    torch.testing.assert_close(phase_space_psf(towards, size=41), there)


def test_psfs_on_coarser_voxels_are_sums_over_them():
    fine = presets["nnum13"].with_depths([0.0, 4.0]).with_views([86]).with_voxels_a_lens(15)
    expected = phase_space_psf(fine, size=93).reshape(1, 2, 31, 3, 31, 3).sum((3, 5))
    coarse = fine.with_voxels_a_lens(5)
    torch.testing.assert_close(phase_space_psf(coarse, size=31), expected)
    # An even support is an odd one without its last row and column.
    even = phase_space_psf(coarse, size=30)
    torch.testing.assert_close(even, expected[..., :30, :30])


def test_coarser_voxels_leave_the_brightness_of_views():
    scope = presets["nnum13"].with_depths([0.0]).with_all_views()
    sums = [
        phase_space_psf(scope.with_voxels_a_lens(side), size=9 * side).sum((1, 2, 3))
        for side in (13, 5, 4, 3)
    ]
    for coarse in sums[1:]:
        torch.testing.assert_close(coarse, sums[0], rtol=0, atol=0.02)
