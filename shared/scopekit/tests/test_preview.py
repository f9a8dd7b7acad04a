import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from scopekit.errors import UserError
from scopekit.preview import draw_scale_bar, orthogonal_projections, save_preview, sections

VOLUME = np.random.default_rng(0).random((5, 20, 30), dtype=np.float32)


def test_projections_are_maxima():
    xy, zx, yz = orthogonal_projections(VOLUME)
    np.testing.assert_array_equal(xy, VOLUME.max(axis=0))
    np.testing.assert_array_equal(zx, VOLUME.max(axis=1))
    np.testing.assert_array_equal(yz, VOLUME.max(axis=2).T)


def test_planes_may_come_one_by_one():
    from_planes = orthogonal_projections(plane for plane in VOLUME)
    for a, b in zip(from_planes, orthogonal_projections(VOLUME), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="at least one plane"):
        orthogonal_projections([])


def test_sections_meet_in_the_brightest_object_not_in_a_hot_voxel():
    volume = 0.1 * VOLUME
    volume[3, 8:13, 20:25] += 1
    volume[1, 4, 4] = 9
    asked = []

    def planes():
        asked.append(True)
        return iter(volume)

    cut = sections(planes)
    assert cut.place == (3, 10, 22)
    assert len(asked) == 2
    for panel, true in zip(cut.panels, (volume[3], volume[:, 10], volume[:, :, 22].T), strict=True):
        np.testing.assert_array_equal(panel, true)
    with pytest.raises(ValueError, match="at least one plane"):
        sections(list)


def test_sections_show_what_projections_hide(tmp_path):
    shell = np.zeros((20, 20, 30), np.float32)
    shell[2:18, 4:16, 4:26] = 1
    shell[4:16, 6:14, 6:24] = 0
    shell[9:11, 4:9, 4:9] = 2  # the brightest object, in the middle planes
    shown = {"maxima": shell, "cut": sections(lambda: iter(shell))}
    save_preview(tmp_path / "a.png", shown, (1, 1, 1), overwrite=False)
    grey = picture(tmp_path / "a.png")
    per_um = (grey.shape[1] - 3 * 0.15 * 160) / 2 / (30 + 0.6 + 20)
    top = grey.shape[0] - (20 + 0.6 + 20) * per_um
    middle = round(top + 10 * per_um)
    left = [(0.15 * (n + 1)) * 160 + n * (30 + 0.6 + 20) * per_um for n in (0, 1)]
    inside = [grey[middle, round(x + 15 * per_um)] for x in left]
    assert inside[0] > 100
    assert inside[1] < 20


def picture(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"))


def test_the_scale_bar_is_seen_on_a_bright_ground(tmp_path):
    volume = np.ones((5, 20, 30), np.float32)
    volume[:, :, :10] = 0
    path = tmp_path / "preview.png"
    save_preview(path, {"result": volume}, (2, 1, 1), overwrite=False)
    grey = picture(path)
    per_um = (grey.shape[1] - 2 * 0.15 * 160) / (30 + 0.6 + 10)
    left, top = 0.15 * 160, 0.62 * 160
    corner = grey[int(top + 16 * per_um) : int(top + 19.8 * per_um)]
    corner = corner[:, int(left + 22 * per_um) : int(left + 29.8 * per_um)]
    assert np.median(corner) == 255
    assert (corner == 0).mean() > 0.02


@pytest.mark.parametrize("voxel_um", [(2, 1, 1), (2, 0.5, 1), (0.5, 1, 2.5)])
def test_the_picture_shows_the_brightest_spot_in_three_views(tmp_path, voxel_um):
    # 20 x 30 um in the plane and 10 um deep: panels of 30 and 10 um, 2 % apart.
    z, y, x = voxel_um
    volume = np.zeros((round(10 / z), round(20 / y), round(30 / x)), np.float32)
    volume[
        round(2 / z) : round(4 / z), round(5 / y) : round(10 / y), round(20 / x) : round(25 / x)
    ] = 1
    path = tmp_path / "preview.png"
    save_preview(path, {"result": volume}, voxel_um, overwrite=False)
    grey = picture(path)
    width_um = 30 + 0.6 + 10
    per_um = (grey.shape[1] - 2 * 0.15 * 160) / width_um
    top = grey.shape[0] - (20 + 0.6 + 10) * per_um

    def brightness(x_um, y_um):
        return grey[round(top + y_um * per_um), round(0.15 * 160 + x_um * per_um)]

    assert brightness(22.5, 7.5) > 250
    assert brightness(22.5, 20.6 + 3) > 250
    assert brightness(30.6 + 3, 7.5) > 250
    for x_um, y_um in [(10, 7.5), (22.5, 15), (22.5, 20.6 + 7), (30.6 + 7, 7.5)]:
        assert brightness(x_um, y_um) < 10


def test_volumes_stand_side_by_side(tmp_path):
    save_preview(tmp_path / "one.png", {"a": VOLUME}, (1, 1, 1), overwrite=False)
    save_preview(
        tmp_path / "two.png",
        {"a": VOLUME, "b": VOLUME},
        (1, 1, 1),
        captions=["truth"],
        overwrite=False,
    )
    one, two = picture(tmp_path / "one.png"), picture(tmp_path / "two.png")
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=30)


@pytest.mark.parametrize("value", [0, 1, 1e6])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 500, 4), (40, 8, 8)])
def test_flat_and_odd_volumes_have_pictures(tmp_path, shape, value):
    path = tmp_path / "preview.png"
    save_preview(path, {"flat": np.full(shape, value, np.float32)}, (1, 1, 1), overwrite=False)
    assert picture(path).size > 0


def test_existing_pictures_are_kept(tmp_path):
    path = tmp_path / "preview.png"
    path.write_text("older")
    with pytest.raises(UserError, match="`overwrite=True`"):
        save_preview(path, {"a": VOLUME}, (1, 1, 1), overwrite=False)
    assert path.read_text() == "older"


def test_a_disk_that_fills_up(tmp_path, full_disk):
    with full_disk(4096), pytest.raises(UserError, match=r"cannot write .*preview\.png"):
        save_preview(tmp_path / "preview.png", {"a": VOLUME}, (1, 1, 1), overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("width_um", "bar_um"), [(0.6, 0.1), (50, 10), (110, 20), (230, 50), (1e3, 200)]
)
def test_the_scale_bar_is_about_a_fifth_of_the_width(width_um, bar_um):
    axes = Figure().add_subplot()
    draw_scale_bar(axes, (width_um, 20), thickness_um=0.5, margin_um=2, fontsize=8)
    (bar,), (text,) = axes.patches, axes.texts
    assert bar.get_width() == pytest.approx(bar_um)
    assert bar.get_x() + bar.get_width() == pytest.approx(width_um - 2)
    assert bar.get_y() + bar.get_height() == pytest.approx(20 - 2)
    assert text.get_text() == f"{bar_um:g} µm"
