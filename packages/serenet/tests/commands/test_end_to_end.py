"""Optics, projection and the published weights together find a published volume again."""

import csv

import numpy as np
import pytest

from optics import presets
from scopekit import metrics
from scopekit.images.files import open_stack, write_volume

SIDE = 143
BORDER = (20, 30)
BLUR = (1.5, 1, 1)


@pytest.fixture
def truth(reference, tmp_path):
    """The middle of a published volume, as TIFF."""
    volume = np.load(reference / "data/published/bubtub_group001_crop.npz")["volume"]
    first = (volume.shape[1] - SIDE) // 2
    part = volume[:, first : first + SIDE, first : first + SIDE].astype(np.float32)
    path = tmp_path / "truth.tif"
    pixel = presets["nnum13"].pixel_um
    write_volume(path, part, (0.2, pixel, pixel), overwrite=False)
    return path


def test_published_weights_on_simulated_views(serenet, reference, tmp_path, truth):
    """All by the command line; thresholds are what was measured (0.643, 0.907), less a little."""
    published = reference / "data/published"
    psf, views = tmp_path / "psf.h5", tmp_path / "views.tif"
    assert serenet("psf", "nnum13", "--out", psf).code == 0
    assert serenet("project", truth, "--psf", psf, "--out", views).code == 0
    stack = open_stack(views)
    counts = stack.read()
    size_um = (1.0, stack.steps.y_um, stack.steps.x_um)
    write_volume(views, 500 * counts / counts.max(), size_um, overwrite=True)

    def reconstruct(name, *options):
        arguments = ("--checkpoint", published / "serenet_epoch-800.pth", "--background", 0)
        out = tmp_path / name
        assert serenet("reconstruct", views, *arguments, "--out", out, *options).code == 0
        return out / "views_serenet.tif"

    def correlation(a, b, *options):
        arguments = (a, b, "--out", tmp_path / "comparison", "--overwrite", "--border", *BORDER)
        assert serenet("compare", *arguments, *options).code == 0
        (row,) = csv.DictReader((tmp_path / "comparison/comparison.csv").read_text().splitlines())
        return float(row["correlation"])

    result = reconstruct("own", "--psf", psf)
    assert correlation(truth, result) >= 0.635
    assert correlation(truth, result, "--blur", *BLUR) >= 0.90

    table = published / "psfshift_nnum13_49views.pt"
    assert correlation(result, reconstruct("table", "--psf-shift", table)) >= 0.99
    assert correlation(result, reconstruct("half", "--psf", psf, "--half")) >= 0.999

    # A wrong convention would show.
    volume, true = open_stack(result).read(), open_stack(truth).read()
    (z, yx), wrong = BORDER, (volume[::-1], volume[:, ::-1], volume[:, :, ::-1])
    inside = np.s_[z:-z, yx:-yx, yx:-yx]
    for other in (*wrong, volume.swapaxes(1, 2)):
        assert metrics.correlation(true[inside], other[inside]) < 0.2
