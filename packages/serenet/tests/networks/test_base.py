"""What networks have in common: precision, preparation, and tiles made of slabs."""

from contextlib import nullcontext

import pytest
import torch

from serenet import build_model
from serenet.networks.base import EnlargingNetwork, Prepared, compute
from serenet.networks.tiling import Tile
from serenet.views.brightness import normalise

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "half", "asked"),
    [
        (CPU, False, [torch.float32]),
        (CPU, True, [torch.bfloat16]),
        (GPU, False, [torch.float32]),
        (GPU, True, [torch.float16]),
    ],
)
def test_precision(monkeypatch, device, half, asked):
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    seen = []

    def result(dtype):
        seen.append(dtype)
        return torch.ones(2)

    assert torch.equal(compute(result, device, half=half), torch.ones(2))
    assert seen == asked


@pytest.mark.parametrize("lost", [torch.inf, torch.nan])
def test_what_overflows_in_float16_is_computed_in_bfloat16(monkeypatch, lost):
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    values = {torch.float16: torch.tensor([1.0, lost]), torch.bfloat16: torch.tensor([1.0, 2.0])}
    assert torch.equal(compute(values.__getitem__, GPU, half=True), values[torch.bfloat16])


class _Slabs(EnlargingNetwork):
    """Yields what it is given as slabs of uneven thickness; enlarges nothing."""

    halo, enlargement = 0, 1

    def __init__(self):
        super().__init__()
        self.seen = []

    def enlarged_slabs_of(self, prepared, tile):
        self.seen.append(prepared.values.dtype)
        window = prepared.values[:, slice(*tile.rows), slice(*tile.columns)]
        for part in window.split((1, 3, 2)):
            yield part[None, None]


@pytest.mark.parametrize(
    ("dtype", "seen"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float16),
    ],
)
def test_a_tile_is_put_together_from_its_slabs(dtype, seen):
    network = _Slabs()
    values = torch.arange(6 * 8 * 7, dtype=torch.float32).view(6, 8, 7)
    tile = Tile((2, 7), (0, 5), (2, 7), (0, 5))
    part = network.tile(Prepared(values, None, 1.0, 6), tile, dtype)
    assert part.dtype == torch.float32
    assert torch.equal(part, values[:, 2:7, :5])
    assert network.seen == [seen]


@pytest.mark.parametrize(
    ("name", "in_counts"),
    [
        ("serenet", True),
        ("serenetup5", True),
        ("fserenet", True),
        ("vcdnet", False),
        ("hylfmnet", False),
        ("rlnet", False),
    ],
)
def test_who_gives_counts(name, in_counts):
    assert build_model(name).in_counts == in_counts


def test_view_networks_take_views_from_0_to_1_and_no_shift():
    model = build_model("hylfmnet", inChannels=3, outChannels=2)
    views = 500 * torch.rand((3, 9, 8), generator=torch.Generator().manual_seed(0))
    prepared = model.prepare(views, None, 13 / 3)
    assert torch.equal(prepared.values, normalise(views, 10, 99.9))
    assert (prepared.shift, prepared.scale, prepared.n_depths) == (None, 13 / 3, 2)


def test_hylfmnet_starts_dark():
    model = build_model("hylfmnet", inChannels=3, outChannels=2)
    with torch.no_grad():
        volume = model.eval()(torch.zeros(1, 3, 6, 6), 13 / 3)
    assert float(volume.mean()) == pytest.approx(1 / (1 + torch.e**3), rel=0.3)
