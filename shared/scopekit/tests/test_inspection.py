"""What a file is said to hold is what was put into it."""

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.images.voxel import Steps
from scopekit.inspection import counts_text, look_at, noise_text, sampling_text


@pytest.fixture
def stack(tmp_path):
    def make(values):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
        return open_stack(tmp_path / "a.tif")

    return make


def scene(photons, read_noise, seed=0):
    """A smooth bright blob over an offset of 100, with the noise of a camera."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    blob = photons * np.exp(-(x**2 + y**2) / 0.1)
    noisy = rng.poisson(np.broadcast_to(blob, (6, 128, 128))) + rng.normal(
        100, read_noise, (6, 128, 128)
    )
    return np.clip(noisy, 0, 65535).round().astype(np.uint16)


@pytest.mark.parametrize("read_noise", [3, 12])
def test_dark_noise_is_that_of_the_camera(stack, read_noise):
    assert look_at(stack(scene(300, read_noise))).dark_noise == pytest.approx(read_noise, rel=0.1)


@pytest.mark.parametrize("photons", [50, 1000])
def test_the_brightest_parts_tell_the_photons(stack, photons):
    counts = look_at(stack(scene(photons, 2)))
    assert counts.signal_to_noise**2 == pytest.approx(photons, rel=0.2)


def test_detail_as_fine_as_pixels_makes_noise_no_smaller(stack):
    plain = look_at(stack(scene(500, 2))).signal_to_noise
    checked = scene(500, 2)
    checked[:, ::2, ::2] += 40
    assert look_at(stack(checked)).signal_to_noise < plain


@pytest.mark.parametrize(("top", "bits"), [(4095, 12), (65535, 16)])
def test_saturation_is_told_with_the_camera(stack, top, bits):
    values = scene(2 * top, 2).clip(0, top)
    counts = look_at(stack(values))
    assert counts.full_scale == 2**bits - 1
    assert f"SATURATED: {100 * np.mean(values == top):.2g} %" in counts_text(counts)


def test_one_brightest_voxel_is_no_saturation(stack):
    values = scene(100, 2)
    values[0, 5, 5] = 4095
    assert "not saturated" in counts_text(look_at(stack(values)))


def test_other_ends_than_cameras_have_are_no_saturation(stack):
    assert "not saturated" in counts_text(look_at(stack(scene(2000, 2).clip(0, 900))))


def test_long_stacks_are_judged_by_some_pages(stack):
    values = np.tile(scene(100, 2), (20, 1, 1))
    counts = look_at(stack(values))
    assert (counts.pages_seen, counts.pages) == (64, 120)
    assert "in 64 of its pages" in counts_text(counts)


@pytest.mark.parametrize(("value", "told"), [(np.nan, "NaN or infinite"), (7.0, "constant")])
def test_what_cannot_be_used_is_an_error(stack, value, told):
    values = np.full((2, 8, 8), 7, np.float32)
    values[1, 2, 3] = value
    with pytest.raises(UserError, match=told):
        look_at(stack(values))


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (Steps(), "the file tells no voxel size"),
        (Steps(2, 0.5, 0.5, "OME metadata"), "z 2 um, y 0.5 um, x 0.5 um (OME metadata)"),
        (Steps(None, 0.5, 0.5, "ND2"), "y 0.5 um, x 0.5 um (ND2); nothing along z"),
    ],
)
def test_steps_are_told_with_their_source(steps, text):
    assert sampling_text(steps) == text


def test_noise_is_told_in_photons(stack):
    assert "as of 900 photons or more" in noise_text(look_at(stack(scene(1000, 2))))
    assert "hardly stand out" in noise_text(look_at(stack(scene(0, 20))))
