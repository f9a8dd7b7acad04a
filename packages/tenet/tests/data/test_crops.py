"""Crops to train with: places, turns, masks, labels, recordings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekit.errors import UserError
from tenet.config.sections import LabelCrops, Range, StackCrops, Vibration
from tenet.data.augmentation import clear_margin, draw_mask, draw_turn, turned
from tenet.data.crops import PhantomCrops, RecordingCrops
from tenet.data.labels import LabelVolumes

SHAPE = (12, 9, 8)


def label_data(folder, **changes):
    values = {"folderpath": str(folder), "size": (12, 9, 8), "cropsize": (8, 6, 6), "I": 3}
    return LabelCrops(**values | {"scale": 4, "low": 0, "high": 2} | changes)


def stack_data(folder, **changes):
    values = {"folderpath": str(folder), "size": (12, 9, 8), "cropsize": (8, 6, 6), "I": 3}
    return StackCrops(**values | {"scale": 4, "train": True} | changes)


@pytest.fixture
def labels(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(2):
        x = (rng.random((1, *SHAPE)) > 0.5).astype(np.float32)
        np.save(tmp_path / f"{n:04d}_labelx.npy", x)
        np.save(tmp_path / f"{n:04d}_labelz.npy", x * rng.random((1, *SHAPE), dtype=np.float32))
    return tmp_path


def rngs(number):
    return [np.random.default_rng(n) for n in range(number)]


def test_turns_are_the_same_for_both_and_keep_the_optical_axis():
    volume = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    seen = set()
    for rng in rngs(200):
        turn = draw_turn(rng, square=True)
        found = turned(volume, turn)
        assert found.shape == volume.shape
        assert np.array_equal(np.sort(found.ravel()), np.sort(volume.ravel()))
        # Every plane stays a plane.
        planes = {frozenset(plane.ravel().tolist()) for plane in volume}
        assert {frozenset(plane.ravel().tolist()) for plane in found} == planes
        seen.add(found.tobytes())
    assert len(seen) == 16  # all there are: 8 in the plane, and z either way


def test_crops_higher_than_wide_are_not_turned_by_a_quarter():
    volume = np.zeros((2, 3, 4), np.float32)
    assert all(turned(volume, draw_turn(r, square=False)).shape == (2, 3, 4) for r in rngs(50))


@given(
    st.tuples(*3 * [st.integers(1, 6)]),
    st.integers(0, 5),
    st.tuples(*3 * [st.integers(1, 8)]),
    st.integers(0, 99),
)
def test_masks_are_boxes_of_zeros(shape, number, size, seed):
    mask = draw_mask(shape, number, size, np.random.default_rng(seed))
    assert mask.shape == shape
    assert set(np.unique(mask)) <= {0.0, 1.0}
    volume = np.prod([min(a, b) for a, b in zip(shape, size, strict=True)])
    assert (mask == 0).sum() <= number * volume
    assert ((mask == 0).sum() == 0) == (number == 0)


def test_masks_reach_every_voxel_also_at_the_border():
    hidden = sum(1 - draw_mask((3, 8, 8), 1, (1, 3, 3), rng) for rng in rngs(2000))
    assert hidden.min() > 0.7 * hidden.mean()


def test_a_margin_is_cleared():
    mask = np.ones((5, 6, 7), np.float32)
    clear_margin(mask, (1, 2, 0))
    assert mask.sum() == 3 * 2 * 7
    assert mask[1:-1, 2:-2].all()


def test_label_crops_are_cut_at_uniform_places(labels):
    volumes = LabelVolumes(label_data(labels))
    places = [volumes.draw(rng) for rng in rngs(600)]
    assert {p[0] for p in places} == {0, 1}
    for axis, last in enumerate((4, 3, 2)):
        assert {p[1][axis] for p in places} == set(range(last + 1))
    x, z = volumes.read(1, (4, 3, 2))
    whole = np.load(labels / "0001_labelx.npy")[0]
    assert np.array_equal(x, whole[4:, 3:, 2:])
    assert np.array_equal(z > 0, x > 0)


def test_phantom_crops_hold_both_labels_and_a_mask(labels):
    data = label_data(labels, mask=True, mask_num=2, mask_size=(1, 2, 2))
    crop = PhantomCrops(data, turn=True).draw(np.random.default_rng(0))
    assert crop.labelx.shape == crop.labelz.shape == (1, 8, 6, 6)
    assert crop.mask.shape == (1, 2, 6, 6)
    assert 0 < float((crop.mask == 0).sum()) <= 8
    assert ((crop.labelz > 0) <= (crop.labelx > 0)).all()
    assert crop.shifts is None
    again = PhantomCrops(data, turn=True).draw(np.random.default_rng(0))
    assert again.labelz.equal(crop.labelz)
    assert again.noise_seed == crop.noise_seed


def test_vibration_grows_with_the_epochs(labels):
    ranges = {"amp_alpha": Range(min=0, max=20), "b_sigma": Range(min=0, max=1)}
    vibration = Vibration(max_step=4, **ranges, noise_inv_var_alpha=Range(min=2, max=1e9))
    crops = PhantomCrops(label_data(labels), turn=False, vibration=vibration)
    spreads = []
    for epoch in (0, 4):
        crops.begin_epoch(epoch)
        spreads.append(np.mean([float(crops.draw(r).shifts.abs().mean()) for r in rngs(50)]))
    assert spreads[0] < 0.01
    assert spreads[1] > 0.3


def test_a_surrounding_margin_is_in_voxels_of_the_labels(labels):
    data = label_data(labels, surround=True, surround_size=(4, 1, 2))
    mask = PhantomCrops(data, turn=False).draw(np.random.default_rng(0)).mask
    assert mask.sum() == 0  # one of two planes on either side
    data = label_data(labels, surround=True, surround_size=(3, 1, 2))
    assert PhantomCrops(data, turn=False).draw(np.random.default_rng(0)).mask.sum() == 2 * 4 * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high": 3}, "0002_labelx.npy: no such file; check folderpath, labelname, low and high"),
        ({"labelname": "_name"}, "0000_namex.npy: no such file"),
        ({"cropsize": (12, 10, 8), "size": (12, 12, 12)}, r"the crop is \(12, 10, 8\): lower"),
        ({"folderpath": "nowhere"}, "nowhere: no such folder; make the labels with datagen"),
    ],
)
def test_labels_that_do_not_fit_are_told(labels, changes, message):
    with pytest.raises(UserError, match=message):
        LabelVolumes(label_data(labels, **changes))


def test_damaged_labels_are_told(labels):
    (labels / "0001_labelz.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"0001_labelz.npy: not a label, or damaged"):
        LabelVolumes(label_data(labels))
    np.save(labels / "0001_labelz.npy", np.zeros((1, 12, 9, 7), np.float32))
    with pytest.raises(UserError, match=r"0001_labelx.npy: \(12, 9, 8\), its labelz \(12, 9, 7\)"):
        LabelVolumes(label_data(labels))
    np.save(labels / "0001_labelz.npy", np.full((1, *SHAPE), 2, np.float32))
    with pytest.raises(UserError, match="labelz is not within 0 to 1"):
        LabelVolumes(label_data(labels)).read(1, (0, 0, 0))


@pytest.fixture
def stacks(tmp_path):
    for n in range(5):
        stack = np.zeros((3, 9, 8), np.float32)
        stack[:, 6:, 6:] = 1 + n
        np.save(tmp_path / f"s{n:02d}.npy", stack)
    return tmp_path


def test_crops_of_recordings_are_not_dark(stacks):
    crops = RecordingCrops(stack_data(stacks), ())
    assert len(crops.stacks) == 4
    drawn = [crops.draw(rng) for rng in rngs(40)]
    assert all(crop.image.shape == (1, 2, 6, 6) for crop in drawn)
    mean = float(crops.stacks[0].volume.mean())
    enough = [float(crop.image.mean()) >= mean for crop in drawn]
    assert np.mean(enough) > 0.9
    assert len({crop.source for crop in drawn}) == 4
    validating = RecordingCrops(stack_data(stacks, train=False), ())
    assert [stack.path.name for stack in validating.stacks] == ["s04.npy"]


def test_stacks_smaller_than_a_crop_are_told(stacks):
    with pytest.raises(UserError, match=r"s00.npy: \(3, 9, 8\) voxels, the crop .* \(3, 6, 9\)"):
        RecordingCrops(stack_data(stacks, cropsize=(12, 6, 9), size=(12, 9, 9)), ())
