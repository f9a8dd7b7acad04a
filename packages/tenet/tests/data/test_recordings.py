"""Recorded stacks: kinds of files, shapes, brightness, and which are used for what."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from scopekit.errors import UserError
from scopekit.images.files import open_stack, write_volume
from tenet.alignment.shifts import load_alignment
from tenet.config.files import load_config
from tenet.data import recordings
from tenet.data.recordings import (
    align_recording,
    find_recordings,
    held_out_recordings,
    read_recording,
    split_recordings,
)
from tenet.network.jnet import JNet

VOLUME = np.random.default_rng(0).integers(100, 4000, (3, 4, 5)).astype(np.float32)
SCALED = (VOLUME - VOLUME.min()) / (VOLUME.max() - VOLUME.min())


def save(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".pt":
        torch.save(torch.from_numpy(np.ascontiguousarray(array)), path)
    else:
        tifffile.imwrite(path, array, photometric="minisblack")
    return path


@pytest.mark.parametrize("sign", [1, -1])
def test_slabs_range_over_the_whole_stack(tmp_path, monkeypatch, sign):
    monkeypatch.setattr(recordings, "_READ_BYTES", 1)
    values = sign * np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    path = save(tmp_path / "a.npy", values)
    copied = np.empty_like(values)
    extremes = recordings.open_recording(path).copy(0, copied)
    assert extremes == (values.min(), values.max())
    np.testing.assert_array_equal(copied, values)


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".tif"])
@pytest.mark.parametrize("axes", ["ZYX", "CZYX"])
def test_a_stack_is_read_from_0_to_1(tmp_path, suffix, axes):
    array = VOLUME if axes == "ZYX" else VOLUME[None]
    found = read_recording(save(tmp_path / f"a{suffix}", array))
    assert found.volume.dtype == np.float32
    np.testing.assert_allclose(found.volume, SCALED, atol=1e-6)


def test_integers_and_voxel_sizes_are_read(tmp_path):
    write_volume(tmp_path / "a.tif", VOLUME, (0.5, 0.05, 0.05), overwrite=False)
    assert read_recording(tmp_path / "a.tif").voxel_um == pytest.approx((0.5, 0.05, 0.05))
    save(tmp_path / "b.npy", VOLUME.astype(np.uint16))
    np.testing.assert_allclose(read_recording(tmp_path / "b.npy").volume, SCALED, atol=1e-6)


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_of_a_series_the_first_is_read_unless_told(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", np.stack([VOLUME, VOLUME[::-1]])[:, None])
    np.testing.assert_allclose(read_recording(path).volume, SCALED, atol=1e-6)
    np.testing.assert_allclose(read_recording(path, 1).volume, SCALED[::-1], atol=1e-6)
    with pytest.raises(UserError, match="time point 2 of 2; allowed: 0 to 1"):
        read_recording(path, 2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 4, 5), 7.0), "constant, every voxel is 7; leave it out"),
        (np.where(VOLUME > 3900, np.nan, VOLUME), "NaN or infinite values"),
        (np.where(VOLUME > 3900, np.inf, VOLUME), "NaN or infinite values"),
        (np.ones((2, 3, 4, 5)), "2 channels x 3 planes; choose a channel, 0 to 1"),
        (np.ones((4, 5)), r"shape \(4, 5\) of float64; allowed: numbers \(Z, Y, X\)"),
        (np.ones((3, 4, 5), complex), "of complex128; allowed: numbers"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, array, message):
    with pytest.raises(UserError, match=rf"a.npy: .*{message}"):
        read_recording(save(tmp_path / "a.npy", array))


@pytest.mark.parametrize("name", ["a.npy", "a.pt", "a.tif"])
def test_damaged_and_missing_files_are_told(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UserError, match=f"{name}: no such file"):
        read_recording(path)
    path.write_bytes(b"nothing of that kind")
    with pytest.raises(UserError, match=f"{name}: not a"):
        read_recording(path)


def test_other_files_are_told(tmp_path):
    with pytest.raises(UserError, match=r"a.png: unknown kind of file; allowed: .tif"):
        read_recording(tmp_path / "a.png")
    torch.save({"a": torch.ones(2)}, tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"b.pt: holds dict; allowed: one tensor"):
        read_recording(tmp_path / "b.pt")
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"c.npy: not a NumPy array, or damaged"):
        read_recording(tmp_path / "c.npy")


@pytest.mark.parametrize("largest", [4095.0, 65535.0])
def test_a_camera_that_tells_its_depth_gives_the_scale(tmp_path, monkeypatch, largest):
    path = save(tmp_path / "a.npy", VOLUME)
    known = replace(open_stack(path), full_scale=largest)
    monkeypatch.setattr(recordings, "open_stack", lambda *_: known)
    np.testing.assert_allclose(read_recording(path).volume, VOLUME / largest, rtol=1e-6)


def test_an_offset_far_larger_than_the_signal_does_no_harm(tmp_path):
    path = save(tmp_path / "a.npy", VOLUME.astype(np.int32) + 2**30)
    np.testing.assert_allclose(read_recording(path).volume, SCALED, atol=1e-6)


def test_a_range_that_fits_no_value_is_told(tmp_path, monkeypatch, write_config, tenet):
    monkeypatch.chdir(tmp_path)
    known = replace(open_stack(save(tmp_path / "a.npy", VOLUME)), full_scale=4095.0)
    monkeypatch.setattr(recordings, "open_stack", lambda *_: known)
    torch.save(JNet(load_config(write_config()).params).state_dict(), "model.pt")
    fixed = ("--config", "small.json", "--checkpoint", "model.pt", "--out", "out")
    # Within the camera's 0 to 4095, yet below all that was recorded.
    refused = tenet("enhance", "a.npy", *fixed, "--value-range", 0, 50, "--device", "cpu")
    assert refused.returncode == 2
    assert "all lie outside --value-range 0 50" in refused.stderr
    with pytest.raises(UserError, match=r"a\.npy: .* all lie outside `value_range=0 50`"):
        read_recording(tmp_path / "a.npy", value_range=(0, 50))
    done = tenet("enhance", "a.npy", *fixed, "--device", "cpu")
    assert "a.npy: 0 and 4095, the range of its camera, count as 0 and 1" in done.stderr


def test_recordings_are_aligned_and_stay_what_they_are(tmp_path):
    y, x = np.mgrid[:32, :32]
    jumps = [0, 3, -2, 2, -3, 1]
    stack = np.stack([np.exp(-((y - 16 - j) ** 2 + (x - 15) ** 2) / 30) for j in jumps])
    recording = read_recording(save(tmp_path / "a.npy", stack))
    aligned = align_recording(recording, load_alignment())
    assert aligned.volume.min() >= 0
    assert aligned.volume.max() <= 1
    assert np.corrcoef(aligned.volume.ravel(), recording.volume.ravel())[0, 1] > 0.5
    steps = [np.abs(np.diff(r.volume, axis=0)).mean() for r in (recording, aligned)]
    assert steps[1] < 0.5 * steps[0]


def test_which_files_are_used(tmp_path):
    names = ["b01.tif", "a00.tif", "_c.tif", "x03.npy", "y.txt", ".d.tif", "z04.TIF"]
    for name in names:
        (tmp_path / name).touch()
    found = find_recordings(tmp_path, left_out=("00", "03"))
    assert [path.name for path in found] == ["b01.tif", "z04.TIF"]
    assert len(find_recordings(tmp_path)) == 4
    with pytest.raises(UserError, match="no stack to use"):
        find_recordings(tmp_path, left_out=("00", "03", "01", "04"))
    with pytest.raises(UserError, match="no such folder; check folderpath in train_dataset"):
        find_recordings(tmp_path / "none")


def test_recordings_come_in_the_order_of_their_numbers(tmp_path):
    names = ["No1.tif", "No2.tif", "No9.tif", "No10.tif", "No11.tif"]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in find_recordings(tmp_path)] == names


def test_a_stack_spread_over_files_counts_once(tmp_path):
    names = [f"p{n}.ome.tif" for n in range(3)]
    places = "".join(
        f'<TiffData FirstZ="{n}" FirstC="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{n}</UUID></TiffData>'
        for n, name in enumerate(names)
    )
    for n, name in enumerate(names):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{n}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZTC" Type="float32" SizeX="5" SizeY="4" SizeZ="3" SizeC="1" '
            f'SizeT="1">{places}</Pixels></Image></OME>'
        )
        plain = {"photometric": "minisblack", "metadata": None}
        tifffile.imwrite(tmp_path / name, VOLUME[n], description=xml.encode(), **plain)
    np.testing.assert_allclose(read_recording(tmp_path / names[1]).volume, SCALED, atol=1e-6)
    assert [path.name for path in find_recordings(tmp_path)] == names[:1]


def test_results_of_a_zarr_store_are_no_recordings(tmp_path):
    (tmp_path / "cell.ome.zarr").mkdir()
    (tmp_path / "cell_tenet_structure.tif").touch()
    assert [path.name for path in find_recordings(tmp_path)] == ["cell.ome.zarr"]


@pytest.mark.parametrize(("number", "train"), [(10, 8), (5, 4), (3, 2), (2, 1), (30, 24)])
def test_four_fifths_train_and_the_rest_validates(tmp_path, number, train):
    files = [tmp_path / str(n) for n in range(number)]
    assert split_recordings(files, train=True) == files[:train]
    assert split_recordings(files, train=False) == files[train:]


def test_one_stack_is_too_few(tmp_path):
    with pytest.raises(UserError, match="the only stack; give two or more"):
        split_recordings([tmp_path / "a.tif"], train=True)


def test_stacks_kept_for_the_test_are_those_of_the_configuration(work, write_config):
    kept = load_config(write_config("kept", test_dataset={"test_images": ["01"]}))
    assert [path.name for path in held_out_recordings(kept)] == ["s01.npy"]
    none = load_config(write_config("none", test_dataset={"test_images": ["77"]}))
    assert [path.name for path in held_out_recordings(none)] == ["s02.npy"]
