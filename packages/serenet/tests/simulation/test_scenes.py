"""Scenes of tubes and bubbles, their light fields, and scenes that move."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from optics import LightFieldOperator, phase_space_psf, presets, sample_views
from scopekit.images.files import open_frames, open_stack
from serenet.simulation import moving_scenes, scenes
from serenet.simulation.training_scenes import write_scenes


@pytest.fixture(scope="module")
def scope():
    whole = presets["nnum13"].with_middle_depths(21)
    return whole.with_views([whole.central_view, 0])


@pytest.fixture(scope="module")
def psf(scope):
    return phase_space_psf(scope, size=31)


def test_scenes_hold_tubes_and_bubbles(scope):
    scene = scenes.tubes_and_bubbles(3, scope)
    assert scene.shape == scenes.scene_shape(scope) == (21, 156, 156)
    assert scene.min() == 0
    np.testing.assert_array_equal(scenes.tubes_and_bubbles(3, scope), scene)
    assert np.abs(scenes.tubes_and_bubbles(4, scope) - scene).max() > 50
    # Shells fill more space than lines.
    with patch.object(scenes, "_BUBBLES", 0):
        tubes = scenes.tubes_and_bubbles(3, scope)
    assert (scene > 8).sum() > 2 * (tubes > 8).sum() > 2000


def test_written_scenes_are_volumes_and_their_views(tmp_path, scope, psf):
    write_scenes(tmp_path, "small", range(5, 7), scope, psf, keep=False)
    for seed in (5, 6):
        volume = open_stack(tmp_path / f"volumes/scene{seed:04d}.tif")
        views = open_stack(tmp_path / f"views/scene{seed:04d}.tif")
        np.testing.assert_allclose(volume.read(), scenes.tubes_and_bubbles(seed, scope))
        assert volume.voxel_um == pytest.approx(scope.voxel_um, rel=1e-4)
        step = scope.view_pixel_um
        assert (views.steps.y_um, views.steps.x_um) == pytest.approx((step, step), rel=1e-4)
        projected = LightFieldOperator(psf).forward(torch.from_numpy(volume.read()))
        expected = sample_views(projected, scope.lateral_scale).clamp(min=0).numpy()
        np.testing.assert_allclose(views.read(), expected, atol=1e-3 * expected.max())


def test_moving_scenes_are_noisy_and_their_still_ones_are_not(tmp_path, scope, psf):
    # At rest, so that noise alone makes the difference.
    with patch.object(moving_scenes, "_STILL_SHARE", 1.0):
        operator = LightFieldOperator(psf[:1])
        moving_scenes.write_moving_scenes(tmp_path, range(3), scope, operator)
    backgrounds = []
    for seed in range(3):
        recorded, still = (
            open_frames(tmp_path / f"{name}/scene{seed:04d}.tif").read()
            for name in ("views", "still")
        )
        assert 90 < still.max() < 3100
        noise = recorded - still
        assert abs(noise.mean()) < 0.2
        assert noise.std() == pytest.approx(np.sqrt(still.mean() + 4), rel=0.05)
        backgrounds.append(still.min() / still.max())
    assert max(backgrounds) > 0.05
    assert max(backgrounds) - min(backgrounds) > 0.02
