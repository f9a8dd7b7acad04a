"""A recorded hollow bead and its measured PSF: the solver on one 3D kernel."""

import numpy as np
import pytest
import tifffile
import torch
from skimage.restoration import richardson_lucy as of_scikit_image

from optics import KernelOperator, Subset, richardson_lucy

# Plane, row and column of the bead's centre.
CENTRE = (25.3, 31.0, 31.7)


@pytest.fixture(scope="module")
def image(reference):
    return tifffile.imread(reference / "data/bead/data.tif").astype(np.float32)


@pytest.fixture(scope="module")
def kernel(reference):
    kernel = tifffile.imread(reference / "data/bead/kernel.tif").astype(np.float32)
    return kernel / kernel.sum()


def radial_profile(volume):
    """Return the mean over rings of 1 voxel's width in the bead's middle plane."""
    plane = volume[round(CENTRE[0])]
    y, x = np.indices(plane.shape)
    ring = np.floor(np.hypot(y - CENTRE[1], x - CENTRE[2])).astype(int)
    return np.bincount(ring.ravel(), plane.ravel())[:12] / np.bincount(ring.ravel())[:12]


def shell_over_hollow(volume):
    """Return how much brighter the shell is than the middle, and than what lies outside."""
    profile = radial_profile(volume - 200.0 if volume.min() > 200 else volume)
    shell = profile[:8].max()
    return shell / profile[:2].mean(), shell / profile[7]


def test_the_shell_is_sharpened(image, kernel):
    measured = torch.from_numpy(image)
    fits = []
    volume = richardson_lucy(
        [Subset(KernelOperator(torch.from_numpy(kernel)), measured)],
        torch.full_like(measured, float(measured.mean())),
        iterations=60,
        background=200,
        on_sweep=lambda _, __, fit: fits.append(fit),
    ).numpy()
    inside, outside = shell_over_hollow(image)
    sharp_inside, sharp_outside = shell_over_hollow(volume)
    assert inside < 1.25
    assert sharp_inside > 1.6
    assert sharp_outside > 4 * outside
    # The rim stays where it was recorded.
    assert abs(int(radial_profile(volume).argmax()) - int(radial_profile(image).argmax())) <= 1
    assert fits[-1] < 0.15 * fits[0]


def test_equals_scikit_image_where_the_algorithms_coincide(image, kernel):
    # A kernel of odd size, of which both take the same centre, and an image with a dark border as
    # wide as half of it: there scikit-image leaves out the division by the sensitivity.
    odd = kernel[17:48, 17:48, 17:48]
    odd = odd / odd.sum()
    padded = np.pad(image[10:42, 16:48, 16:48] - 200, 15)
    theirs = of_scikit_image(padded, odd, num_iter=10, clip=False)
    measured = torch.from_numpy(padded)
    ours = richardson_lucy(
        [Subset(KernelOperator(torch.from_numpy(odd)), measured)],
        torch.full_like(measured, 0.5),
        iterations=10,
    ).numpy()
    inner = (slice(15, -15),) * 3
    assert np.abs(ours[inner] - theirs[inner]).max() <= 1e-3 * theirs[inner].max()
