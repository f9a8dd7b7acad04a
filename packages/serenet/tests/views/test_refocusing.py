"""Background subtraction and digital refocusing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from optics import phase_space_psf, presets, psf_shift
from serenet import decompose, subtract_background
from serenet.views.refocusing import decompose_window, ray_shift, refocus


def test_published_decomposition(reference):
    golden = np.load(reference / "golden" / "depth_decomposition.npz")
    views, shift, expected = (torch.from_numpy(golden[name]) for name in ("views", "shift", "out"))
    result = decompose(views, shift)
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


def sampled(views, shift):
    """out[a, z](p) = view_a(p + shift[a, z]) by PyTorch's own sampler."""
    height, width = views.shape[-2:]
    planes = []
    for view, by_depth in zip(views, shift, strict=True):
        for dy, dx in by_depth:
            y = (torch.arange(height) + dy + 0.5) * 2 / height - 1
            x = (torch.arange(width) + dx + 0.5) * 2 / width - 1
            grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flip(-1)
            planes.append(F.grid_sample(view[None, None], grid[None], align_corners=False)[0, 0])
    return torch.stack(planes).reshape(*shift.shape[:2], height, width)


sides = st.integers(1, 9)
seeds = st.integers(0, 2**31)
spreads = st.sampled_from([0.3, 2.0, 8.0, 30.0])


def light_field(seed, height, width, spread, n_views=3, n_depths=4):
    generator = torch.Generator().manual_seed(seed)
    views = torch.rand((n_views, height, width), generator=generator, dtype=torch.float64)
    shift = spread * torch.randn((n_views, n_depths, 2), generator=generator, dtype=torch.float64)
    # Whole and half pixels are where rounding goes wrong.
    return views, torch.where(shift > spread / 2, (2 * shift).round() / 2, shift)


@settings(max_examples=60)
@given(seeds, sides, sides, spreads)
def test_every_view_is_moved_to_every_depth(seed, height, width, spread):
    views, shift = light_field(seed, height, width, spread)
    torch.testing.assert_close(decompose(views, shift), sampled(views, shift), rtol=0, atol=1e-12)


@settings(max_examples=60)
@given(seeds, sides, sides, spreads, st.data())
def test_windows_are_crops_of_the_whole(seed, height, width, spread, data):
    views, shift = light_field(seed, height, width, spread)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = (
        data.draw(st.integers(top + 1, height)),
        data.draw(st.integers(left + 1, width)),
    )
    window = decompose_window(views, shift, (top, bottom), (left, right))
    assert torch.equal(window, decompose(views, shift)[..., top:bottom, left:right])


def test_light_beyond_the_border_is_dark():
    views = torch.ones(2, 5, 6)
    far = torch.tensor([[[5.0, 0.0], [-5.0, 0.0], [0.0, 6.0], [0.0, -6.0], [1e6, -1e9]]] * 2)
    assert not decompose(views, far).any()
    by_half = decompose(views, torch.tensor([[[0.5, 0.0]], [[-0.25, 0.0]]]))
    assert torch.equal(by_half[0, 0, :, 0], torch.tensor([1.0, 1, 1, 1, 0.5]))
    assert torch.equal(by_half[1, 0, :, 0], torch.tensor([0.75, 1, 1, 1, 1]))


def test_background_is_the_low_end_of_all_views():
    generator = torch.Generator().manual_seed(0)
    views = 100 + 900 * torch.rand((7, 23, 31), generator=generator)
    quantile = np.quantile(views.numpy(), 0.01)
    result = subtract_background(views)
    torch.testing.assert_close(result, (views - quantile).clamp(min=0), rtol=0, atol=0.5)
    assert result.min() == 0
    assert torch.equal(subtract_background(views, 250.0), (views - 250).clamp(min=0))
    assert torch.equal(subtract_background(views, 0.0), views)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3)])
def test_background_of_tiny_views(shape):
    views = torch.full(shape, 7.0)
    assert not subtract_background(views).any()
    assert (views == 7).all()  # the input is left as it was


@pytest.mark.parametrize("direction", ["away", "towards"])
def test_rays_go_where_the_psf_has_its_middle(direction):
    scope = presets["nnum13"].with_depths([-6.0, -2.0, 4.0])
    scope = scope.model_validate(scope.model_dump() | {"z_direction": direction})
    scope = scope.with_views([scope.views[n] for n in (0, 20, 40, 48)])
    waves = psf_shift(phase_space_psf(scope)) * scope.pixel_um
    rays = ray_shift(scope, scope.depths_um).float()
    assert float(waves.abs().max()) > 2
    torch.testing.assert_close(rays, waves, rtol=0.05, atol=0.1)


def test_refocused_views_add_up_where_their_shifts_say():
    views = torch.zeros(2, 9, 9)
    views[0, 4, 6], views[1, 4, 2] = 1, 1
    shift = torch.tensor([[[0.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, -2.0]]])
    apart, together = refocus(views, shift, 3)
    assert apart.shape == (27, 27)
    assert int(together.argmax()) == 13 * 27 + 13
    assert float(together.max()) == pytest.approx(2 * float(apart.max()))
