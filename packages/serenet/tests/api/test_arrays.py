"""NumPy arrays or tensors in, the same kind out, with the size of the voxels where it is known."""

import copy
import pickle

import numpy as np
import pytest
import torch

import serenet
from serenet import ScaledArray

SIZE = (0.5, 0.2, 0.2)
CUBIC = (0.5, 0.2, 0.1)


@pytest.fixture
def volume():
    return ScaledArray(np.random.default_rng(0).random((3, 4, 4)), SIZE)


@pytest.mark.parametrize(
    "kept",
    [
        lambda v: 2 * v + 1,
        lambda v: np.ones((3, 4, 4)) - v,
        np.sqrt,
        lambda v: v > 0.5,
        lambda v: np.clip(v, 0, 0.5),
        copy.copy,
        lambda v: v.astype(np.float64),
        lambda v: pickle.loads(pickle.dumps(v)),
        lambda v: v[:, ::-1],
        lambda v: v + v[::-1],
    ],
)
def test_voxel_size_is_kept_where_it_stays_right(volume, kept):
    assert kept(volume).voxel_um == SIZE
    assert kept(volume).shape == volume.shape


@pytest.mark.parametrize(
    "changed",
    [
        lambda v: v[::2],
        lambda v: v[0],
        lambda v: v.max(axis=0),
        lambda v: v.T,
        lambda v: v.transpose(0, 2, 1),
        lambda v: v[::2].repeat(2, axis=0)[:3],
        lambda v: v.reshape(4, 3, 4),
        lambda v: v[:, 1:],
    ],
)
def test_voxel_size_is_forgotten_rather_than_wrong(volume, changed):
    assert changed(volume).voxel_um is None


def test_turned_cubes_are_told_apart():
    cube = ScaledArray(np.ones((4, 4, 4)), CUBIC)
    assert cube.copy().voxel_um == CUBIC
    assert cube.T.voxel_um is None
    assert cube.T.copy().voxel_um is None


def test_single_numbers_are_numbers(volume):
    assert isinstance(volume.max(), np.float32)
    assert isinstance(volume.mean(), np.float32)
    assert volume.dtype == np.float32


@pytest.fixture(scope="module")
def scope():
    microscope = serenet.load_microscope("nnum13").with_middle_depths(3)
    return microscope.with_views(microscope.views[:5])


@pytest.fixture(scope="module")
def views():
    return np.random.default_rng(0).poisson(50, (5, 12, 9)).astype(np.float32)


def calls(scope):
    model = serenet.load_checkpoint("demo_twnet")
    twice = serenet.build_model("vsnet", angRes=5, K=1, n_block=1, channels=8).eval()
    volume = np.full((3, 52, 39), 20, np.float32)
    return {
        "subtract_background": lambda v: serenet.subtract_background(v, 40),
        "decompose": lambda v: serenet.decompose(v, np.ones((5, 2, 2))),
        "predao": lambda v: serenet.predao(v, scope.views, 13, scope.lateral_scale),
        "correct_motion": lambda v: serenet.correct_motion(v, model),
        "virtual_scan": lambda v: serenet.virtual_scan(v[[0, 1, 2, 3, 4] * 5], twice),
        "deconvolve": lambda v: serenet.deconvolve(v, scope, iterations=1),
        "refine": lambda v: serenet.refine(
            volume if isinstance(v, np.ndarray) else torch.from_numpy(volume), v, scope, 3
        ),
    }


NAMES = [
    "subtract_background",
    "decompose",
    "predao",
    "correct_motion",
    "virtual_scan",
    "deconvolve",
    "refine",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_kind_comes_out(name, scope, views):
    call = calls(scope)[name]
    before = views.copy()
    array, tensor = call(views), call(torch.from_numpy(views))
    assert isinstance(array, ScaledArray)
    assert isinstance(tensor, torch.Tensor)
    assert type(tensor) is torch.Tensor
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, tensor.numpy())
    np.testing.assert_array_equal(views, before)
    # Camera counts are whole numbers, and a view of an array may run backwards.
    whole = call(views.astype(np.uint16)[::-1][::-1])
    np.testing.assert_array_equal(whole, array)


def test_sizes_of_results(scope, views):
    sized = ScaledArray(views, (1.0, 0.6, 0.6))
    made = {name: call(sized).voxel_um for name, call in calls(scope).items()}
    assert made.pop("deconvolve") == made.pop("refine") == scope.voxel_um
    assert made.pop("decompose") is None
    made.pop("virtual_scan")  # its views were repeated here, which forgets
    assert set(made.values()) == {(1.0, 0.6, 0.6)}
    vsnet = serenet.build_model("vsnet", angRes=5, K=1, n_block=1, channels=8).eval()
    unscanned = ScaledArray(np.ones((25, 6, 6)), (1.0, 0.6, 0.6))
    assert serenet.virtual_scan(unscanned, vsnet).voxel_um == pytest.approx((1.0, 0.2, 0.2))
