from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, open_stack
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame
from scopekit.settings import read_yaml, write_yaml
from serenet.rectification import series as rectification_series
from serenet.rectification.calibration import calibration_of
from serenet.rectification.files import rectify_files
from serenet.rectification.lattice import rectified_lattice
from serenet.rectification.resampling import rectify_frame
from serenet.rectification.series import rectified_frames
from serenet.views.scan import SCAN_ORDER

from .small_camera import N_NUM, SHAPE

PRESET = LightFieldMicroscope(
    magnification=40,
    numerical_aperture=0.9,
    refractive_index=1.33,
    wavelength_um=0.5,
    microlens_pitch_um=100,
    microlens_focal_length_um=2000,
    n_num=N_NUM,
    depths_um=(0.0,),
)


@pytest.fixture
def files(frames, tmp_path):
    paths = {}
    for name, frame in frames.items():
        paths[name] = tmp_path / f"{name}.tif"
        tifffile.imwrite(paths[name], frame.astype(np.uint16))
    return paths


def test_files(files, tmp_path):
    out = tmp_path / "result" / "views.tif"
    lattice = rectify_files(
        [files["raw"]], out, PRESET, radiometry=files["radiometry"], dark=files["dark"]
    )
    stack = open_stack(out)
    assert stack.shape == (81, lattice.rows, lattice.columns)
    assert stack.steps.z_um is None
    assert (stack.steps.y_um, stack.steps.x_um) == pytest.approx((2.5, 2.5), rel=1e-5)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "views.tif",
        "views_calibration.yaml",
        "views_lattice.png",
    ]
    expected = rectify_frame(
        *(tifffile.imread(files["raw"]), lattice, N_NUM),
        *(tifffile.imread(files[name]) for name in ("radiometry", "dark")),
    )
    np.testing.assert_array_equal(stack.read(), expected)

    again = tmp_path / "again.tif"
    calibration = out.with_name("views_calibration.yaml")
    assert rectify_files([files["raw"]], again, PRESET, calibration=calibration) == lattice
    np.testing.assert_array_equal(open_stack(again).read(), expected)


def test_the_radiometry_frame_is_no_sample(files, frames, tmp_path):
    """Divided by itself it would be uniform views, which look like a result."""
    flat = files["radiometry"]
    copy, stored_otherwise = tmp_path / "copy.tif", tmp_path / "packed.tif"
    copy.write_bytes(flat.read_bytes())
    tifffile.imwrite(stored_otherwise, tifffile.imread(flat), compression="zlib")
    series = tmp_path / "series.tif"
    tifffile.imwrite(series, np.stack([frames["raw"], frames["radiometry"]]).astype(np.uint16))
    out = tmp_path / "views.tif"
    for raw, radiometry in ((flat, flat), (copy, flat), (stored_otherwise, flat), (series, series)):
        with pytest.raises(UserError, match=f"{raw}: the radiometry frame is this very frame"):
            rectify_files([raw], out, PRESET, radiometry=radiometry)
    rectify_files([files["raw"]], out, PRESET, radiometry=flat)
    calibration = out.with_name("views_calibration.yaml")
    with pytest.raises(UserError, match="this very frame"):
        rectify_files([copy], tmp_path / "again.tif", PRESET, calibration=calibration)
    assert not (tmp_path / "again.tif").exists()


def test_swapped_frames_are_told(files, tmp_path, capsys):
    given = {"dark": files["dark"], "overwrite": True}
    out = tmp_path / "views.tif"
    rectify_files([files["raw"]], out, PRESET, radiometry=files["radiometry"], **given)
    assert "swapped" not in capsys.readouterr().err
    rectify_files([files["radiometry"]], out, PRESET, radiometry=files["raw"], **given)
    told = capsys.readouterr().err
    assert "warning: " + str(files["radiometry"]) in told.replace("\n", "")
    assert "are they swapped?" in told


def test_a_scanned_series_from_files_of_any_length(files, frames, tmp_path):
    series = frames["raw"] + 10 * np.arange(9)[:, None, None]
    tifffile.imwrite(tmp_path / "a.tif", series[0].astype(np.uint16))
    tifffile.imwrite(tmp_path / "b.tif", series[1:7].astype(np.uint16))
    with tifffile.TiffWriter(tmp_path / "c.tif") as writer:
        for frame in series[7:].astype(np.uint16):
            writer.write(frame, contiguous=False)
    scanned = PRESET.model_copy(update={"scanning": 3})
    parts = [tmp_path / f"{name}.tif" for name in "abc"]
    out = tmp_path / "views.tif"
    lattice = rectify_files(parts, out, scanned, radiometry=files["radiometry"])
    stack = open_stack(out)
    assert stack.shape == (81, 3 * lattice.rows, 3 * lattice.columns)
    assert stack.steps.y_um == pytest.approx(2.5 / 3, rel=1e-5)
    middle = stack.read()[40]
    levels = [[middle[r::3, c::3].mean() for c in range(3)] for r in range(3)]
    # The light grows with time, and the default order begins below on the left.
    np.testing.assert_array_equal(np.argsort(np.ravel(levels)), SCAN_ORDER)

    rectify_files(
        parts, out, scanned, radiometry=files["radiometry"], scan_order=range(9), overwrite=True
    )
    middle = open_stack(out).read()[40]
    assert middle[0::3, 0::3].mean() < middle[2::3, 2::3].mean()


def test_many_frames_of_an_unscanned_microscope_are_a_time_series(files, frames, tmp_path):
    series = np.stack([frames["raw"], frames["raw"] + 50]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "series.tif", series)
    out = tmp_path / "views.tif"
    lattice = rectify_files([tmp_path / "series.tif"], out, PRESET, radiometry=files["radiometry"])
    stack = open_stack(out)
    assert stack.shape == (2, 81, lattice.rows, lattice.columns)
    assert stack.read(1).mean() > stack.read(0).mean()


def test_without_a_radiometry_frame_the_lattice_is_that_of_the_frame(files, tmp_path):
    expected = rectify_files(
        [files["raw"]], tmp_path / "a.tif", PRESET, radiometry=files["radiometry"]
    )
    with_light = tifffile.imread(files["radiometry"])
    tifffile.imwrite(tmp_path / "bright.tif", with_light)
    found = rectify_files([tmp_path / "bright.tif"], tmp_path / "b.tif", PRESET)
    np.testing.assert_allclose(found.centres(), expected.centres(), atol=0.05)
    content = read_yaml(tmp_path / "b_calibration.yaml")
    assert content["radiometry"] is None
    # What is written serves again, without a flat field.
    again = tmp_path / "again.tif"
    rectify_files([files["raw"]], again, PRESET, calibration=tmp_path / "b_calibration.yaml")
    plain = rectify_frame(tifffile.imread(files["raw"]), found, N_NUM)
    np.testing.assert_array_equal(open_stack(again).read(), plain)


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_rectified_frames_are_only_reordered(tmp_path, ending):
    frame = np.random.default_rng(0).integers(0, 60_000, (4 * N_NUM, 3 * N_NUM), dtype=np.uint16)
    path = tmp_path / f"frame.{ending}"
    if ending == "png":
        Image.fromarray(frame).save(path)
    else:
        tifffile.imwrite(path, frame)
    lattice = rectify_files([path], tmp_path / "views.tif", PRESET, rectified=N_NUM)
    assert (lattice.rows, lattice.columns) == (4, 3)
    expected = frame.reshape(4, N_NUM, 3, N_NUM).transpose(1, 3, 0, 2).reshape(-1, 4, 3)
    np.testing.assert_allclose(open_stack(tmp_path / "views.tif").read(), expected, atol=0.1)


def test_many_pixels_a_lens_are_averaged_to_fewer_views(tmp_path, capsys):
    few = LightFieldMicroscope.model_validate(PRESET.model_dump() | {"n_num": 5, "views": ()})
    frame = np.random.default_rng(0).normal(1000, 100, (8 * 25, 8 * 25)).astype(np.float32)
    tifffile.imwrite(tmp_path / "frame.tif", frame)
    rectify_files([tmp_path / "frame.tif"], tmp_path / "views.tif", few, rectified=25)
    assert "5.0 times more coarsely" in capsys.readouterr().err
    views = open_stack(tmp_path / "views.tif").read()
    assert views.shape == (25, 8, 8)
    assert 10 < views.std() < 35  # 100 / 5 for means over 5 x 5 pixels


def test_calibration_frames_are_averaged(files, frames, tmp_path):
    noisy = np.stack([frames["radiometry"] + 5, frames["radiometry"] - 5]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "two.tif", noisy)
    a = rectify_files([files["raw"]], tmp_path / "a.tif", PRESET, radiometry=tmp_path / "two.tif")
    b = rectify_files([files["raw"]], tmp_path / "b.tif", PRESET, radiometry=files["radiometry"])
    np.testing.assert_allclose(a.centres(), b.centres(), atol=1e-3)


def check_refused(message, raw, out, microscope=PRESET, **options):
    before = set(out.parent.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        rectify_files([raw], out, microscope, **options)
    assert "\n" not in str(caught.value)
    assert set(out.parent.rglob("*")) == before


def test_unfit_input_is_refused(files, tmp_path):
    raw, radiometry, out = files["raw"], files["radiometry"], tmp_path / "views.tif"
    check_refused("dark.tif: its microlenses are not distinct", files["dark"], out)
    check_refused("no whole microlenses of 7 x 7", raw, out, rectified=7)
    check_refused("give either", raw, out, radiometry=radiometry, calibration=tmp_path / "c.yaml")
    check_refused("name ending in .tif", raw, tmp_path / "views.h5", radiometry=radiometry)
    check_refused("no such file", tmp_path / "x.tif", out, radiometry=radiometry)
    check_refused("radiometry.tif is an input", raw, radiometry, radiometry=radiometry)
    check_refused(
        "is an input, which is never replaced",
        raw,
        radiometry,
        radiometry=radiometry,
        overwrite=True,
    )
    check_refused(
        "dark.tif: the radiometry frame shows no micro", raw, out, radiometry=files["dark"]
    )
    other = PRESET.model_copy(update={"n_num": 15})
    check_refused("9.4. pixels a microlens.*n_num: 9", raw, out, other, radiometry=radiometry)
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((90, 90), np.uint16))
    small = tmp_path / "small.tif"
    check_refused("small.tif: frames of 90 x 90 pixels, but", small, out, radiometry=radiometry)
    check_refused("small.tif: frames of 90 x 90", raw, out, radiometry=radiometry, dark=small)
    tifffile.imwrite(tmp_path / "nan.tif", np.full(SHAPE, np.nan, np.float32))
    check_refused("nan.tif: NaN", tmp_path / "nan.tif", out, radiometry=radiometry)
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((200, 220, 3), np.uint8), photometric="rgb")
    check_refused("a colour image", tmp_path / "colour.tif", out, radiometry=radiometry)


def test_unfit_scans_are_refused(files, tmp_path):
    raw, radiometry, out = files["raw"], files["radiometry"], tmp_path / "views.tif"
    thrice, twice = (PRESET.model_copy(update={"scanning": n}) for n in (3, 2))
    check_refused("1 frames; .* multiple of 9 frames", raw, out, thrice, radiometry=radiometry)
    check_refused("give their order, 4 numbers", raw, out, twice, radiometry=radiometry)
    check_refused(
        "scan order 0 1 1 2: .* each of 0 to 3 once",
        *(raw, out, twice),
        radiometry=radiometry,
        scan_order=(0, 1, 1, 2),
    )


def test_unfit_calibrations_are_refused(files, frames, tmp_path):
    raw, out = files["raw"], tmp_path / "views.tif"
    rectify_files([raw], tmp_path / "first.tif", PRESET, radiometry=files["radiometry"])
    good = tmp_path / "first_calibration.yaml"
    content = read_yaml(good)
    bad = tmp_path / "bad.yaml"
    for change, message in (
        ({"radiometry": "gone.tif"}, "gone.tif is missing"),
        ({"lattice": {**content["lattice"], "pitch_y": -1}}, "lattice.pitch_y: Input should be"),
        ({"spacing": 3}, "spacing: Extra inputs"),
    ):
        write_yaml(bad, {**content, **change}, overwrite=True)
        check_refused(message, raw, out, calibration=bad)
    tifffile.imwrite(files["radiometry"], (frames["radiometry"] + 1).astype(np.uint16))
    check_refused("has changed since; calibrate again", raw, out, calibration=good)


def test_recorded_vesicle(reference: Path, tmp_path):
    folder = reference / "data" / "guv"
    microscope = LightFieldMicroscope(
        **read_yaml(Path(__file__).resolve().parents[2] / "src/serenet/samples/guv/guv.yaml")
    )
    out = tmp_path / "views.tif"
    rectify_files(
        [folder / "light_field.tif"],
        out,
        microscope,
        radiometry=folder / "radiometry_frame.tif",
        dark=folder / "dark_frame.tif",
    )
    views = open_stack(out).read()
    assert views.shape == (225, 28, 28)

    # The shell's sides spread along the view's own direction, on the diagonals too: nothing is
    # transposed, and not one axis alone is mirrored.
    def spread(u, v, y_weight, x_weight):
        view = np.clip(views[(7 + u) * 15 + 7 + v] - 150, 0, None)
        at = y_weight * np.arange(28)[:, None] + x_weight * np.arange(28)
        mean = (view * at).sum() / view.sum()
        return (view * (at - mean) ** 2).sum() / view.sum()

    assert spread(6, 0, 1, 0) > 1.2 * spread(6, 0, 0, 1)
    assert spread(0, 6, 0, 1) > 1.2 * spread(0, 6, 1, 0)
    assert spread(4, 4, 1, 1) > 1.2 * spread(4, 4, 1, -1)
    assert spread(4, -4, 1, -1) > 1.2 * spread(4, -4, 1, 1)


@pytest.fixture
def series(files, frames, tmp_path):
    """Four exposures of different brightness, in two files."""
    exposed = (frames["raw"] + 40 * np.arange(4)[:, None, None]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "first.tif", exposed[:1], photometric="minisblack")
    tifffile.imwrite(tmp_path / "rest.tif", exposed[1:], photometric="minisblack")
    return [tmp_path / "first.tif", tmp_path / "rest.tif"]


@pytest.fixture
def expected(series, files, tmp_path):
    out = tmp_path / "tiff" / "views.tif"
    rectify_files(series, out, PRESET, radiometry=files["radiometry"], dark=files["dark"])
    stack = open_stack(out)
    return np.stack([stack.read(t) for t in range(4)])


def volumes(path):
    stack = open_stack(path)
    return np.stack([stack.read(t) for t in range(stack.n_frames)])


def test_a_store_is_made_time_point_by_time_point(
    series, expected, files, tmp_path, monkeypatch, contents
):
    pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    out = tmp_path / "out" / "views.ome.zarr"
    kwargs = {"radiometry": files["radiometry"], "dark": files["dark"]}
    whole, done = rectification_series._Rectifier.__call__, []

    def interrupted(self, stack, time_point, target):
        if time_point == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(time_point)
        return whole(self, stack, time_point, target)

    monkeypatch.setattr(rectification_series._Rectifier, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rectify_files(series, out, PRESET, **kwargs)
    assert not out.exists()
    done.append(None)
    rectify_files(series, out, PRESET, **kwargs)
    assert done == [0, 1, None, 2, 3]
    assert np.array_equal(volumes(out), expected)
    assert open_stack(out).steps.y_um == pytest.approx(2.5, rel=1e-5)
    names = [name for name in contents(out.parent) if "/" not in name]
    assert names == ["views.ome.zarr", "views_calibration.yaml", "views_lattice.png"]
    with pytest.raises(UserError, match="exists"):
        rectify_files(series, out, PRESET, **kwargs)
    with pytest.raises(UserError, match=r"give a name in \.ome\.zarr"):
        rectify_files(series, tmp_path / "x.tif", PRESET, dask="tcp://x:1", **kwargs)


def test_a_store_made_on_a_cluster_of_which_a_worker_is_killed(
    series, expected, files, tmp_path, cluster
):
    pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    out, died = tmp_path / "out" / "views.ome.zarr", tmp_path / "died"
    cluster.spoil("serenet.rectification.series", "_Rectifier", "__call__", died)
    rectify_files(
        *(series, out, PRESET),
        radiometry=files["radiometry"],
        dark=files["dark"],
        dask=cluster.address,
    )
    assert died.exists()
    assert np.array_equal(volumes(out), expected)


def test_time_points_of_changed_files_are_others(series, files):
    def source():
        lattice = rectified_lattice((9, 9), 9)
        setting = calibration_of(lattice, None, files["dark"])
        return rectified_frames(series, PRESET, setting, (0,), WHOLE_FILE)

    before = source()
    assert source() == before
    for path in (series[1], files["dark"]):
        tifffile.imwrite(path, tifffile.imread(path)[..., :-1], photometric="minisblack")
        assert source() != before
        before = source()


def test_a_store_goes_on_only_with_what_is_its_own(series, files, tmp_path, monkeypatch):
    pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    out, kwargs = tmp_path / "views.ome.zarr", {"radiometry": files["radiometry"]}
    whole = rectification_series._Rectifier.__call__

    def interrupted(self, stack, time_point, target):
        if time_point == 2:
            raise KeyboardInterrupt
        return whole(self, stack, time_point, target)

    with monkeypatch.context() as patch:
        patch.setattr(rectification_series._Rectifier, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rectify_files(series, out, PRESET, **kwargs)
    other = PRESET.model_copy(update={"magnification": 20.0})
    with pytest.raises(UserError, match="voxel um"):
        rectify_files(series, out, other, **kwargs)
    rectify_files(series, out, PRESET, **kwargs)
    assert len(volumes(out)) == 4


def test_a_store_of_raw_frames_is_never_replaced(series, files, tmp_path):
    pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    raw = tmp_path / "raw.ome.zarr"
    frame = tifffile.imread(files["raw"]).astype(np.float32)
    create_store(raw, (1, *frame.shape), (1.0, 1.0, 1.0), "raw")
    write_frame(raw, 0, frame[None])
    declare_whole(raw, [])
    with pytest.raises(UserError, match="never replaced"):
        rectify_files([raw], raw, PRESET, radiometry=files["radiometry"], overwrite=True)
    assert np.array_equal(open_stack(raw).read()[0], frame)
