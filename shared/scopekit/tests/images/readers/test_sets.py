"""Recordings in several TIFFs: each file stands for its own part, once."""

import json
import warnings
from struct import pack, pack_into

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_frames, open_stack
from scopekit.inputs import files_inside

SIDE = 12


def plane(number):
    return np.full((SIDE, SIDE), number, np.uint16)


def numbers(stack):
    return [[int(page[0, 0]) for page in stack.read(t)] for t in range(stack.n_frames)]


def micromanager(path, planes, places, sizes, *, tidy=True):
    """Write a file as Micro-Manager does; places are (channel, plane, time, position)."""
    axes = ("Channels", "Slices", "Frames", "Positions")
    summary = {"MicroManagerVersion": "2.0", "Prefix": "a", "TimeFirst": True, "SlicesFirst": True}
    text = json.dumps(summary | dict(zip(axes, sizes, strict=True))).encode()
    out = bytearray(b"II*\0" + pack("<I", 40 + len(text)) + bytes(24))
    out += pack("<II", 2355492, len(text)) + text
    page_text = b'{"PixelSizeUm":0.2}\0'
    offsets, link = [], 4
    for values in planes:
        start = len(out)
        offsets.append(start)
        pack_into("<I", out, link, start)
        height, width = values.shape
        data, ratio = start + 162, start + 162 + values.nbytes
        tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 16), (259, 3, 1, 1)]
        tags += [(262, 3, 1, 1), (273, 4, 1, data), (277, 3, 1, 1), (278, 3, 1, height)]
        tags += [(279, 4, 1, values.nbytes), (282, 5, 1, ratio), (283, 5, 1, ratio)]
        tags += [(296, 3, 1, 3), (51123, 2, len(page_text), ratio + 8)]
        out += pack("<H", len(tags)) + b"".join(pack("<HHII", *tag) for tag in tags)
        link = len(out)
        out += bytes(4) + values.tobytes() + pack("<II", 50000, 1) + page_text
    index = len(out)
    out += pack("<II", 3453623, len(planes))
    out += b"".join(pack("<5I", *place, o) for place, o in zip(places, offsets, strict=True))
    display = len(out)
    out += pack("<II", 347834724 if tidy else 1, 2) + b"[]"
    comments = len(out)
    out += pack("<II", 84720485, 2) + b"{}"
    header = (54773648, index, 483765892, display, 99384722, comments)
    pack_into("<IIIIII", out, 8, *header)
    path.write_bytes(out)


def test_the_other_position_is_no_time_point(tmp_path):
    for r in (0, 1):
        places = [(0, 0, t, r) for t in range(3)]
        planes = [plane(10 * r + t) for t in range(3)]
        micromanager(tmp_path / f"a_MMStack_Pos{r}.ome.tif", planes, places, (1, 1, 3, 2))
    for r in (0, 1):
        frames = open_frames(tmp_path / f"a_MMStack_Pos{r}.ome.tif")
        assert numbers(frames) == [[10 * r], [10 * r + 1], [10 * r + 2]]
    assert frames.steps.x_um == 0.2


def test_positions_in_one_file_are_chosen(tmp_path):
    path = tmp_path / "a_MMStack.ome.tif"
    places = [(0, z, 0, r) for r in range(2) for z in range(3)]
    micromanager(path, [plane(10 * p[3] + p[1]) for p in places], places, (1, 3, 1, 2))
    with pytest.raises(UserError, match="2 positions x 3 planes; choose a position"):
        open_stack(path)
    assert numbers(open_stack(path, Selection(position=1))) == [[10, 11, 12]]


def test_odd_metadata_are_no_damage(tmp_path):
    path = tmp_path / "a_MMStack_Pos0.ome.tif"
    places = [(0, z, 0, 0) for z in range(3)]
    micromanager(path, [plane(z) for z in range(3)], places, (1, 3, 1, 1), tidy=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(open_stack(path)) == [[0, 1, 2]]
    path = tmp_path / "tag.tif"
    plain = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, np.stack([plane(1), plane(2)]), **plain)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags["Software"].offset
    content = bytearray(path.read_bytes())
    pack_into("<H", content, at + 2, 99)  # a type of field that is to be skipped
    path.write_bytes(content)
    assert numbers(open_stack(path)) == [[1, 2]]


def test_a_recording_that_was_stopped_gives_the_time_points_that_are_whole(tmp_path):
    path = tmp_path / "a_MMStack_Pos0.ome.tif"
    places = [(0, z, t, 0) for t in range(3) for z in range(4)]
    planes = [plane(10 * p[2] + p[1]) for p in places]
    micromanager(path, planes[:10], places[:10], (1, 4, 3, 1))
    with pytest.warns(UserWarning, match="10 of its 12 images are in it: .*first 2 of 3 time"):
        stack = open_stack(path)
    assert numbers(stack) == [[0, 1, 2, 3], [10, 11, 12, 13]]
    for kept in (0.3, 0.9):
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
        with pytest.raises(UserError, match="damaged or cut short"):
            open_stack(path)


def test_an_index_beyond_memory_is_damage(tmp_path):
    path = tmp_path / "a_MMStack_Pos0.ome.tif"
    places = [(0, 0, 0, 0), (0, 1, 0, 0), (0, 2, 2**31, 0)]
    micromanager(path, [plane(z) for z in range(3)], places, (1, 3, 1, 1))
    with pytest.raises(UserError, match="damaged or cut short"):
        open_stack(path)


def test_a_stack_that_was_stopped_is_told_so(tmp_path):
    ome_set(tmp_path, ["a.ome.tif"], (3, 1), [[(0, 0), (1, 0)]])
    with pytest.raises(UserError, match="2 of its 3 images are in it: was the recording stopped"):
        open_stack(tmp_path / "a.ome.tif")


IDS = [f"urn:uuid:00000000-0000-0000-0000-00000000000{n}" for n in range(4)]


def ome_set(folder, files, size, places):
    """Write OME-TIFFs; ``places`` are the (z, t) of the planes of each file, in order."""
    described = "".join(
        f'<TiffData FirstZ="{z}" FirstC="0" FirstT="{t}" IFD="{n}" PlaneCount="1">'
        f'<UUID FileName="{files[f]}">{IDS[f]}</UUID></TiffData>'
        for f, inside in enumerate(places)
        for n, (z, t) in enumerate(inside)
    )
    for f, inside in enumerate(places):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{IDS[f]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZTC" '
            f'Type="uint16" SizeX="{SIDE}" SizeY="{SIDE}" SizeZ="{size[0]}" SizeC="1" '
            f'SizeT="{size[1]}" PhysicalSizeX="0.2" PhysicalSizeY="0.2" PhysicalSizeZ="0.8">'
            f"{described}</Pixels></Image></OME>"
        )
        values = np.stack([plane(10 * t + z) for z, t in inside])
        plain = {"photometric": "minisblack", "metadata": None}
        tifffile.imwrite(folder / files[f], values, description=xml.encode(), **plain)


def inside(folder):
    return [path.name for path in files_inside(folder, (".tif",), lambda *_: False)]


def test_a_time_point_a_file(tmp_path):
    names = ["p0.ome.tif", "p1.ome.tif"]
    ome_set(tmp_path, names, (3, 2), [[(z, t) for z in range(3)] for t in range(2)])
    for t, name in enumerate(names):
        stack = open_stack(tmp_path / name)
        assert numbers(stack) == [[10 * t, 10 * t + 1, 10 * t + 2]]
        assert stack.voxel_um == (0.8, 0.2, 0.2)
    assert inside(tmp_path) == names
    (tmp_path / names[1]).unlink()
    assert numbers(open_stack(tmp_path / names[0])) == [[0, 1, 2]]


def test_stacks_spread_over_files_are_one_recording_and_counted_once(tmp_path):
    names = ["p0.ome.tif", "p1.ome.tif", "p2.ome.tif"]
    ome_set(tmp_path, names, (3, 2), [[(z, t) for t in range(2)] for z in range(3)])
    for name in names:
        assert numbers(open_stack(tmp_path / name)) == [[0, 1, 2], [10, 11, 12]]
    window = open_stack(tmp_path / names[2]).read_window([2, 0], slice(0, 2), slice(0, 3), 1)
    assert window.shape == (2, 2, 3)
    assert window[:, 0, 0].tolist() == [12, 10]
    assert inside(tmp_path) == ["p0.ome.tif"]
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match=r"some are missing \(2 of 6 images\): put them into one"):
        open_stack(tmp_path / names[0])
