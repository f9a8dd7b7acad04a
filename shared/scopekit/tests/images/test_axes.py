"""Axes by name: which planes of a file become which pages, and what is refused."""

import numpy as np
import pytest
import tifffile

from scopekit.cli import FramesAre, select
from scopekit.errors import UserError, options_named
from scopekit.images.axes import CHANNEL, DEPTH, PAGES, POSITION, TIME, arrange, line_up, stacked
from scopekit.images.files import Selection, open_frames, open_stack

SEE = " (see docs/formats.md#axes)"
# Every plane says where it belongs: time, position, channel, plane.
T, P, C, Z = 3, 2, 2, 4
VALUES = np.zeros((T, C, Z, 6, 5), np.uint16)
for _t in range(T):
    for _c in range(C):
        for _z in range(Z):
            VALUES[_t, _c, _z] = 100 * _t + 10 * _c + _z


def places(stack, frame=0):
    """Return the number that stands in each page."""
    return [int(page[0, 0]) for page in stack.read(frame)]


def write_imagej(path, values, axes):
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": axes})


def write_ome(path, values, axes):
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata={"axes": axes})


def write_zarr(path, values, axes):
    zarr = pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    kinds = {"T": "time", "C": "channel"}
    described = [{"name": a.lower(), "type": kinds.get(a, "space")} for a in axes]
    image = {"axes": described, "datasets": [{"path": "0"}], "version": "0.4"}
    group = zarr.create_group(path, attributes={"multiscales": [image]}, zarr_format=2)
    array = group.create_array("0", shape=values.shape, dtype=values.dtype)
    array[...] = values


def write_npy(path, values, axes):
    assert axes == "TCZYX"[-values.ndim :]
    np.save(path, values)


WRITERS = {".tif": write_imagej, ".ome.tif": write_ome, ".ome.zarr": write_zarr, ".npy": write_npy}
kinds = pytest.mark.parametrize("kind", WRITERS)


@kinds
def test_a_channel_is_refused_or_chosen_by_all_readers(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    order = (0, 2, 1, 3, 4) if kind == ".tif" else (0, 1, 2, 3, 4)
    WRITERS[kind](path, VALUES.transpose(order), "TZCYX" if kind == ".tif" else "TCZYX")
    with pytest.raises(UserError, match="2 channels") as refused:
        open_stack(path)
    assert str(refused.value).endswith("choose a channel, 0 to 1, by `channel=N`" + SEE)
    with options_named():
        assert str(refused.value).endswith("by --channel N" + SEE)
    for channel in range(C):
        stack = open_stack(path, Selection(channel=channel))
        assert stack.shape == (T, Z, 6, 5)
        for t in range(T):
            assert places(stack, t) == [100 * t + 10 * channel + z for z in range(Z)]
        window = stack.read_window([3, 1], slice(1, 3), slice(None), 2)
        assert window.shape == (2, 2, 5)
        assert window[:, 0, 0].tolist() == [203 + 10 * channel, 201 + 10 * channel]
    with pytest.raises(UserError, match="channel 2 was asked for; allowed: 0 to 1"):
        open_stack(path, Selection(channel=2))


@kinds
def test_a_file_of_one_channel_has_no_second(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    WRITERS[kind](path, VALUES[0, 0], "ZYX")
    assert places(open_stack(path, Selection(channel=0))) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="1 channel, but channel 1 was asked for; allowed: 0"):
        open_stack(path, Selection(channel=1))
    with pytest.raises(UserError, match="1 position, but position 1 was asked for"):
        open_stack(path, Selection(position=1))
    anyway = Selection(channel=1, where_several=True)
    assert places(open_stack(path, anyway)) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [".tif", ".ome.tif", ".ome.zarr"])
def test_channels_of_one_plane_are_no_planes(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    WRITERS[kind](path, VALUES[0, :, 0], "CYX")
    for opened in (open_stack, open_frames):
        with pytest.raises(UserError, match="2 channels of one plane each") as refused:
            opened(path)
        assert "choose one, 0 to 1, by `channel=N`" in str(refused.value)
        assert str(refused.value).endswith("say `frames_are=planes`" + SEE)
    assert places(open_stack(path, Selection(frames_are="planes"))) == [0, 10]
    assert places(open_frames(path, Selection(channel=1))) == [10]


@pytest.mark.parametrize("kind", [".tif", ".ome.tif", ".ome.zarr"])
def test_a_movie_is_no_stack_unless_that_is_said(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    WRITERS[kind](path, VALUES[:, 0, 0], "TYX")
    with pytest.raises(UserError, match="3 time points of one plane each") as refused:
        open_stack(path)
    with options_named():
        assert str(refused.value).endswith("say --frames-are planes" + SEE)
    assert places(open_stack(path, select(None, None, FramesAre.planes))) == [0, 100, 200]
    frames = open_frames(path)
    assert frames.shape == (T, 1, 6, 5)
    assert [places(frames, t) for t in range(T)] == [[0], [100], [200]]


def test_stacks_stay_stacks_whatever_is_said(tmp_path):
    write_imagej(tmp_path / "a.tif", VALUES[:, 0], "TZYX")
    with pytest.raises(UserError, match="3 time points x 4 planes: its time points are stacks"):
        open_stack(tmp_path / "a.tif", Selection(frames_are="planes"))
    write_imagej(tmp_path / "b.tif", VALUES[0, 0], "ZYX")
    assert places(open_stack(tmp_path / "b.tif", Selection(frames_are="planes"))) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [".ome.tif", ".ome.zarr"])
def test_planes_before_time_points_are_read_in_time(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    WRITERS[kind](path, VALUES[:, 0].swapaxes(0, 1), "ZTYX")
    stack = open_stack(path)
    assert stack.shape == (T, Z, 6, 5)
    assert [places(stack, t) for t in range(T)] == [
        [100 * t + z for z in range(Z)] for t in range(T)
    ]
    frames = open_frames(path)
    assert [places(frames, n)[0] for n in (0, 1, 4, 11)] == [0, 1, 100, 203]


@pytest.mark.parametrize("axes", ["ZTYX", "TZXY", "XYZ", "YZXT"])
def test_axes_of_zarr_count_by_their_names(tmp_path, axes):
    values = np.random.default_rng(0).integers(0, 999, (T, Z, 6, 5))
    if "T" not in axes:
        values = values[0]
    names = "TZYX" if "T" in axes else "ZYX"
    stored = values.transpose([names.index(a) for a in axes])
    write_zarr(tmp_path / "a.zarr", stored, axes)
    stack = open_stack(tmp_path / "a.zarr")
    assert stack.shape == values.shape
    for t in range(stack.n_frames):
        assert np.array_equal(stack.read(t), values[t] if "T" in axes else values)
    part = stack.read_window([2, 0, 3], slice(1, 4), slice(0, 2), stack.n_frames - 1)
    last = values[-1] if "T" in axes else values
    assert np.array_equal(part, last[[2, 0, 3], 1:4, 0:2])


def test_images_of_an_ome_file_are_positions(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for position in range(P):
            tif.write(VALUES[0, position], photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(UserError, match="2 positions; choose a position, 0 to 1") as refused:
        open_stack(path)
    with options_named():
        assert str(refused.value).endswith("by --position N" + SEE)
    assert places(open_stack(path, Selection(position=1))) == [10, 11, 12, 13]
    with pytest.raises(UserError, match="position 2 was asked for; allowed: 0 to 1"):
        open_stack(path, Selection(position=2))


def test_images_of_other_sizes_are_chosen_or_are_thumbnails(tmp_path):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(VALUES[0, 0], photometric="minisblack", metadata={"axes": "ZYX"})
        tif.write(VALUES[1, 0, :, :3], photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(UserError, match="its 2 images differ in size or type; choose one, 0 to 1"):
        open_stack(path)
    assert open_stack(path, Selection(position=1)).shape == (Z, 3, 5)
    path = tmp_path / "thumbnail.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(VALUES[0, 0], photometric="minisblack")
        tif.write(np.zeros((3, 3, 3), np.uint8), photometric="rgb", subfiletype=1)
    stack = open_stack(path)
    assert stack.shape == (Z, 6, 5)
    assert places(stack) == [0, 1, 2, 3]


def test_a_layout_of_bio_formats_has_positions(tmp_path):
    zarr = pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    path = tmp_path / "a.zarr"
    zarr.create_group(path, attributes={"bioformats2raw.layout": 3}, zarr_format=2)
    for position in range(P):
        write_zarr(path / str(position), VALUES[0, position], "ZYX")
    with pytest.raises(UserError, match="2 positions; choose a position"):
        open_stack(path)
    assert places(open_stack(path, Selection(position=1))) == [10, 11, 12, 13]


def test_rules_without_files():
    def numbers(names, lengths, **selected):
        return arrange("f", stacked(names, lengths), Selection(**selected)).tolist()

    assert numbers([PAGES], [3]) == [0, 1, 2]
    assert numbers([PAGES, PAGES], [2, 3]) == [[0, 1, 2], [3, 4, 5]]
    assert numbers([PAGES, DEPTH], [2, 3]) == [[0, 1, 2], [3, 4, 5]]
    assert numbers([POSITION, DEPTH], [2, 3], position=1) == [3, 4, 5]
    assert numbers([DEPTH, CHANNEL, TIME], [2, 2, 3], channel=1) == [[3, 9], [4, 10], [5, 11]]
    assert numbers([DEPTH], [1]) == [0]
    assert line_up("f", stacked([DEPTH, TIME], [2, 3]), Selection()).tolist() == [0, 3, 1, 4, 2, 5]
    for names, lengths, words in (
        ([], [], "a single 2D image"),
        ([TIME], [1], "a single 2D image"),
        (["lifetimes", DEPTH], [4, 3], "4 lifetimes x 3 planes; expected one stack"),
        ([PAGES, PAGES, PAGES], [2, 2, 2], "expected one stack, or a series of stacks"),
    ):
        with pytest.raises(UserError, match=words):
            numbers(names, lengths)


@pytest.mark.parametrize("place", [arrange, line_up])
def test_an_axis_without_places_is_damage(tmp_path, place):
    axes = stacked((TIME, DEPTH), (0, 4))
    with pytest.raises(UserError, match="no planes along time"):
        place(tmp_path / "empty.tif", axes, Selection())
