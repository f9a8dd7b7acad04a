"""Baselines: interpolation, and Richardson-Lucy with total variation, as the microscope sees."""

import pytest
import torch

from tenet.config.files import load_config
from tenet.evaluation import baselines
from tenet.evaluation.baselines import interpolate, microscope_operator, rl_tv


@pytest.fixture
def microscope(write_config):
    config = write_config(params__size_z=29, params__bet_z=1.5)
    return microscope_operator(load_config(config).params)


def test_the_adjoint_is_exact_beyond_the_border_too(microscope):
    window = baselines._Window(microscope, (2, 3, 0))
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn((4 * (5 + 4), 7 + 6, 6), generator=generator)
    image = torch.randn((5, 7, 6), generator=generator)
    recorded = window.forward(volume)
    assert recorded.shape == image.shape
    there, back = float((recorded * image).sum()), float((volume * window.adjoint(image)).sum())
    assert there == pytest.approx(back, rel=1e-4)


def spread(profile):
    """Return the standard deviation of a profile, in voxels."""
    weight = profile / profile.sum()
    place = torch.arange(len(profile)).float()
    mean = (weight * place).sum()
    return float((weight * (place - mean).square()).sum().sqrt())


def test_a_blurred_line_gets_sharper_along_and_across_the_axis(microscope):
    volume = torch.zeros(40, 15, 13)
    volume[19:21, 7, :] = 1  # sizes that are odd, and not multiples of anything
    image = microscope.forward(volume)
    found = rl_tv(image, microscope, iterations=100, tv_weight=0.001)
    plain = interpolate(image, 4)
    assert found.shape == plain.shape == volume.shape
    assert found.min() >= 0
    for axes, share in (((1, 2), 0.6), ((0, 2), 0.3)):
        assert spread(found.sum(dim=axes)) < share * spread(plain.sum(dim=axes))
    again = microscope.forward(found)
    assert float((again - image).norm() / image.norm()) < 0.05
    peak = found.sum(dim=(1, 2)).argmax()
    assert int(peak) in (18, 19, 20, 21)


def test_light_from_outside_makes_no_bright_border(microscope):
    grey = torch.full((6, 16, 16), 0.3)
    found = rl_tv(grey, microscope, iterations=30)
    assert float(found.max()) < 1.5 * 0.3
    assert float(found.min()) > 0.5 * 0.3


def test_total_variation_smooths_noise(microscope):
    generator = torch.Generator().manual_seed(1)
    noisy = 0.5 + 0.1 * torch.rand((5, 12, 11), generator=generator)
    rough, smooth = (
        rl_tv(noisy, microscope, iterations=40, tv_weight=weight) for weight in (0, 0.01)
    )
    steps = [sum(float(v.diff(dim=axis).abs().sum()) for axis in range(3)) for v in (rough, smooth)]
    assert steps[1] < 0.85 * steps[0]


def test_progress(microscope):
    told = []
    rl_tv(torch.ones(2, 5, 5), microscope, iterations=3, on_iteration=told.append)
    assert told == [1, 2, 3]


def test_interpolation_keeps_planes_in_the_middle_of_theirs():
    ramp = torch.arange(5.0)[:, None, None].expand(5, 3, 2)
    fine = interpolate(ramp, 4)
    assert fine.shape == (20, 3, 2)
    inner = fine[2:-2, 0, 0]
    assert torch.allclose(inner, torch.linspace(0.125, 3.875, 16))
