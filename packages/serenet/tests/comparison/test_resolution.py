import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from serenet.comparison.resolution import image_resolution, volume_resolution


def low_passed(shape, cutoffs, noise, seed=0):
    """Random points with nothing beyond an ellipse of frequencies, in units of Nyquist."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    place = tuple(rng.integers(0, n, image.size // 100) for n in shape)
    image[place] = rng.uniform(0.5, 1, image.size // 100)
    axes = [2 * np.fft.fftfreq(n) / cutoff for n, cutoff in zip(shape, cutoffs, strict=True)]
    radius2 = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    image = np.fft.ifftn(np.fft.fftn(image) * (radius2 < 1)).real
    return image / np.percentile(image, 99.9) + noise * rng.normal(size=shape)


@pytest.mark.parametrize("noise", [0, 0.02, 0.05])
@pytest.mark.parametrize("pixel_um", [1, 0.122])
def test_known_cutoffs_are_found_in_order(noise, pixel_um):
    cutoffs = (0.25, 0.4, 0.55, 0.7, 0.85)
    found = [image_resolution(low_passed((160, 144), (c, c), noise), pixel_um) for c in cutoffs]
    expected = 2 * pixel_um / np.array(cutoffs)
    assert np.all(np.diff(found) < 0)
    np.testing.assert_allclose(found, expected, rtol=0.1)


def test_brightness_does_not_matter():
    image = low_passed((96, 96), (0.5, 0.5), 0.02)
    assert image_resolution(300 * image + 1000, 0.1) == pytest.approx(image_resolution(image, 0.1))


def test_blurred_images_resolve_less():
    rng = np.random.default_rng(0)
    points = np.zeros((128, 128))
    points[tuple(rng.integers(0, 128, (2, 100)))] = 1
    found = []
    for sigma in (0.8, 1.2, 1.8, 2.7):
        image = gaussian_filter(points, sigma)
        noisy = image / image.max() + 0.02 * rng.normal(size=image.shape)
        found.append(image_resolution(noisy, 1.0))
    assert np.all(np.diff(found) > 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("side", [32, 100, 128])
def test_noise_has_no_resolution(seed, side):
    rng = np.random.default_rng(seed)
    assert math.isnan(image_resolution(rng.normal(size=(side, side)), 0.1))
    assert math.isnan(image_resolution(rng.poisson(3.0, size=(side, side)), 0.1))


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.full((64, 64), 7.3), np.ones((9, 9))])
def test_flat_and_tiny_images_have_none(image):
    assert math.isnan(image_resolution(image, 0.1))


def test_lateral_and_axial_resolution_of_a_volume():
    voxel_um = (0.2, 0.12, 0.12)
    # Cut-offs of 0.3 of Nyquist axially and 0.6 laterally.
    volume = low_passed((80, 96, 90), (0.3, 0.6, 0.6), 0.02)
    lateral, axial = volume_resolution(volume, voxel_um)
    assert lateral == pytest.approx(2 * 0.12 / 0.6, rel=0.15)
    assert axial == pytest.approx(2 * 0.2 / 0.3, rel=0.15)
    turned = volume_resolution(volume.transpose(0, 2, 1)[::-1], voxel_um)
    assert turned == pytest.approx((lateral, axial), rel=0.05)


def test_planes_are_chosen_by_contrast():
    rng = np.random.default_rng(0)
    volume = 0.02 * rng.normal(size=(12, 96, 96))
    volume[4] = low_passed((96, 96), (0.3, 0.3), 0.02)
    volume[9] = 3 * low_passed((96, 96), (0.7, 0.7), 0.02)
    voxel_um = (1.0, 0.1, 0.1)
    sharp, _ = volume_resolution(volume[[0, 1, 9]], voxel_um)
    assert volume_resolution(volume, voxel_um)[0] < 1.5 * sharp
    # Another volume may choose.
    guide = np.zeros_like(volume)
    guide[4, ::2] = 1
    lateral, axial = volume_resolution(volume[:8], voxel_um, chosen=guide[:8])
    assert lateral == pytest.approx(2 * 0.1 / 0.3, rel=0.15)
    assert math.isnan(axial)  # too few planes
