"""ScanImage: channels, planes, volumes and lengths come from the header."""

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_frames, open_stack

FIELD = "SI.hRoiManager.imagingFovUm = [-64 -32;64 -32;64 32;-64 32]"


def write(path, n_pages, *lines, where="software"):
    """Write pages that hold their number."""
    pages = np.zeros((n_pages, 8, 16), np.int16) + np.arange(n_pages, dtype=np.int16)[:, None, None]
    text = "\n".join(("SI.VERSION_MAJOR = 2023", *lines)) if where == "software" else lines[0]
    arguments = {where: text, "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(path, pages, bigtiff=True, **arguments)
    return path


def channels(*numbers):
    return f"SI.hChannels.channelSave = [{';'.join(map(str, numbers))}]"


def pages(stack):
    return [[int(page[0, 0]) for page in stack.read(t)] for t in range(stack.n_frames)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tif"


def test_channels_alternate(path):
    write(path, 12, channels(1, 2), "SI.hStackManager.numSlices = 6")
    with pytest.raises(UserError, match="6 planes x 2 channels; choose a channel"):
        open_stack(path)
    assert pages(open_stack(path, Selection(channel=1))) == [[1, 3, 5, 7, 9, 11]]


def test_a_movie_is_no_stack(path):
    write(path, 6, channels(1, 3), "SI.hStackManager.framesPerSlice = Inf")
    with pytest.raises(UserError, match="3 time points of one plane each"):
        open_stack(path, Selection(channel=0))
    assert pages(open_frames(path, Selection(channel=1))) == [[1], [3], [5]]


def test_a_stack_that_is_switched_off_is_a_movie(path):
    numbers = ("SI.hStackManager.numSlices = 3", "SI.hStackManager.framesPerSlice = 100")
    write(path, 6, channels(1), "SI.hStackManager.enable = false", *numbers)
    assert open_frames(path).n_frames == 6
    with pytest.raises(UserError, match="6 time points of one plane each"):
        open_stack(path)


def test_volumes_are_time_points_without_flyback(path):
    fast = ("SI.hFastZ.enable = true", "SI.hStackManager.numSlices = 3")
    write(path, 12, channels(1), *fast)
    assert pages(open_stack(path)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    write(path, 16, channels(1, 2), *fast, "SI.hFastZ.numFramesPerVolume = 4")
    assert pages(open_stack(path, Selection(channel=1))) == [[1, 3, 5], [9, 11, 13]]


def test_frames_of_a_plane_are_time_points(path):
    numbers = ("SI.hStackManager.numSlices = 3", "SI.hStackManager.framesPerSlice = 4")
    write(path, 12, channels(1), *numbers)
    assert pages(open_stack(path)) == [[n, n + 4, n + 8] for n in range(4)]
    write(path, 6, channels(1), *numbers, "SI.hScan2D.logAverageFactor = 2")
    assert pages(open_stack(path)) == [[0, 2, 4], [1, 3, 5]]
    write(path, 12, channels(1), "SI.hStackManager.framesPerSlice = 4")
    assert pages(open_stack(path)) == [[n, n + 4, n + 8] for n in range(4)]


@pytest.mark.parametrize(
    "header",
    [
        "state.configName='a'\rstate.acq.numberOfChannelsSave=2\rstate.acq.numberOfZSlices=3\r"
        "state.acq.zStepSize=1.5\r",
        "Frame Number = 1\nscanimage.SI.hChannels.channelSave = [1;2]\n"
        "scanimage.SI.hStackManager.numSlices = 3\n"
        "scanimage.SI.hStackManager.stackZStepSize = -1.5",
        "scanimage.SI4.channelsSave = [1;4]\nscanimage.SI4.stackNumSlices = 3\n"
        "scanimage.SI4.stackZStepSize = 1.5\nscanimage.SI4.VERSION_MAJOR = 4.2",
    ],
)
def test_older_versions(path, header):
    write(path, 6, header, where="description")
    stack = open_stack(path, Selection(channel=0))
    assert pages(stack) == [[0, 2, 4]]
    assert (stack.steps.z_um, stack.steps.x_um) == (1.5, None)


def test_lengths(path):
    write(path, 3, channels(1), "SI.hStackManager.stackZStepSize = -2", FIELD)
    steps = open_stack(path).steps
    assert (steps.z_um, steps.y_um, steps.x_um) == (2, 8, 8)
    assert steps.source == "ScanImage header"
    number = "SI.hStackManager.numSlices = 3"
    write(path, 3, channels(1), number, "SI.hStackManager.stackZStepSize = 1e-9")
    with pytest.raises(UserError, match="its ScanImage header give a step of 1e-09 um along z"):
        open_stack(path)


def test_what_the_header_does_not_tell_is_unnamed(path):
    write(path, 6, channels(1, 2))
    assert pages(open_stack(path, Selection(channel=1))) == [[1, 3, 5]]


def test_an_interrupted_volume_is_told(path):
    write(path, 7, channels(1), "SI.hFastZ.enable = true", "SI.hStackManager.numSlices = 3")
    with pytest.raises(UserError, match=r"7 pages, but its ScanImage header tells .* 3 planes"):
        open_stack(path)


def test_sides_without_counts_of_bytes_are_damage(path):
    write(path, 6, channels(1, 2), "SI.hStackManager.numSlices = 3")
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages[0].aspage().tags
        rows, counts = tags["ImageLength"], tags["StripByteCounts"]
    content = bytearray(path.read_bytes())
    content[rows.valueoffset : rows.valueoffset + 4] = (2**28).to_bytes(4, "little")
    content[counts.offset : counts.offset + 2] = (65000).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        open_stack(path, Selection(channel=0)).read()
