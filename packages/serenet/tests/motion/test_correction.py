"""Motion correction against a plain transcription of its definition."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget
from serenet import build_model
from serenet.motion.correction import correct_motion, exposures_by_distance
from serenet.networks.twnet import TWNet

ORDER = (6, 7, 8, 5, 2, 1, 0, 3, 4)


@pytest.fixture(scope="module")
def model():
    """A TW-Net of random weights whose masks are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(3)
    net = TWNet().eval()
    for parameter in net.parameters():
        spread = 0.1 if parameter.dim() == 1 else math.sqrt(2 / parameter[0].numel())
        torch.nn.init.normal_(parameter, 0, spread, generator=generator)
    return net


def textured(n_views, height, width, seed=0):
    """Views (A, H, W) of counts, smooth, with a few bright spots."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n_views, 1, height // 3, width // 3, generator=generator) ** 3
    return 100 + 900 * F.interpolate(coarse, size=(height, width), mode="bicubic")[:, 0]


def plain_exposures(view, order, padding):
    """X_t for t = 0 ... 8: (9, H, W), from the formula."""
    height, width = view.shape
    enlarged = []
    for position in order:
        r, c = position // 3, position % 3
        sub = view[r::3, c::3]
        y = (torch.arange(height, dtype=view.dtype) - r) / 3
        x = (torch.arange(width, dtype=view.dtype) - c) / 3
        # Pixel centres in the coordinates of grid_sample.
        y, x = (2 * y + 1) / sub.shape[0] - 1, (2 * x + 1) / sub.shape[1] - 1
        grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1)
        enlarged.append(
            F.grid_sample(
                sub[None, None], grid[None], "bicubic", padding_mode=padding, align_corners=False
            )[0, 0]
        )
    return torch.stack(enlarged)


def plain_correction(view, model, order):
    """The definition, for one view (H, W)."""
    low, high = torch.quantile(view, 0.05), torch.quantile(view, 0.99)
    bright = ((view - low) / (high - low)).clamp(min=0)
    subs = torch.stack([bright[n // 3 :: 3, n % 3 :: 3] for n in range(9)])
    with torch.no_grad():
        m = model(subs[None].float())[0, 0].to(view.dtype)
    weights = torch.stack([m ** abs(t - 4) for t in range(9)])
    weights = weights / weights.sum(0)
    exposures = plain_exposures(view, order, "reflection")
    return m * view + (1 - m) * (weights * exposures).sum(0)


orders = st.permutations(range(9))
sides = st.integers(1, 8).map(lambda n: 3 * n)


@settings(deadline=None, max_examples=40)
@given(height=sides, width=sides, order=orders, seed=st.integers(0, 99))
@pytest.mark.parametrize(("border", "padding"), [("mirror", "reflection"), ("zero", "zeros")])
def test_exposures_are_those_of_the_formula(border, padding, height, width, order, seed):
    view = torch.rand(
        height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    x = plain_exposures(view, order, padding)
    expected = torch.stack([x[4], *(x[4 - d] + x[4 + d] for d in range(1, 5))])
    found = exposures_by_distance(view[None], order, border)[0]
    assert (found - expected).abs().max() <= 1e-12


@pytest.mark.parametrize("order", [ORDER, (0, 1, 2, 3, 4, 5, 6, 7, 8)])
@pytest.mark.parametrize(("height", "width"), [(48, 48), (33, 60), (3, 9)])
def test_correction_is_the_definition(model, order, height, width):
    views = textured(3, height, width).double()
    found = correct_motion(views, model, scan_order=order)
    assert found.dtype == torch.float32
    for view, corrected in zip(views, found, strict=True):
        expected = plain_correction(view, model, order)
        assert (corrected - expected).abs().max() <= 1e-4 * expected.max()
    if height > 3:
        assert (found - views).abs().max() > 0.01 * views.max()  # it does something


@settings(deadline=None, max_examples=20)
@given(gain=st.floats(1e-3, 60), pedestal=st.floats(-100, 1000))
def test_gain_and_offset_of_the_camera_do_not_matter(model, gain, pedestal):
    views = textured(1, 24, 30)
    expected = gain * correct_motion(views, model) + pedestal
    found = correct_motion(gain * views + pedestal, model)
    assert (found - expected).abs().max() <= 1e-3 * gain * views.max() + 1e-5 * abs(pedestal)


def test_what_does_not_change_anywhere_passes(model):
    for level in (0.0, 300.0):
        views = torch.full((2, 15, 12), level)
        assert torch.allclose(correct_motion(views, model), views, rtol=1e-5, atol=0)


def test_one_bright_pixel_in_the_dark(model):
    views = torch.zeros(1, 48, 48)
    views[0, 20, 20] = 60000
    assert torch.isfinite(correct_motion(views, model)).all()


@pytest.fixture
def give_memory(monkeypatch):
    """Let motion correction find so many bytes free."""

    def call(available):
        budget = MemoryBudget(available, 10**9)
        monkeypatch.setattr("serenet.motion.correction.memory_budget", lambda *_: budget)

    return call


def test_batches_of_views_do_not_matter(model, give_memory):
    views = textured(7, 48, 45)
    done = []
    two_views = 4 * model.values_per_pixel * 48 * 45 * 2
    whole = correct_motion(views, model)
    give_memory(two_views + 4 * views.numel())
    few = correct_motion(views, model, advance=done.append)
    assert done == [2, 2, 2, 1]
    assert torch.allclose(few, whole, rtol=1e-5)


def test_the_network_stays_in_its_mode(model):
    model.train()
    correct_motion(textured(1, 6, 6), model)
    assert model.training
    model.eval()


@pytest.mark.parametrize(
    ("views", "reason"),
    [
        (torch.zeros(48, 48), "(48, 48); expected (A, Y, X)"),
        (torch.zeros(2, 48, 47), "(2, 48, 47); interlaced views of a 3 x 3 scan"),
        (torch.zeros(2, 0, 48), "interlaced views"),
        (torch.full((1, 3, 3), torch.nan), "NaN"),
    ],
)
def test_wrong_views(model, views, reason):
    with pytest.raises(UserError, match=re.escape(reason)):
        correct_motion(views, model)


def test_another_network(model):
    with pytest.raises(UserError, match="is a serenet; motion correction takes a twnet"):
        correct_motion(torch.zeros(1, 3, 3), build_model("serenet"))


@pytest.mark.parametrize("order", [(), (0, 1, 2), (1,) * 9, range(1, 10)])
def test_wrong_orders(model, order):
    with pytest.raises(UserError, match="scan order"):
        correct_motion(torch.zeros(1, 3, 3), model, scan_order=order)


def test_too_little_memory(model, give_memory):
    give_memory(10**6)
    with pytest.raises(UserError, match=r"need .* GB each"):
        correct_motion(torch.zeros(1, 99, 99), model)
