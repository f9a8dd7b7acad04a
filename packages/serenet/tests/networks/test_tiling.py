"""Tiles give the volume of one pass over the whole field."""

import math

import pytest
import torch

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget
from serenet import build_model, decompose, reconstruct
from serenet.networks.tiling import _PLANNED, _WORK_SPACE, volume_shape
from serenet.reconstruction.volume import plan_tiles, volume_parts
from serenet.virtual_scanning.scan import virtual_scan

SCALES = {"serenet": 13 / 3, "serenetup5": 5.0, "fserenet": 13 / 3}
N_VIEWS = 3
N_DEPTHS = 3


@pytest.fixture(scope="module", params=SCALES)
def network(request, random_model):
    """(model, volume pixels per view pixel), few views so that it is quick."""
    return random_model(request.param, inChannels=N_VIEWS), SCALES[request.param]


def light_field(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    views = 500 * torch.rand((N_VIEWS, height, width), generator=generator)
    return views, 6 * torch.randn((N_VIEWS, N_DEPTHS, 2), generator=generator)


def budget_for(model, side):
    """A budget that holds tiles of about this side, and not much larger ones."""
    values = 1.03 * model.peak_values(N_DEPTHS) * side**2 + N_VIEWS * 70**2
    available = int((4 * values + _WORK_SPACE) / _PLANNED["cpu"])
    return MemoryBudget(available, available)


def assembled(views, model, shift, scale, tiles, half=False):
    volume = torch.full(volume_shape(N_DEPTHS, tuple(views.shape[-2:]), scale), torch.nan)
    for window, part in volume_parts(views, model, shift, scale, tiles, half=half):
        assert volume[window].isnan().all(), "tiles overlap"
        volume[window] = part
    return volume


@pytest.mark.parametrize("beyond_halos", [(21, 21), (23, 18), (3, 40)])
def test_tiles_give_the_untiled_volume(network, beyond_halos):
    model, scale = network
    height, width = (2 * model.halo + n for n in beyond_halos)
    views, shift = light_field(height, width)
    with torch.no_grad():
        whole = model(decompose(views, shift / scale)[None], scale)[0, 0].clamp(min=0)
    assert (whole > 0).float().mean() > 0.5
    counts = []
    for core in (8, 12):
        budget = budget_for(model, 2 * model.halo + core)
        tiles = plan_tiles(model, (height, width), N_DEPTHS, scale, budget)
        volume = assembled(views, model, shift, scale, tiles)
        assert volume.shape == whole.shape
        assert (volume - whole).abs().max() <= 1e-4 * whole.abs().max()
        counts.append(len(tiles))
    assert counts[0] > counts[1] > 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 23)])
def test_small_and_narrow_fields(network, height, width):
    model, scale = network
    views, shift = light_field(height, width)
    with torch.no_grad():
        whole = model(decompose(views, shift / scale)[None], scale)[0, 0].clamp(min=0)
    volume = reconstruct(views, model, shift, scale, max_memory_gb=20)
    assert volume.shape == (N_DEPTHS, round(height * scale), round(width * scale))
    torch.testing.assert_close(volume, whole, rtol=1e-4, atol=1e-4 * float(whole.max()))


def test_no_input_pixel_reaches_beyond_the_halo(network):
    """Change one view pixel; see how far the volume before the resize changes."""
    model, _ = network
    side, enlargement = 2 * model.halo + 9, model.enlargement
    inputs = torch.rand((1, N_VIEWS, N_DEPTHS, side, side), dtype=torch.float64)
    model = model.to(torch.float64)
    reach = 0
    with torch.no_grad():
        before = model.enlarged(inputs)
        # U-Nets pool: what a pixel reaches depends on where it lies.
        for offset in range(4):
            changed = inputs.clone()
            middle = side // 2 + offset - 2
            changed[..., middle, middle] += 1e4
            difference = (model.enlarged(changed) - before)[0, 0].abs().amax(0)
            rows = torch.nonzero(difference.amax(1) > 1e-9 * before.abs().max()).flatten()
            first, last = int(rows[0]), int(rows[-1])
            reach = max(reach, middle - first / enlargement, (last + 1) / enlargement - middle - 1)
    model.float()
    # The final bilinear resize looks at most one enlarged pixel further.
    assert reach + 1 / enlargement <= model.halo
    assert reach > 3, "the test must see the network's reach"


def test_tiles_cover_the_field_once_with_their_surround(network):
    model, scale = network
    tiles = plan_tiles(model, (83, 61), N_DEPTHS, scale, budget_for(model, 40))
    covered = torch.zeros(volume_shape(N_DEPTHS, (83, 61), scale)[1:], dtype=torch.int)
    for tile in tiles:
        covered[slice(*tile.volume_rows), slice(*tile.volume_columns)] += 1
        assert 0 <= tile.rows[0] < tile.rows[1] <= 83
        assert 0 <= tile.columns[0] < tile.columns[1] <= 61
        assert (tile.rows[1] - tile.rows[0]) * (tile.columns[1] - tile.columns[0]) <= 40**2 * 1.2
    assert (covered == 1).all()


def test_reconstruct_is_the_same_for_every_budget(random_model, monkeypatch):
    model = random_model("serenet", inChannels=N_VIEWS)
    views, shift = light_field(57, 63)
    whole = reconstruct(views, model, shift, 13 / 3)
    for side in (26, 40):
        budget = budget_for(model, side)
        assert len(plan_tiles(model, (57, 63), N_DEPTHS, 13 / 3, budget)) > 1
        # The volume itself is held too.
        budget = MemoryBudget(budget.available + 4 * whole.numel(), budget.total)
        monkeypatch.setattr("serenet.reconstruction.volume.memory_budget", lambda *_, b=budget: b)
        tiled = reconstruct(views, model, shift, 13 / 3, max_memory_gb=1)
        assert (tiled - whole).abs().max() <= 1e-4 * whole.max()


def test_half_precision_is_close(network):
    model, scale = network
    views, shift = light_field(40, 31)
    full = reconstruct(views, model, shift, scale)
    half = reconstruct(views, model, shift, scale, half=True)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    pair = torch.stack([full.flatten(), half.flatten()])
    assert torch.corrcoef(pair)[0, 1] >= 0.999


def test_budgets_too_small_say_what_is_needed(network):
    model, scale = network
    least = budget_for(model, 2 * model.halo + 2)
    with pytest.raises(UserError, match=r"`max_memory_gb=.* too small for 3 depths; give at le"):
        plan_tiles(model, (100, 100), N_DEPTHS, scale, least)


def test_wrong_shapes_are_refused(random_model):
    model = random_model("serenet", inChannels=N_VIEWS)
    views, shift = light_field(9, 8)
    for wrong in (views[:2], views[0], views[None]):
        with pytest.raises(UserError, match=r"model takes \(3, h, w\)"):
            reconstruct(wrong, model, shift, 4.0)
    for wrong in (shift[:2], shift[0], shift[..., :1]):
        with pytest.raises(UserError, match="the PSF shift has shape"):
            reconstruct(views, model, wrong, 4.0)


@pytest.mark.gpu
def test_tiles_on_the_gpu(network):
    model, scale = network
    views, shift = light_field(61, 53)
    expected = reconstruct(views, model, shift, scale)
    model = model.to("cuda")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        volume = reconstruct(views, model, shift, scale, max_memory_gb=0.5)
    model.to("cpu")
    assert (volume - expected).abs().max() <= 1e-4 * expected.max()


def test_tiles_of_the_baselines_give_the_untiled_volume():
    generator = torch.Generator().manual_seed(0)
    arguments = {"inChannels": N_VIEWS, "outChannels": N_DEPTHS}
    cases = [
        ("hylfmnet", arguments, (41, 38)),
        ("vcdnet", {**arguments, "channels_interp": 32}, (40, 6)),
        # An odd field's deepest level is resized by a little less than 2.
        ("vcdnet", {**arguments, "channels_interp": 32}, (39, 7)),
        ("rlnet", {}, (41, 38)),
    ]
    for name, published_args, (height, width) in cases:
        model = build_model(name, **published_args).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    gain = math.sqrt(2 / parameter[0].numel())
                    parameter.normal_(0, gain, generator=generator)
        views, shift = light_field(height, width)
        whole = reconstruct(views, model, shift, 13 / 3)
        demand = model.demand(N_DEPTHS, 13 / 3)
        area = (2 * demand.halo + 8) * min(width, 2 * demand.halo + 8)
        values = 1.03 * demand.tile_values * area + demand.field_values * height * width
        available = int((4 * values + _WORK_SPACE) / _PLANNED["cpu"])
        budget = MemoryBudget(available, available)
        tiles = plan_tiles(model, (height, width), N_DEPTHS, 13 / 3, budget)
        assert len(tiles) > 1, name
        volume = assembled(views, model, shift, 13 / 3, tiles)
        assert whole.max() > 0
        assert (volume - whole).abs().max() <= 1e-5 * whole.max(), name


def test_virtual_scans_in_tiles_are_the_untiled_ones(monkeypatch):
    torch.manual_seed(0)
    model = build_model("vsnet", angRes=3, K=1, n_block=2, channels=4).eval()
    views = 500 * torch.rand((9, 40, 37))
    whole = virtual_scan(views, model)
    with torch.no_grad():
        assert torch.equal(whole, model(views[None])[0, 0].clamp(min=0))
    demand = model.demand()
    values = demand.tile_values * (2 * model.halo + 9) ** 2 + demand.field_values * 40 * 37
    available = int((4 * values + _WORK_SPACE) / _PLANNED["cpu"])
    budget = MemoryBudget(available, available)
    monkeypatch.setattr("serenet.virtual_scanning.scan.memory_budget", lambda *_: budget)
    pixels = []
    tiled = virtual_scan(views, model, advance=pixels.append)
    assert len(pixels) > 1
    assert sum(pixels) == 40 * 37
    assert (tiled - whole).abs().max() <= 1e-5 * whole.max()
