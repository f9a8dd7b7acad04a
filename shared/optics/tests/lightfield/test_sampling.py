import pytest
import torch

from optics import sample_views, sampled_size, volume_size


@pytest.mark.parametrize(
    ("volume", "scale", "view"), [(429, 13 / 3, 99), (495, 5, 99), (1989, 13 / 3, 459), (3, 15, 1)]
)
def test_sizes(volume: int, scale: float, view: int) -> None:
    assert sampled_size(volume, scale) == view
    if volume >= scale:
        assert volume_size(view, scale) == volume


def test_a_constant_stays_constant() -> None:
    sampled = sample_views(torch.full((2, 39, 52), 3.0), 13 / 3)
    torch.testing.assert_close(sampled, torch.full((2, 9, 12), 3.0))


def test_a_wave_finer_than_the_pixels_is_averaged() -> None:
    wave = torch.sin(torch.arange(130) * 3.0).expand(1, 130, 130)
    sampled = sample_views(wave, 13 / 3)
    assert sampled[..., 2:-2].abs().max() < 0.02


def test_pixel_centres_stay_where_they_are() -> None:
    ramp = (torch.arange(60.0) + 0.5).expand(1, 60, 60)
    expected = ((torch.arange(12.0) + 0.5) * 5).expand(12, 12)
    sampled = sample_views(ramp, 5.0)[0]
    torch.testing.assert_close(sampled[:, 2:-2], expected[:, 2:-2], rtol=1e-5, atol=1e-4)
