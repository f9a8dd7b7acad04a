"""Volumes from tensors: what each network is given, and what comes out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget
from serenet import build_model, decompose
from serenet.reconstruction import volume as of_volume
from serenet.reconstruction.volume import expected_seconds, plan_tiles, reconstruct

SCALE = 13 / 3


@pytest.fixture
def views():
    return 500 * torch.rand((3, 11, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def shift():
    return 4 * torch.randn((3, 5, 2), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "arguments"), [("hylfmnet", {}), ("vcdnet", {"channels_interp": 32})]
)
def test_view_networks_are_given_percentiles_10_to_99_9(views, name, arguments):
    torch.manual_seed(0)
    model = build_model(name, inChannels=3, outChannels=4, **arguments).eval()
    low, high = np.percentile(views.numpy(), (10, 99.9))
    inputs = ((views - low) / (high - low + 1e-3)).clamp(0, 1)
    with torch.no_grad():
        whole = model(inputs[None], SCALE)[0, 0].clamp(min=0)
    assert whole.std() > 0
    volume = reconstruct(views, model, None, SCALE)
    torch.testing.assert_close(volume, whole, rtol=1e-4, atol=1e-5)


def test_rlnet_refocuses_views_of_which_the_99_99_percentile_is_1(views, shift):
    torch.manual_seed(0)
    model = build_model("rlnet").eval()
    top = float(np.percentile(views.numpy(), 99.99))
    inputs = decompose((views / top).clamp(0, 1), shift / SCALE).mean(0)
    torch.testing.assert_close(model.prepare(views, shift, SCALE).values, inputs)
    size = [round(n * SCALE) for n in views.shape[1:]]
    inputs = F.interpolate(inputs[None], size=size, mode="bilinear", align_corners=False)
    with torch.no_grad():
        whole = model(inputs)[0, 1].clamp(min=0)
    volume = reconstruct(views, model, shift, SCALE)
    torch.testing.assert_close(volume, whole, rtol=1e-4, atol=1e-5)


def test_dark_views_make_a_dark_input():
    prepared = build_model("rlnet").prepare(torch.zeros(2, 4, 4), torch.zeros(2, 3, 2), SCALE)
    assert torch.equal(prepared.values, torch.zeros(3, 4, 4))


def test_time_is_that_of_a_small_part_times_the_pixels(random_model, shift, monkeypatch):
    model = random_model("serenet", inChannels=3)
    ticks = iter((5.0, 5.5))
    monkeypatch.setattr(of_volume.time, "perf_counter", lambda: next(ticks))
    views = torch.ones((3, 120, 144))
    tiles = plan_tiles(model, (120, 144), 5, SCALE, MemoryBudget(10**10, 10**10))
    assert len(tiles) == 1
    assert expected_seconds(views, model, shift, SCALE, tiles) == pytest.approx(0.5 * 5 * 6)
    # Soon done, no clock is looked at.
    assert expected_seconds(views[:, :90, :90], model, shift, SCALE, tiles[:0]) == 0


def test_nothing_is_negative(random_model, views, shift):
    model = random_model("serenet", inChannels=3)
    with torch.no_grad():
        list(model.parameters())[-1].fill_(-1e6)
        whole = model(decompose(views, shift / SCALE)[None], SCALE)
    assert float(whole.max()) < 0
    assert float(reconstruct(views, model, shift, SCALE).abs().max()) == 0


def test_the_volume_itself_counts_in_the_budget(random_model, views, shift, monkeypatch):
    model = random_model("serenet", inChannels=3)
    asked = []

    def plan(model, field, n_depths, scale, budget, *, half):
        asked.append(budget)
        return plan_tiles(model, field, n_depths, scale, budget, half=half)

    given = MemoryBudget(10**9, 2 * 10**9)
    monkeypatch.setattr("serenet.reconstruction.volume.memory_budget", lambda *_: given)
    monkeypatch.setattr("serenet.reconstruction.volume.plan_tiles", plan)
    volume = reconstruct(views, model, shift, SCALE)
    assert asked == [MemoryBudget(10**9 - 4 * volume.numel(), 2 * 10**9)]


def test_networks_that_make_no_volumes_are_refused(views, shift):
    for name in ("vsnet", "twnet"):
        with pytest.raises(UserError, match=f"a {name} makes no volumes"):
            reconstruct(views, build_model(name), shift, SCALE)
