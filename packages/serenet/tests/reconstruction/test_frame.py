"""What is done to the views of a frame before and after the network."""

import numpy as np
import pytest
import tifffile
import torch

from optics import presets
from scopekit.images.files import open_stack
from scopekit.images.target import Target
from serenet.aberrations.correlation import shift_views
from serenet.networks.base import Prepared, VolumeNetwork
from serenet.networks.tiling import Demand
from serenet.networks.vsnet import VsNet
from serenet.reconstruction import frame
from serenet.reconstruction.frame import FrameReconstructor, draw_shifts
from serenet.reconstruction.setup import ReconstructOptions, Setup

WHOLE = presets["nnum13"]
SCOPE = WHOLE.with_views(WHOLE.views[:6]).with_middle_depths(3)


class _Watched(VolumeNetwork):
    """Keeps the views it is given; its volume is 1 000 + plane everywhere."""

    n_views = 6

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.views = None

    def prepare(self, views, shift, scale):
        self.views = views
        return Prepared(views, None, scale, 3)

    def demand(self, n_depths, scale):
        return Demand(2, 1, 1, 10)

    def tile(self, prepared, tile, dtype):
        sides = (b - a for a, b in (tile.volume_rows, tile.volume_columns))
        return torch.arange(1000.0, 1003.0)[:, None, None].expand(3, *sides).clone()


@pytest.mark.parametrize(
    ("takes", "background", "left"), [(False, None, 0), (True, None, 100), (True, 40.0, 60)]
)
def test_a_network_that_takes_background_is_given_it(tmp_path, takes, background, left):
    views = np.full((6, 9, 12), 100, np.float32)
    views[:, 4, 4] = 500
    tifffile.imwrite(tmp_path / "views.tif", views, photometric="minisblack")
    model = _Watched()
    model.takes_background = takes
    options = ReconstructOptions(
        checkpoint=tmp_path / "none.pt", out=tmp_path, device="cpu", background=background
    )
    setup = Setup(model, None, None, SCOPE, options)
    stack = open_stack(tmp_path / "views.tif")
    target = Target(np.zeros(setup.volume_shape(stack.shape[-2:]), np.float32))
    FrameReconstructor(setup, list(range(6)))(stack, 0, target)
    assert (model.views[:, 4, 4] - 400 == left).all()
    assert float(model.views.min()) == left


@pytest.fixture
def reconstruct(tmp_path):
    """Reconstruct views (A, 9, 12); return the network, the volume and the record."""

    def call(views, scan=None, **options):
        values = np.asarray(views, np.float32)
        tifffile.imwrite(tmp_path / "views.tif", values, photometric="minisblack")
        model = _Watched()
        options = ReconstructOptions(
            checkpoint=tmp_path / "none.pt", out=tmp_path, device="cpu", background=0.0, **options
        )
        setup = Setup(model, scan, None, SCOPE, options)
        stack = open_stack(tmp_path / "views.tif")
        volume = np.zeros(setup.volume_shape(stack.shape[-2:]), np.float32)
        record = FrameReconstructor(setup, list(range(len(views))))(stack, 0, Target(volume))
        return model, volume, record

    return call


@pytest.fixture
def views():
    return np.random.default_rng(0).uniform(0, 400, (6, 9, 12)).astype(np.float32)


def test_a_frame_is_filled_and_told_of(reconstruct, views):
    model, volume, record = reconstruct(views)
    assert np.array_equal(model.views.numpy(), views)
    assert volume.shape == (3, 39, 52)
    assert np.array_equal(volume.max((1, 2)), [1000, 1001, 1002])
    assert np.array_equal(volume.min((1, 2)), [1000, 1001, 1002])
    assert record == {"frame": 0, "brightness_gain": 1.0, "tiles": 1}


def test_dim_views_are_reconstructed_brighter_and_scaled_back(reconstruct, views):
    dim = views / views.max()
    model, volume, record = reconstruct(dim)
    assert record["brightness_gain"] == pytest.approx(500)
    np.testing.assert_allclose(model.views.numpy(), 500 * dim, rtol=1e-5)
    np.testing.assert_allclose(volume.max((1, 2)), np.array([1000, 1001, 1002]) / 500, rtol=1e-5)


def test_networks_of_relative_brightness_take_dim_views_as_they_are(
    reconstruct, views, monkeypatch
):
    monkeypatch.setattr(_Watched, "in_counts", False)
    model, _, record = reconstruct(views / views.max())
    assert record["brightness_gain"] == 1
    assert float(model.views.max()) == pytest.approx(1)


@pytest.mark.parametrize(("by", "subpixel"), [("correlation", False), ("subpixel", True)])
def test_found_shifts_are_undone_and_told(reconstruct, views, monkeypatch, by, subpixel):
    found = 3 * torch.randn((6, 2), generator=torch.Generator().manual_seed(0))
    asked = []

    def view_shifts(given, names, n_num, scale, *, subpixel):
        asked.append((names, n_num, scale, subpixel))
        return found

    monkeypatch.setattr(frame, "view_shifts", view_shifts)
    model, _, record = reconstruct(views, predao=by)
    assert asked == [(SCOPE.views, 13, 13 / 3, subpixel)]
    shifted = shift_views(torch.from_numpy(views), found / (13 / 3))
    assert float(shifted.min()) < 0
    torch.testing.assert_close(model.views, shifted.clamp(min=0))
    assert record["view_shifts"] == found.tolist()
    assert record["predao"] == {"largest_shift_pixels": float(found.abs().max())}


def test_of_a_virtual_scan_the_microscopes_views_are_taken(reconstruct, monkeypatch):
    every = np.random.default_rng(0).uniform(100, 400, (169, 3, 4)).astype(np.float32)

    def virtual_scan(views, model, *, half, max_memory_gb, advance):
        assert np.array_equal(views.numpy(), every)
        return views.repeat_interleave(3, 1).repeat_interleave(3, 2)

    monkeypatch.setattr("serenet.virtual_scanning.frame.virtual_scan", virtual_scan)
    scan = VsNet(side=13, n_groups=1, n_blocks=1, channels=1)
    model, volume, _ = reconstruct(every, scan=scan)
    assert volume.shape == (3, 39, 52)
    assert np.array_equal(model.views[:, ::3, ::3].numpy(), every[list(SCOPE.views)])


@pytest.mark.parametrize(("n_frames", "name"), [(1, "cell_shifts"), (20, "cell_shifts_0007")])
def test_maps_are_numbered_where_there_are_several(tmp_path, n_frames, name):
    record = {"frame": 7, "view_shifts": [[1.0, 2.0]] * 6}
    draw_shifts(SCOPE, tmp_path / "cell", 7, n_frames, record)
    assert record == {"frame": 7}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.csv", f"{name}.png"]
    draw_shifts(SCOPE, tmp_path / "other", 7, n_frames, record)
    assert not list(tmp_path.glob("other*"))
