import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import serenet
from optics import presets
from scopekit.errors import UserError
from serenet.aberrations.correlation import shift_views, view_shifts

NNUM13 = presets["nnum13"]
SCALE = 13 / 3
ROWS, COLUMNS = (torch.tensor(n) - 6.0 for n in np.divmod(NNUM13.views, 13))


def scene(height=60, width=54, seed=0):
    """A periodic smooth scene (h, w) with its offset below zero, and its exact shifts."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft2(torch.rand((height, width), generator=generator).double())
    fy = torch.fft.fftfreq(height)[:, None]
    fx = torch.fft.rfftfreq(width)
    spectrum *= torch.exp(-((fy**2 + fx**2) / 0.13**2))

    def moved(dy, dx):
        turn = torch.exp(-2j * math.pi * (fy * dy + fx * dx))
        return torch.fft.irfft2(spectrum * turn, s=(height, width)).float()

    return moved


def astigmatic_views(strength, moved):
    """Views moved by ``strength`` (i, -j) object pixels: no defocus in it."""
    shifts = torch.stack([ROWS * strength, -COLUMNS * strength], dim=1)
    views = torch.stack([moved(*(s / SCALE)) for s in shifts])
    return views, shifts


def test_published_alignment_is_reproduced(reference):
    golden = np.load(reference / "golden/predao.npz")
    views = torch.from_numpy(golden["views"])
    aligned = serenet.predao(views, golden["input_views"].tolist(), int(golden["nnum"]), SCALE)
    expected = torch.from_numpy(golden["out"])
    assert (aligned - expected).abs().max() <= 1e-5 * expected.max()


def test_known_shifts_are_found_and_better_so_to_fractions():
    views, shifts = astigmatic_views(0.73, scene())
    whole = view_shifts(views, NNUM13.views, 13, SCALE)
    fine = view_shifts(views, NNUM13.views, 13, SCALE, subpixel=True)
    assert (whole - shifts).abs().max() < 0.6
    assert (fine - shifts).abs().max() < 0.15
    assert (fine - shifts).square().mean() < 0.1 * (whole - shifts).square().mean()


def test_aligned_views_equal_the_central_one():
    views, _ = astigmatic_views(1.3, scene())
    aligned = serenet.predao(views, NNUM13.views, 13, SCALE, subpixel=True)
    inner = (slice(None), slice(6, -6), slice(6, -6))
    spread = views[:1].std()
    assert (aligned - views[:1])[inner].square().mean().sqrt() < 0.05 * spread
    assert (views - views[:1])[inner].square().mean().sqrt() > 0.3 * spread


@settings(deadline=None, max_examples=5)
@given(st.floats(-2, 2), st.integers(0, 100))
def test_defocus_is_left_alone(k, seed):
    moved = scene(seed=seed)
    by_view = torch.stack([ROWS, COLUMNS], dim=1) * k / SCALE
    views = torch.stack([moved(dy, dx) for dy, dx in by_view.tolist()])
    shifts = view_shifts(views, NNUM13.views, 13, SCALE, subpixel=True)
    assert shifts.abs().max() < 0.2
    assert shifts[0].tolist() == [0, 0]


def test_shifted_views_are_zero_outside_and_exact_for_whole_pixels():
    views = torch.rand((2, 9, 8), generator=torch.Generator().manual_seed(0)) + 1
    moved = shift_views(views, torch.tensor([[2.0, -3.0], [0.0, 0.0]]))
    torch.testing.assert_close(moved[0, :7, 3:], views[0, 2:, :-3])
    assert moved[0, 7:].abs().max() < 1e-5
    assert moved[0, :, :3].abs().max() < 1e-5
    torch.testing.assert_close(moved[1], views[1])


@pytest.mark.parametrize(
    ("views", "indices", "message"),
    [
        (torch.ones(2, 9, 9), [84], "1 view indices"),
        (torch.ones(9, 9), [84], r"give \(A, h, w\)"),
        (torch.ones(1, 9, 7), [84], "9 x 7 pixels are too small"),
        (torch.ones(2, 9, 9), [84, 169], "view 169 lies outside 0 to 168"),
        (torch.ones(2, 9, 9), [85, 86], "central view 84 is not among"),
        (torch.full((1, 9, 9), math.nan), [84], "NaN"),
    ],
)
def test_wrong_views_are_named(views, indices, message):
    with pytest.raises(UserError, match=message):
        serenet.predao(views, indices, 13, SCALE)


def test_the_central_view_alone_and_dark_views_stay():
    view = torch.rand((1, 12, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(serenet.predao(view, [84], 13, SCALE), view)
    dark = torch.zeros(3, 12, 12)
    assert serenet.predao(dark, [84, 85, 97], 13, SCALE, subpixel=True).abs().max() == 0
