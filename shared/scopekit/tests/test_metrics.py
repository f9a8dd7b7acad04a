import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.stats import pearsonr
from skimage.metrics import peak_signal_noise_ratio

from scopekit.metrics import correlation, match_brightness, psnr, ssim

rng = np.random.default_rng(0)
TRUTH = rng.random((9, 16, 20), dtype=np.float32)
RESULT = (0.5 * TRUTH + 0.2 * rng.random(TRUTH.shape, dtype=np.float32) + 3).astype(np.float32)


def test_correlation_is_pearsons():
    assert correlation(TRUTH, RESULT) == pytest.approx(pearsonr(TRUTH.ravel(), RESULT.ravel())[0])
    assert correlation(TRUTH, -2 * TRUTH) == pytest.approx(-1)


def test_correlation_far_from_zero_keeps_its_digits():
    assert correlation(TRUTH + 1000, RESULT + 1000) == pytest.approx(
        correlation(TRUTH, RESULT), abs=1e-3
    )


def test_correlation_with_a_flat_volume_is_undefined():
    assert np.isnan(correlation(TRUTH, np.ones_like(TRUTH)))


def test_brightness_is_the_least_squares_line():
    gain, offset = np.polyfit(RESULT.ravel().astype(float), TRUTH.ravel().astype(float), 1)
    np.testing.assert_allclose(match_brightness(TRUTH, RESULT), gain * RESULT + offset, atol=1e-5)


def test_brightness_of_a_scaled_copy_is_undone():
    np.testing.assert_allclose(match_brightness(TRUTH, 7 * TRUTH - 2), TRUTH, atol=1e-5)


def test_brightness_of_a_flat_volume_is_the_mean():
    matched = match_brightness(TRUTH, np.full_like(TRUTH, 5))
    np.testing.assert_allclose(matched, TRUTH.mean(), rtol=1e-6)


def test_psnr():
    span = float(TRUTH.max() - TRUTH.min())
    expected = peak_signal_noise_ratio(TRUTH, RESULT, data_range=span)
    assert psnr(TRUTH, RESULT) == pytest.approx(expected, rel=1e-5)
    assert psnr(TRUTH, TRUTH + span / 10) == pytest.approx(20, abs=1e-3)
    assert psnr(TRUTH, TRUTH) == np.inf
    assert np.isnan(psnr(np.ones_like(TRUTH), TRUTH))


def ssim_by_its_formula(truth, result, span):
    """Wang et al. 2004 with flat windows of 7 and unbiased variances, where windows fit."""
    a, b = truth.astype(float), result.astype(float)
    n = 7**a.ndim

    def mean(values):
        return uniform_filter(values, 7)[(slice(3, -3),) * a.ndim]

    def covariance(x, y):
        return (mean(x * y) - mean(x) * mean(y)) * n / (n - 1)

    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * mean(a) * mean(b) + c1) / (mean(a) ** 2 + mean(b) ** 2 + c1)
    structure = (2 * covariance(a, b) + c2) / (covariance(a, a) + covariance(b, b) + c2)
    return (luminance * structure).mean()


def test_ssim():
    span = float(TRUTH.max() - TRUTH.min())
    result = match_brightness(TRUTH, RESULT)
    assert ssim(TRUTH, result) == pytest.approx(ssim_by_its_formula(TRUTH, result, span), rel=1e-4)
    assert ssim(TRUTH, TRUTH) == pytest.approx(1)
    assert np.isnan(ssim(np.ones_like(TRUTH), TRUTH))


def test_ssim_of_a_thin_volume_is_that_of_its_planes():
    truth, result = TRUTH[:3], match_brightness(TRUTH, RESULT)[:3]
    span = float(truth.max() - truth.min())
    planes = [ssim_by_its_formula(a, b, span) for a, b in zip(truth, result, strict=True)]
    assert ssim(truth, result) == pytest.approx(np.mean(planes), rel=1e-4)


def test_values_of_any_size_are_measured_alike():
    rng = np.random.default_rng(0)
    truth = rng.random((8, 9, 10), np.float32) + 3
    result = truth + 0.1 * rng.random(truth.shape, np.float32)
    expected = [measure(truth, match_brightness(truth, result)) for measure in (psnr, ssim)]
    for size in (1e-25, 1e16, 1e30):
        large = (result * np.float32(size)).astype(np.float32)
        found = [measure(truth, match_brightness(truth, large)) for measure in (psnr, ssim)]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        other = (truth * np.float32(size)).astype(np.float32)
        found = [measure(other, match_brightness(other, large)) for measure in (psnr, ssim)]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
