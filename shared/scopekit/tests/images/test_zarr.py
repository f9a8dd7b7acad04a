"""OME-Zarr stores: what is written is read, here and by zarr alone; what is wrong is named."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.images.files import (
    Selection,
    is_zarr,
    open_frames,
    open_stack,
    stack_stem,
    write_volume,
)
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame

zarr = pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")

VOXEL_UM = (0.2, 0.12, 0.13)
SHAPE = (3, 20, 30, 25)


@pytest.fixture
def series():
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


@pytest.fixture
def store(tmp_path, series):
    path = tmp_path / "cell.ome.zarr"
    create_store(path, SHAPE, VOXEL_UM, "cell")
    for frame in (2, 0, 1):
        write_frame(path, frame, series[frame])
    declare_whole(path, [])
    return path


def foreign(path, values, axes, *, version="0.5", scale=None, unit="micrometer", **options):
    """Write a store as other programs do."""
    described = [{"name": name, "type": kind} for name, kind in axes]
    for axis in described:
        if axis["type"] == "space":
            axis["unit"] = unit
    image = {
        "axes": described,
        "datasets": [
            {
                "path": "s0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale or [1.0] * len(axes)}
                ],
            }
        ],
    }
    zarr_format = 3 if version == "0.5" else 2
    attributes = {"multiscales": [image | {"version": version}]}
    if version == "0.5":
        attributes = {"ome": {"version": version, "multiscales": [image]}}
    group = zarr.create_group(path, attributes=attributes, zarr_format=zarr_format)
    array = group.create_array("s0", shape=values.shape, dtype=values.dtype, **options)
    array[...] = values
    return path


T, C, Z = ("t", "time"), ("c", "channel"), ("z", "space")
YX = (("y", "space"), ("x", "space"))


def test_a_series_is_read_as_written(store, series):
    stack = open_stack(store)
    assert stack.shape == SHAPE
    assert stack.n_frames == 3
    assert stack.voxel_um == pytest.approx(VOXEL_UM)
    for frame in range(3):
        assert np.array_equal(stack.read(frame), series[frame])
    part = stack.read_window([7, 3], slice(2, 9), slice(None), frame=1)
    assert np.array_equal(part, series[1, [7, 3], 2:9])


def test_a_volume_is_read_as_written(tmp_path, series):
    path = tmp_path / "one.zarr"
    create_store(path, SHAPE[1:], VOXEL_UM, "one")
    write_frame(path, 0, series[0])
    declare_whole(path, [])
    stack = open_stack(path)
    assert stack.shape == SHAPE[1:]
    assert np.array_equal(stack.read(), series[0])


def test_zarr_alone_reads_it_and_the_metadata_follow_ngff(store, series):
    group = zarr.open_group(store, mode="r")
    assert group.metadata.zarr_format == 3
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "z", "y", "x"]
    assert [axis["type"] for axis in image["axes"]] == ["time", "space", "space", "space"]
    assert {axis["unit"] for axis in image["axes"][1:]} == {"micrometer"}
    (dataset,) = image["datasets"]
    transformation = {"type": "scale", "scale": [1.0, *VOXEL_UM]}
    assert dataset["coordinateTransformations"] == [transformation]
    array = group[dataset["path"]]
    assert array.metadata.dimension_names == ("t", "z", "y", "x")
    assert array.chunks[0] == 1
    assert np.array_equal(array[...], series)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_stores_of_other_programs(tmp_path, series, version):
    values = (series[:, None] * 1000).astype(np.uint16)
    path = foreign(
        tmp_path / "other.zarr",
        values,
        (T, C, Z, *YX),
        version=version,
        scale=[1, 1, 200, 120, 130],
        unit="nanometer",
        chunks=(2, 1, 7, 11, 25),
    )
    stack = open_stack(path)
    assert stack.shape == SHAPE
    assert stack.dtype == np.uint16
    assert stack.voxel_um == pytest.approx(VOXEL_UM)
    assert np.array_equal(stack.read(2), values[2, 0])


def test_views_may_stand_on_the_axis_of_channels_if_that_is_said(tmp_path, series):
    path = foreign(tmp_path / "views.zarr", series[:, :, None], (T, C, Z, *YX))
    refuse(path, "20 channels of one plane each", "say `frames_are=planes`")
    stack = open_stack(path, Selection(frames_are="planes"))
    assert stack.shape == SHAPE
    assert np.array_equal(stack.read(1), series[1])


@pytest.mark.parametrize("shape", [(4, 3, 6, 5), (12, 6, 5), (12, 1, 6, 5)])
def test_every_image_as_a_frame(tmp_path, shape):
    values = np.arange(360, dtype=np.float32).reshape(shape)
    path = foreign(tmp_path / "raw.zarr", values, (T, Z, *YX)[-len(shape) :])
    frames = open_frames(path)
    assert frames.shape == (12, 1, 6, 5)
    assert np.array_equal(frames.read(7), values.reshape(12, 1, 6, 5)[7])


def test_names():
    stems = {"cell.tif": "cell", "a/cell.ome.zarr": "cell", "cell.zarr": "cell", "c.OME.zarr": "c"}
    assert {name: stack_stem(Path(name)) for name in stems} == stems
    assert is_zarr(Path("new.zarr"))
    assert not is_zarr(Path("new.tif"))


def chunk_files(store, frame):
    return sorted(p for p in (store / "0" / "c" / str(frame)).rglob("*") if p.is_file())


def open_and_read(path, frame):
    stack = open_stack(path)
    if frame is not None:
        stack.read(frame)


def refuse(path, *words, read=None):
    with pytest.raises(UserError) as raised:
        open_and_read(path, read)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_store_without_metadata(tmp_path, store):
    plain = tmp_path / "plain.zarr"
    zarr.create_group(plain)
    refuse(plain, "no OME-Zarr metadata", "export")
    zarr.save_array(tmp_path / "array.zarr", np.zeros((3, 4, 5)))
    refuse(tmp_path / "array.zarr", "no OME-Zarr metadata", "give the folder of the image")
    refuse(tmp_path / "absent.zarr", "no such file")
    (tmp_path / "folder.zarr").mkdir()
    refuse(tmp_path / "folder.zarr", "no zarr.json")
    (store / "zarr.json").write_text("{")
    refuse(store, "damaged")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: image["axes"].pop(),
        lambda image: image["datasets"][0].pop("path"),
        lambda image: image.update(axes=[]),
        lambda image: image["datasets"][0]["coordinateTransformations"][0].update(scale=[1, 2]),
        lambda image: image["datasets"][0]["coordinateTransformations"][0].update(
            scale=[1, 0, 1, 1]
        ),
    ],
)
def test_broken_metadata(store, spoil):
    file = store / "zarr.json"
    content = json.loads(file.read_text())
    spoil(content["attributes"]["ome"]["multiscales"][0])
    file.write_text(json.dumps(content))
    refuse(store, "metadata", "export")


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize(("what", "value"), [("chunk", 0), ("side", 10**12)])
def test_impossible_shapes(store, axis, what, value):
    file = store / "0" / "zarr.json"
    content = json.loads(file.read_text())
    if what == "chunk":
        content["chunk_grid"]["configuration"]["chunk_shape"][axis] = value
    else:
        content["shape"][axis] = value
    file.write_text(json.dumps(content))
    refuse(store, "damaged", "export", read=0)


def test_a_missing_array(store):
    shutil.rmtree(store / "0")
    refuse(store, "'0' is missing")


def test_what_is_no_stack_of_grey_values(tmp_path, series):
    channels = np.zeros((2, 3, 4, 5), np.uint8)
    refuse(
        foreign(tmp_path / "c.zarr", channels, (C, Z, *YX)),
        "2 channels x 3 planes",
        "choose a channel",
    )
    refuse(foreign(tmp_path / "tc.zarr", channels[None].repeat(2, 0), (T, C, Z, *YX)), "channel")
    refuse(foreign(tmp_path / "image.zarr", channels[0, 0], YX), "single 2D image")
    refuse(foreign(tmp_path / "complex.zarr", channels * 1j, (T, Z, *YX)), "real numbers")


def test_missing_chunks_of_a_whole_store(store):
    chunk_files(store, 1)[-1].unlink()
    refuse(store, "frame 1: chunks are missing", "copy", read=1)
    assert open_stack(store).read(0).shape == SHAPE[1:]


def test_frames_that_failed(store):
    declare_whole(store, [1])
    refuse(store, "frame 1 is missing", read=1)
    open_stack(store).read(2)


def test_chunks_of_zeros_may_be_left_out_by_others_but_no_whole_frame(tmp_path, series):
    series[1, :8] = 0
    series[2] = 0
    path = foreign(tmp_path / "sparse.zarr", series, (T, Z, *YX), chunks=(1, 4, 30, 25))
    assert np.array_equal(open_stack(path).read(1), series[1])
    refuse(path, "frame 2: chunks are missing", "zeros", "write_empty_chunks", read=2)


def test_a_damaged_chunk(store):
    chunk = chunk_files(store, 0)[0]
    chunk.write_bytes(chunk.read_bytes()[:50])
    refuse(store, "damaged", "copy", read=0)


def test_a_chunk_that_says_it_is_longer(store):
    """Blosc reads on beyond the end then, and ends the program."""
    chunk = chunk_files(store, 1)[0]
    content = bytearray(chunk.read_bytes())
    content[12:16] = (2**31 - 1).to_bytes(4, "little")
    chunk.write_bytes(content)
    refuse(store, "a chunk was cut short", "copy", read=1)
    open_stack(store).read(0)


def test_values_that_are_no_numbers(tmp_path, series):
    series[1, 5, 3, 3] = np.nan
    path = foreign(tmp_path / "nan.zarr", series, (T, Z, *YX))
    refuse(path, "NaN or infinite values (frame 1, page 5", read=1)


def test_a_full_disk(tmp_path, series, full_disk):
    path = tmp_path / "out.zarr"
    create_store(path, SHAPE, VOXEL_UM, "out")
    with full_disk(1000), pytest.raises(UserError, match=f"cannot write {path}"):
        write_frame(path, 0, series[0])


def test_without_zarr_the_remedy_is_named(tmp_path, monkeypatch):
    path = tmp_path / "cell.zarr"
    path.mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match="pip install zarr"):
        open_stack(path)


def test_tiff_is_still_written_and_read(tmp_path, series):
    write_volume(tmp_path / "v.tif", series[0], VOXEL_UM, overwrite=False)
    assert np.array_equal(open_stack(tmp_path / "v.tif").read(), series[0])
