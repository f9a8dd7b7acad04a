"""Results of a command: whole or absent, the same as TIFF and as OME-Zarr."""

import os
from functools import partial

import numpy as np
import pytest
import tifffile
import yaml

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.series.pipeline import run_frames
from serenet.results.contents import digests
from serenet.results.writer import ResultOptions, ResultWriter

pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")

UM = (0.5, 0.25, 0.125)
SHAPE = (20, 6, 5)
N_FRAMES = 13
FORMATS = pytest.mark.parametrize("format_", ["tif", "zarr"])
ENDINGS = {"tif": ".tif", "zarr": ".ome.zarr"}


@pytest.fixture
def source(tmp_path):
    views = np.random.default_rng(0).random((N_FRAMES, 2, 6, 5), np.float32)
    tifffile.imwrite(tmp_path / "views.tif", views, imagej=True, metadata={"axes": "TZYX"})
    return open_stack(tmp_path / "views.tif")


@pytest.fixture
def write(tmp_path, source):
    """Write the results of the source; `settings` of the run and its options may differ."""

    def call(solve=None, settings=None, hooks=None, draw=None, finish=None, **options):
        writer = ResultWriter(
            ResultOptions(out=tmp_path / "out", **options),
            "made",
            {"gain": 2, "device": "cpu", **(settings or {})},
            **{k: v for k, v in {"draw": draw, "finish": finish}.items() if v},
        )
        stack = open_stack(source.path)
        return writer.write(stack, SHAPE, UM, solve or fill, **(hooks or {}))

    return call


def fill(source, frame, target):
    """Stand in for a network."""
    total = source.read(frame).sum(0)
    for z in range(target.shape[0]):
        target.put(slice(z, z + 1), (z + 1) * total)
    return {"frame": frame, "tiles": 1}


def expected(source, frame):
    return source.read(frame).sum(0) * np.arange(1, 21, dtype=np.float32)[:, None, None]


def settings_of(tmp_path):
    return yaml.safe_load((tmp_path / "out" / "views_made.yaml").read_text())


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@FORMATS
def test_every_format_holds_the_same(write, source, tmp_path, format_):
    result = write(format=format_)
    assert result == tmp_path / "out" / f"views_made{ENDINGS[format_]}"
    assert names(tmp_path / "out") == sorted([result.name, "views_made.png", "views_made.yaml"])
    stack = open_stack(result)
    assert stack.voxel_um == pytest.approx(UM)
    for frame in range(N_FRAMES):
        assert np.array_equal(stack.read(frame), expected(source, frame))
    told = settings_of(tmp_path)
    assert told["voxel_um"] == {"z": 0.5, "y": 0.25, "x": 0.125}
    assert told["volume_shape"] == [N_FRAMES, *SHAPE]
    assert told["input"] == str(source.path)
    assert (told["gain"], told["device"]) == (2, "cpu")


def test_frames_are_told_of_one_by_one_or_joined(write, tmp_path):
    def solve(source, frame, target):
        return {**fill(source, frame, target), "tiles": 2 if frame == 4 else 1}

    write(solve, format="tif", preview=False)
    assert [made["frame"] for made in settings_of(tmp_path)["frames"]] == list(range(N_FRAMES))
    write(solve, format="zarr", preview=False)
    assert settings_of(tmp_path)["frames"] == [
        {"frame": "0-3", "tiles": 1},
        {"frame": 4, "tiles": 2},
        {"frame": f"5-{N_FRAMES - 1}", "tiles": 1},
    ]


@FORMATS
def test_the_picture_is_of_the_first_frame(write, source, format_):
    seen = []

    def draw(picture, title, stack, planes, voxel_um):
        seen.append((title, stack.path, np.stack(list(planes())), voxel_um))
        picture.write_bytes(b"drawn")

    write(format=format_, draw=draw)
    ((title, path, volume, voxel_um),) = seen
    assert (title, path, voxel_um) == ("views_made", source.path, UM)
    assert np.array_equal(volume, expected(source, 0))


@FORMATS
def test_a_picture_of_an_earlier_result_does_not_stay(write, tmp_path, format_):
    write(format=format_)
    assert (tmp_path / "out" / "views_made.png").exists()
    write(format=format_, preview=False, overwrite=True)
    assert not (tmp_path / "out" / "views_made.png").exists()


def test_the_volume_takes_its_name_last(write, tmp_path):
    (tmp_path / "out" / "views_made.yaml").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot write .*views_made\.tif"):
        write(format="tif")
    assert not (tmp_path / "out" / "views_made.tif").exists()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_run_leaves_nothing(write, tmp_path, there):
    if there:
        (tmp_path / "out").mkdir()

    def fails(source, frame, target):
        if frame == 3:
            raise UserError("NaN in it")
        return fill(source, frame, target)

    with pytest.raises(UserError, match="NaN in it"):
        write(fails, format="tif")
    assert (tmp_path / "out").exists() == there
    assert not there or names(tmp_path / "out") == []


def bad_after(n):
    """Frames fail from number n on."""

    def solve(source, frame, target):
        if frame >= n:
            raise UserError("NaN in it")
        return fill(source, frame, target)

    return solve


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (12, "failed: frame 12; the other 12 of 13"),
        (11, "failed: frames 11, 12; the other 11 of 13"),
        (2, "failed: 11 frames: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...; the other 2 of 13"),
    ],
)
def test_failed_frames_are_named_and_made_up_for(write, source, tmp_path, first, told):
    with pytest.raises(UserError) as failure:
        write(bad_after(first), format="zarr", preview=False)
    assert told in str(failure.value)
    assert list(settings_of(tmp_path)["failed_frames"]) == list(range(first, N_FRAMES))
    result = write(format="zarr", preview=False)
    assert np.array_equal(open_stack(result).read(first), expected(source, first))
    assert "failed_frames" not in settings_of(tmp_path)


@pytest.fixture
def interrupted(write):
    """A run that was interrupted in frame 5, on the CPU."""

    def impatient(source, frame, target):
        if frame == 5:
            raise KeyboardInterrupt
        return fill(source, frame, target)

    with pytest.raises(KeyboardInterrupt):
        write(impatient, format="zarr", preview=False)


def test_another_device_goes_on(write, interrupted):
    made = []

    def solve(source, frame, target):
        made.append(frame)
        return fill(source, frame, target)

    write(solve, {"device": "cuda"}, format="zarr", preview=False)
    assert made == list(range(5, N_FRAMES))


def test_other_settings_or_another_input_do_not_go_on(write, interrupted, source):
    with pytest.raises(UserError, match=r"settings \(gain\)"):
        write(settings={"gain": 3}, format="zarr")
    status = source.path.stat()
    os.utime(source.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"settings \(input changed\)"):
        write(format="zarr")
    os.utime(source.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with source.path.open("ab") as file:
        file.write(b"more")
    os.utime(source.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match=r"settings \(input bytes\)"):
        write(format="zarr")


def test_frames_that_nothing_can_lose_are_told(write):
    kept = []
    write(format="tif", preview=False, hooks={"kept": kept.append})
    assert kept == []
    write(format="zarr", preview=False, hooks={"kept": kept.append})
    assert kept == list(range(N_FRAMES))


@FORMATS
def test_what_belongs_to_frames_lies_beside(write, tmp_path, format_):
    made = []

    def solve(source, frame, target):
        made.append(frame)
        return {**fill(source, frame, target), "map": frame}

    def finish(stem, frame, n_frames, record):
        assert (n_frames, len(made)) == (N_FRAMES, N_FRAMES)
        stem.with_name(f"{stem.name}_{frame}.txt").write_text(str(record.pop("map")))

    write(solve, format=format_, finish=finish)
    maps = [f"views_made_{frame}.txt" for frame in range(N_FRAMES)]
    assert [(tmp_path / "out" / name).read_text() for name in maps] == list(
        map(str, range(N_FRAMES))
    )
    assert all("map" not in made for made in settings_of(tmp_path)["frames"])


def test_frames_are_made_elsewhere_if_wanted(write, source, tmp_path):
    asked = []

    def spread(stack, series, frames):
        asked.append(list(frames))
        return run_frames(stack, series, frames, bad_after(4 if len(asked) == 1 else 99))

    refuse = partial(pytest.fail, "made here")
    with pytest.raises(UserError, match="failed: frames 4, 5"):
        write(refuse, format="zarr", preview=False, hooks={"spread": spread})
    result = write(refuse, format="zarr", preview=False, hooks={"spread": spread})
    assert asked == [list(range(N_FRAMES)), list(range(4, N_FRAMES))]
    assert np.array_equal(open_stack(result).read(7), expected(source, 7))


def test_uint16_tells_its_factor(write, source, tmp_path):
    stack = open_stack(write(format="tif", dtype="uint16", preview=False))
    factor = settings_of(tmp_path)["uint16_factor"]
    stored = stack.read(3)
    assert stored.max() <= 65535
    assert np.abs(stored / factor - expected(source, 3)).max() <= 0.51 / factor


@FORMATS
def test_finished_inputs_are_skipped(write, source, tmp_path, format_, capsys):
    other = tmp_path / "other.tif"
    other.write_bytes(source.path.read_bytes())

    def pending(*inputs, **options):
        options = ResultOptions(out=tmp_path / "out", format=format_, **options)
        return ResultWriter(options, "made", {}).pending(list(inputs))

    assert pending(source.path, other) == [source.path, other]
    write(format=format_, preview=False)
    killed = tmp_path / "out" / ".views_made.lock"  # when the result was there already
    killed.touch()
    assert pending(source.path, other) == [other]
    assert not killed.exists()
    assert f"views_made{ENDINGS[format_]} exists: skipped" in capsys.readouterr().err
    assert pending(source.path, overwrite=True) == [source.path]
    with pytest.raises(UserError, match=r"exists: add `overwrite=True`.*another `out`"):
        pending(source.path)


def test_a_store_that_lacks_frames_is_not_finished(write, source, tmp_path):
    with pytest.raises(UserError, match="failed"):
        write(bad_after(3), format="zarr", preview=False)
    options = ResultOptions(out=tmp_path / "out", format="zarr")
    assert ResultWriter(options, "made", {}).pending([source.path]) == [source.path]


def test_uint16_is_refused_for_stores(source, tmp_path):
    for path, format_ in ((source.path, "zarr"), (tmp_path / "a.zarr", None)):
        options = ResultOptions(out=tmp_path / "out", format=format_, dtype="uint16")
        with pytest.raises(UserError, match=r"`dtype=uint16`.*`format=tif`"):
            ResultWriter(options, "made", {}).pending([path])


def test_digests_tell_contents(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"abc")
    b.write_bytes(b"abd")
    told = digests(psf=a, checkpoint=b, psf_shift=None)
    assert told["psf_sha256"].startswith("ba7816bf8f01cfea414140de5dae2223")  # FIPS 180-2
    assert told["checkpoint_sha256"] != told["psf_sha256"]
    assert told["psf_shift_sha256"] is None
