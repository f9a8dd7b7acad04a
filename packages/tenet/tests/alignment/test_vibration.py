import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import shift as scipy_shift

from tenet.alignment.vibration import Strength, draw_shifts, shift_slices, strength_at
from tenet.config.sections import Range, Vibration

PUBLISHED = Vibration(
    max_step=60,
    b_sigma=Range(min=0, max=0.2),
    amp_alpha=Range(min=0, max=2),
    omega_alpha=Range(min=0, max=2),
    noise_inv_var_alpha=Range(min=2, max=10),
)
STILL = Strength(0, 0, 0, 1e12)


def many(strength, slices=24, number=2000, seed=0):
    generator = np.random.default_rng(seed)
    return np.stack([draw_shifts(strength, slices, generator) for _ in range(number)])


def random(*shape, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_ranges_grow_with_the_epoch():
    assert strength_at(PUBLISHED, 0) == Strength(0, 0, 0, 10)
    assert strength_at(PUBLISHED, 30) == Strength(0.1, 1, 1, 6)
    assert strength_at(PUBLISHED, 60) == strength_at(PUBLISHED, 600) == Strength(0.2, 2, 2, 2)


@given(st.integers(1, 40), st.integers(0, 100))
def test_shifts_have_no_mean_and_follow_from_the_seed(slices, seed):
    strength = strength_at(PUBLISHED, 60)
    shifts = draw_shifts(strength, slices, np.random.default_rng(seed))
    assert shifts.shape == (slices, 2)
    assert shifts.dtype == np.float32
    assert np.abs(shifts.mean(axis=0)).max() <= 1e-4 * max(np.abs(shifts).max(), 1)
    np.testing.assert_array_equal(
        shifts, draw_shifts(strength, slices, np.random.default_rng(seed))
    )


def test_nothing_moves_without_strength():
    assert np.abs(draw_shifts(STILL, 9, np.random.default_rng(0))).max() < 1e-9


def test_drift_is_a_line_of_the_given_spread():
    shifts = many(Strength(0.2, 0, 0, 1e12))
    slopes = np.diff(shifts, axis=1)
    np.testing.assert_allclose(slopes, slopes[:, :1].repeat(23, axis=1), atol=1e-5)
    assert slopes[:, 0].std() == pytest.approx(0.2, rel=0.05)


def test_waves_have_gamma_amplitudes():
    # Of frequencies near 100, with many slices: half the mean square of the amplitude.
    shifts = many(Strength(0, 2, 100, 1e12), slices=64)
    assert 2 * shifts.var(axis=1).mean() == pytest.approx(2 * 3, rel=0.1)


def test_jitter_differs_from_slice_to_slice():
    shifts = many(Strength(0, 0, 0, 50), slices=100)
    # The mean of 1 / Gamma(50)^2.
    assert shifts.var(axis=1).mean() == pytest.approx(1 / (49 * 48), rel=0.05)
    neighbours = (shifts[:, 1:] * shifts[:, :-1]).mean() / shifts.var()
    assert abs(neighbours) < 0.03


@pytest.mark.parametrize("shape", [(2, 1, 3, 7, 8), (1, 2, 1, 5, 4)])
def test_whole_pixels_are_moved_exactly(shape):
    stack = random(*shape)
    shifts = torch.tensor([1.0, -2.0], dtype=torch.float64).expand(shape[0], shape[2], 2)
    moved = shift_slices(stack, shifts)
    torch.testing.assert_close(moved[..., 1:, :-2], stack[..., :-1, 2:])
    torch.testing.assert_close(moved[..., 0, :-2], stack[..., 0, 2:])  # the border goes on
    torch.testing.assert_close(moved[..., 1:, -1], stack[..., :-1, -1])


def test_every_slice_has_its_own_shift_as_in_scipy():
    stack = random(2, 1, 4, 9, 10)
    shifts = 5 * (random(2, 4, 2) - 0.5)
    moved = shift_slices(stack, shifts)
    for b, z in np.ndindex(2, 4):
        expected = scipy_shift(stack[b, 0, z], shifts[b, z], order=1, mode="nearest")
        np.testing.assert_allclose(moved[b, 0, z], expected, atol=1e-12)


def test_shifts_back_and_forth_give_a_smooth_stack_back():
    y = torch.linspace(0, 3, 40, dtype=torch.float64)
    stack = (torch.sin(y[:, None]) * torch.cos(y)).expand(1, 1, 2, 40, 40)
    shifts = torch.tensor([[[1.3, -0.6], [0.4, 2.2]]], dtype=torch.float64)
    again = shift_slices(shift_slices(stack, shifts), -shifts)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(again[inner], stack[inner], rtol=0, atol=5e-3)


def test_gradients_are_exact():
    stack = random(1, 2, 2, 4, 5).requires_grad_()
    # Away from whole pixels, where the interpolation has a kink.
    shifts = torch.tensor([[[0.3, -1.2], [0.7, 0.4]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(shift_slices, (stack, shifts))
