import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

from scopekit.images.voxel import UNKNOWN, Steps
from scopekit.napari.layers import layer_of


def test_unknown_plane_distance_leaves_the_pixels_known():
    _, about, kind = layer_of(np.zeros((2, 3, 4)), "cell", Steps(None, 0.5, 0.25))
    assert (about["scale"], about["units"], kind) == ((1, 0.5, 0.25), ("um",) * 3, "image")


def test_nothing_known_is_pixels():
    _, about, _ = layer_of(np.zeros((2, 3, 4)), "cell", UNKNOWN)
    assert (about["scale"], about["units"]) == ((1, 1, 1), ("pixel",) * 3)


def test_series_has_time_before_space():
    _, about, _ = layer_of(np.zeros((5, 2, 3, 4)), "cell", Steps(2, 0.5, 0.5))
    assert about["axis_labels"] == ("t", "z", "y", "x")
    assert about["scale"] == (1, 2, 0.5, 0.5)
    assert about["units"] == ("pixel", "um", "um", "um")
