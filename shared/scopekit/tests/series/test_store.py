"""A series made frame by frame: whole, resumable, and not stopped by a bad frame."""

import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.images.files import open_stack, write_volume
from scopekit.images.folder import open_folder_series
from scopekit.series.pipeline import run_frames, scratch_volume
from scopekit.series.store import begin_series, is_whole

pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")

SHAPE = (4, 20, 12, 10)
STAMP = {"input": "views.tif", "weights": "a"}
UM = (0.2, 0.1, 0.1)


@pytest.fixture
def views(tmp_path):
    path = tmp_path / "views.tif"
    write_volume(
        path, np.random.default_rng(0).random((4, 3, 12, 10), np.float32), UM, overwrite=False
    )
    return open_stack(path)


def solve(source, frame, target):
    """Stand in for a network."""
    pages = source.read(frame)
    for plane in range(target.shape[0]):
        target.put(slice(plane, plane + 1), pages.sum(0) * plane)
    return {"frame": frame, "peak": float(target.take(slice(None)).max())}


def expected(views, frame):
    return views.read(frame).sum(0) * np.arange(20, dtype=np.float32)[:, None, None]


def begin(tmp_path, overwrite=False, **stamp):
    return begin_series(
        tmp_path / "out.ome.zarr", SHAPE, UM, {**STAMP, **stamp}, overwrite=overwrite
    )


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def assert_equal(path, views, frames=range(4)):
    for frame in frames:
        assert np.array_equal(open_stack(path).read(frame), expected(views, frame))


def test_a_series_lands_whole(tmp_path, views):
    series = begin(tmp_path)
    assert not series.result.exists()
    assert run_frames(views, series, range(4), solve) == {}
    assert [record["frame"] for record in series.records().values()] == [0, 1, 2, 3]
    series.land([])
    assert is_whole(series.result)
    assert names(tmp_path) == ["out.ome.zarr", "views.tif"]
    assert open_stack(series.result).voxel_um == pytest.approx(UM)
    assert_equal(series.result, views)


def test_frames_are_read_ahead_and_written_behind(tmp_path, views):
    main = threading.get_ident()
    read_by, written_by = [], []

    class Watched(type(views)):
        def read(self, frame=0):
            read_by.append((frame, threading.get_ident() == main))
            return super().read(frame)

    watched = Watched(**{field.name: getattr(views, field.name) for field in fields(views)})
    series = begin(tmp_path)
    keep = type(series).keep

    class Slow(type(series)):
        def keep(self, frame, volume, record):
            written_by.append(threading.get_ident() == main)
            keep(self, frame, volume, record)

    run_frames(watched, Slow(series.result, series.store), range(4), solve)
    assert read_by == [(0, True), (1, False), (2, False), (3, False)]
    assert written_by == [False] * 4
    series.land([])
    assert_equal(series.result, views)


def test_a_bad_frame_does_not_stop_the_rest_and_is_made_up_for(tmp_path, views):
    def fails(source, frame, target):
        if frame == 2:
            raise UserError("NaN in it")
        return solve(source, frame, target)

    series = begin(tmp_path)
    assert run_frames(views, series, range(4), fails) == {2: "NaN in it"}
    series.land([2])
    assert not is_whole(series.result)
    assert_equal(series.result, views, (0, 1, 3))
    with pytest.raises(UserError, match="frame 2 is missing"):
        open_stack(series.result).read(2)

    with pytest.raises(UserError, match="other settings"):
        begin(tmp_path, weights="b")
    again = begin(tmp_path)
    missing = sorted(set(range(4)) - set(again.records()))
    assert missing == [2]
    run_frames(views, again, missing, solve)
    again.land([])
    assert is_whole(again.result)
    assert_equal(again.result, views)
    assert names(tmp_path) == ["out.ome.zarr", "views.tif"]


def test_an_existing_series_is_replaced_only_when_asked_and_only_by_a_whole_one(tmp_path, views):
    series = begin(tmp_path)
    run_frames(views, series, range(4), solve)
    series.land([])
    with pytest.raises(UserError, match="add `overwrite=True`"):
        begin(tmp_path)
    anew = begin(tmp_path, overwrite=True, weights="b")
    run_frames(views, anew, [0], solve)
    assert_equal(anew.result, views)
    # Interrupted, and asked again.
    anew = begin(tmp_path, overwrite=True, weights="b")
    assert list(anew.records()) == [0]
    run_frames(views, anew, [1, 2, 3], solve)
    anew.land([])
    assert names(tmp_path) == ["out.ome.zarr", "views.tif"]
    assert_equal(anew.result, views)


def test_finished_frames_of_other_settings_go_only_when_asked(tmp_path, views):
    begin(tmp_path, weights="c")  # nothing is finished: nothing is lost
    run_frames(views, begin(tmp_path), [0, 1], solve)
    with pytest.raises(
        UserError, match=r"2 finished frames of other input or settings \(weights\)"
    ):
        begin(tmp_path, weights="b")
    assert list(begin(tmp_path).records()) == [0, 1]
    other = begin(tmp_path, weights="b", overwrite=True)
    assert other.records() == {}
    other.discard()
    assert names(tmp_path) == ["views.tif"]


# Dies without a word while the chunks of frame 2 are half written.
KILLED = """
import os, sys
sys.path[:0] = sys.argv[1:2]
from pathlib import Path
import test_store as t
from scopekit.images import zarr_writer as zarr_stores
from scopekit.series.pipeline import run_frames
from scopekit.images.files import open_stack
folder = Path(sys.argv[2])
views = open_stack(folder / "views.tif")
series = t.begin(folder)
import zarr
write = zarr.Array.__setitem__
count = 0
def deadly(array, where, values):
    global count
    count += 1
    write(array, where, values)
    if count == 5:
        os.kill(os.getpid(), 9)
zarr.Array.__setitem__ = deadly
run_frames(views, series, range(4), t.solve)
"""


def test_a_killed_run_goes_on_with_the_frame_that_was_being_written(tmp_path, views):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)], timeout=60
    )
    assert killed.returncode == -9
    series = begin(tmp_path)
    assert not series.result.exists()
    assert list(series.records()) == [0, 1]
    run_frames(views, series, [2, 3], solve)
    series.land([])
    assert_equal(series.result, views)


def test_a_full_disk_ends_the_run(tmp_path, views, full_disk):
    series = begin(tmp_path)
    with full_disk(4000), pytest.raises(UserError, match="cannot write"):
        run_frames(views, series, range(4), solve)
    assert not series.result.exists()


def test_volumes_of_another_shape_do_not_go_on(tmp_path, views):
    run_frames(views, begin(tmp_path), [0, 1], solve)
    with pytest.raises(UserError, match=r"settings \(shape\)"):
        begin_series(tmp_path / "out.ome.zarr", (4, 20, 12, 11), UM, STAMP, overwrite=False)


def test_the_settings_stay_while_frames_are_missing(tmp_path, views):
    series = begin(tmp_path)
    run_frames(views, series, [0, 2], solve)
    series.land([1, 3])
    assert list(series.records()) == [0, 2]
    again = begin(tmp_path)
    assert again.store == again.result
    run_frames(views, again, [1, 3], solve)
    again.land([])
    assert names(tmp_path) == ["out.ome.zarr", "views.tif"]


def test_scratch_volumes_take_their_space_first(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "scopekit.series.pipeline.require_space", lambda *request: asked.append(request)
    )
    with scratch_volume(tmp_path, (3, 4, 5)) as target:
        assert target.shape == (3, 4, 5)
    assert asked == [(tmp_path, 4 * 3 * 4 * 5)]


def test_scratch_volumes_leave_no_file(tmp_path):
    with scratch_volume(tmp_path, (3, 4, 5)) as target:
        target.put(slice(None), 7)
        assert names(tmp_path) == []
    assert names(tmp_path) == []


def test_a_folder_is_a_series_in_the_order_of_the_numbers(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 6, 5), np.float32)
    files = [tmp_path / f"t{n}.tif" for n in (10, 2, 1)]
    for file, volume in zip(files, values, strict=True):
        write_volume(file, volume, UM, overwrite=False)
    files.append(tmp_path / "t0.tif")
    files[-1].write_text("broken")
    write_volume(tmp_path / "t3.tif", values[0, 1:], UM, overwrite=False)
    series = open_folder_series(tmp_path, [*files, tmp_path / "t3.tif"])
    assert series.shape == (5, 4, 6, 5)
    assert [series.frame_name(n) for n in range(5)] == [f"t{n}.tif" for n in (0, 1, 2, 3, 10)]
    assert np.array_equal(series.read(4), values[0])
    assert np.array_equal(series.read_window([1], slice(2), slice(3), 1), values[2, 1:2, :2, :3])
    for frame, message in ((0, "not a TIFF"), (3, "this series has")):
        with pytest.raises(UserError, match=message):
            series.read(frame)
