import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from optics import LightFieldPreset
from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.settings import read_yaml, write_yaml
from serenet.rectification.lattice import find_lattice
from serenet.rectification.resampling import (
    SCAN_ORDER,
    flat_field,
    interlace,
    rectify,
    rectify_files,
)

N_NUM = 9
PITCH = 9.4
TURN = math.radians(1.1)
STEPS = PITCH * np.array([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])
START = np.array([7.3, 8.1])
SHAPE = (200, 220)
PRESET = LightFieldPreset(
    magnification=40,
    numerical_aperture=0.9,
    refractive_index=1.33,
    wavelength_um=0.5,
    microlens_pitch_um=100,
    microlens_focal_length_um=2000,
    n_num=N_NUM,
    depths_um=(0.0,),
)


def vignetting(i, j):
    return np.exp(-(((i - 9) / 22) ** 2) - ((j - 11) / 24) ** 2)


def uniform(i, j, u, v):
    """Light at (u, v) under lens (i, j), in pitches from its centre: a blurred pupil."""
    return 1 / (1 + np.exp((np.hypot(u, v) - 0.42) / 0.05)) + 0.03


def sample(i, j, u, v):
    """As `uniform`, times a smooth object seen shifted from view to view."""
    return uniform(i, j, u, v) * (1.5 + np.sin(0.5 * i + 2 * u) * np.cos(0.4 * j - 3 * v))


def expose(light, generator=None):
    """A camera frame: `light` averaged over each pixel, vignetted, on a dark level of 100."""
    frame = np.zeros(SHAPE)
    parts = np.linspace(-0.375, 0.375, 4)
    for dy in parts:
        for dx in parts:
            points = np.stack(
                np.meshgrid(np.arange(SHAPE[0]) + dy, np.arange(SHAPE[1]) + dx, indexing="ij"), -1
            )
            i, j = np.moveaxis((points - START) @ np.linalg.inv(STEPS), -1, 0)
            lens = np.round(i), np.round(j)
            frame += vignetting(*lens) * light(*lens, i - lens[0], j - lens[1])
    counts = 2000 * frame / len(parts) ** 2
    return 100 + (counts if generator is None else generator.poisson(counts))


def expected_views(light, lattice):
    """What the views should hold, averaged over the samples' width."""
    first = np.round(
        (np.array([lattice.offset_y, lattice.offset_x]) - START) @ np.linalg.inv(STEPS)
    )
    i, j = np.arange(lattice.rows)[:, None] + first[0], np.arange(lattice.columns) + first[1]
    shift = (np.arange(N_NUM) - N_NUM // 2) / N_NUM
    u, v = shift[:, None, None, None], shift[:, None, None]
    parts = np.linspace(-0.375, 0.375, 4) / N_NUM
    views = sum(light(i, j, u + du, v + dv) for du in parts for dv in parts) / len(parts) ** 2
    views = np.broadcast_to(views, (N_NUM, N_NUM, lattice.rows, lattice.columns))
    return 2000 * views.reshape(N_NUM**2, lattice.rows, lattice.columns), vignetting(i, j)


@pytest.fixture(scope="module")
def frames():
    return {"raw": expose(sample), "radiometry": expose(uniform), "dark": np.full(SHAPE, 100.0)}


@pytest.fixture(scope="module")
def lattice(frames):
    return find_lattice(frames["radiometry"])


def relative_error(result, truth):
    return np.sqrt(np.mean((result - truth) ** 2)) / truth.std()


def test_views_of_a_turned_lattice_are_recovered(frames, lattice):
    truth, shade = expected_views(sample, lattice)
    views = rectify(frames["raw"], lattice, N_NUM, dark=frames["dark"])
    assert views.dtype == np.float32
    assert views.shape == (81, lattice.rows, lattice.columns)
    assert relative_error(views, truth * shade) < 0.03
    # Rows under a lens are rows of the camera: the transposed views are something else.
    swapped = views.reshape(9, 9, *views.shape[1:]).swapaxes(0, 1).reshape(views.shape)
    assert relative_error(swapped, truth * shade) > 0.3


def test_flat_field_removes_vignetting_but_not_the_views_own_brightness(frames, lattice):
    truth, shade = expected_views(sample, lattice)
    views = rectify(frames["raw"], lattice, N_NUM, frames["radiometry"], frames["dark"])
    assert shade.min() < 0.75
    assert relative_error(views, truth * shade.mean()) < 0.02

    flat = flat_field(frames["radiometry"], lattice, N_NUM, frames["dark"])
    np.testing.assert_allclose(flat.mean(axis=(1, 2)), 1, rtol=1e-4)
    bright = rectify(frames["radiometry"], lattice, N_NUM, frames["radiometry"], frames["dark"])
    levels = bright.mean(axis=(1, 2)).reshape(9, 9)
    assert levels[0, 0] < 0.1 * levels[4, 4]  # dark corners stay dark
    assert np.ptp(bright / levels.reshape(-1, 1, 1)) < 1e-4


def test_flat_field_does_not_amplify_what_was_not_lit(lattice):
    light = np.zeros(SHAPE)
    light[100:] = 1000.0  # half of the field is dark
    flat = flat_field(light, lattice, N_NUM)
    assert flat.min() == pytest.approx(0.1)
    np.testing.assert_array_equal(flat_field(np.zeros(SHAPE), lattice, N_NUM), 1)


def test_default_number_of_views_is_the_nearest_odd_one(frames, lattice):
    assert rectify(frames["raw"], lattice).shape[0] == 81
    wide = lattice.model_copy(update={"pitch_y": 10.2, "pitch_x": 10.2})
    assert wide.nearest_odd == 11


def test_wrong_arguments(frames, lattice):
    with pytest.raises(ValueError, match="must be odd"):
        rectify(frames["raw"], lattice, 8)
    with pytest.raises(ValueError, match="the lattice is for"):
        rectify(frames["raw"][:-1], lattice)
    with pytest.raises(ValueError, match="differ in size"):
        rectify(frames["raw"], lattice, dark=frames["dark"][:-1])


@pytest.mark.parametrize("order", [SCAN_ORDER, tuple(range(9)), (2, 0, 3, 1)])
def test_interlacing_puts_every_exposure_in_its_place(order):
    side = math.isqrt(len(order))
    views = np.random.default_rng(0).random((len(order), 5, 4, 6), dtype=np.float32)
    merged = interlace(views, order)
    assert merged.shape == (5, 4 * side, 6 * side)
    for t, position in enumerate(order):
        r, c = divmod(position, side)
        np.testing.assert_array_equal(merged[:, r::side, c::side], views[t])


def test_interlacing_refuses_what_is_no_order():
    with pytest.raises(ValueError, match="does not permute"):
        interlace(np.zeros((9, 1, 2, 2), np.float32), (0,) * 9)
    with pytest.raises(ValueError, match="does not permute"):
        interlace(np.zeros((8, 1, 2, 2), np.float32), range(8))


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
    assert stack.voxel_um == pytest.approx((1, 2.5, 2.5), rel=1e-5)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "views.tif",
        "views_calibration.yaml",
        "views_lattice.png",
    ]
    expected = rectify(
        *(tifffile.imread(files["raw"]), lattice, N_NUM),
        *(tifffile.imread(files[name]) for name in ("radiometry", "dark")),
    )
    np.testing.assert_array_equal(stack.read(), expected)

    again = tmp_path / "again.tif"
    calibration = out.with_name("views_calibration.yaml")
    assert rectify_files([files["raw"]], again, PRESET, calibration=calibration) == lattice
    np.testing.assert_array_equal(open_stack(again).read(), expected)


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
    assert stack.voxel_um[1] == pytest.approx(2.5 / 3, rel=1e-5)
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


def test_calibration_frames_are_averaged(files, frames, tmp_path):
    noisy = np.stack([frames["radiometry"] + 5, frames["radiometry"] - 5]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "two.tif", noisy)
    a = rectify_files([files["raw"]], tmp_path / "a.tif", PRESET, radiometry=tmp_path / "two.tif")
    b = rectify_files([files["raw"]], tmp_path / "b.tif", PRESET, radiometry=files["radiometry"])
    np.testing.assert_allclose(a.centres(), b.centres(), atol=1e-3)


def check_refused(message, raw, out, preset=PRESET, **options):
    before = set(out.parent.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        rectify_files([raw], out, preset, **options)
    assert "\n" not in str(caught.value)
    assert set(out.parent.rglob("*")) == before


def test_unfit_input_is_refused(files, tmp_path):
    raw, radiometry, out = files["raw"], files["radiometry"], tmp_path / "views.tif"
    check_refused("give either --radiometry", raw, out)
    check_refused("give either", raw, out, radiometry=radiometry, calibration=tmp_path / "c.yaml")
    check_refused("name ending in .tif", raw, tmp_path / "views.h5", radiometry=radiometry)
    check_refused("no such file", tmp_path / "x.tif", out, radiometry=radiometry)
    check_refused("radiometry.tif exists", raw, radiometry, radiometry=radiometry)
    check_refused("is an input too", raw, radiometry, radiometry=radiometry, overwrite=True)
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
    preset = LightFieldPreset(
        **read_yaml(Path(__file__).resolve().parents[2] / "examples" / "guv.yaml")
    )
    out = tmp_path / "views.tif"
    rectify_files(
        [folder / "light_field.tif"],
        out,
        preset,
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
