"""Which files are view stacks, and which of their pages are views."""

import numpy as np
import pytest
import tifffile

from optics import presets
from scopekit.errors import UserError
from scopekit.images.files import Selection
from serenet.views.files import find_stacks, open_scanned, open_views

MICROSCOPE = presets["nnum13"]
VIEWS = np.random.default_rng(0).integers(0, 99, (49, 9, 6)).astype(np.uint16)


def write(path, views, axes=None, **how):
    metadata = {"axes": axes} if axes else {}
    tifffile.imwrite(path, views, imagej=True, metadata=metadata, **how)
    return path


def test_channels_as_many_as_the_microscope_has_views_are_these(tmp_path):
    # What tifffile makes of an array without a word about its axes.
    path = write(tmp_path / "views.tif", VIEWS)
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == "CYX"
    stack, pages = open_views(path, MICROSCOPE)
    assert pages == list(range(49))
    assert np.array_equal(stack.read(), VIEWS)


def test_other_channels_are_not_taken_for_views(tmp_path):
    path = write(tmp_path / "views.tif", np.stack([VIEWS, VIEWS + 1], 1), "ZCYX")
    with pytest.raises(UserError, match="49 planes x 2 channels; choose a channel"):
        open_views(path, MICROSCOPE)
    stack, _ = open_views(path, MICROSCOPE, Selection(channel=1))
    assert np.array_equal(stack.read(), VIEWS + 1)
    for axes, remedy in (("CYX", "choose one, 0 to 4"), ("TYX", "say `frames_are=planes`")):
        path = write(tmp_path / "few.tif", VIEWS[:5], axes)
        with pytest.raises(UserError, match=remedy):
            open_scanned(path)
        assert open_scanned(path, Selection(frames_are="planes")).shape == (5, 9, 6)


def test_a_movie_is_no_view_stack_even_if_it_has_as_many_images(tmp_path):
    path = write(tmp_path / "raw.tif", VIEWS, "TYX")
    with pytest.raises(UserError, match="49 time points of one plane each, which is no stack"):
        open_views(path, MICROSCOPE)


def test_a_folder_has_a_channel_too(tmp_path):
    for name in ("t0.tif", "t1.btf"):
        write(tmp_path / name, np.stack([VIEWS, VIEWS + 1], 1), "ZCYX")
    assert len(find_stacks([tmp_path])) == 2
    stack, _ = open_views(tmp_path, MICROSCOPE, Selection(channel=1))
    assert stack.shape == (2, 49, 9, 6)
    assert np.array_equal(stack.read(1), VIEWS + 1)
