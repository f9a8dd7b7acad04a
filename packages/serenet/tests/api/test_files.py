"""Views, volumes and microscopes from files, and volumes and pictures to files."""

import numpy as np
import pytest
import tifffile

import serenet
from scopekit.errors import UserError


@pytest.fixture
def series(tmp_path):
    path = tmp_path / "series.tif"
    frames = np.arange(2 * 169 * 4 * 5, dtype=np.float32).reshape(2, 169, 4, 5)
    tifffile.imwrite(path, frames)
    return path, frames


def test_views_are_those_of_the_microscope(series):
    path, frames = series
    microscope = serenet.load_microscope("nnum13")
    views = serenet.read_views(path, microscope, frame=1)
    np.testing.assert_array_equal(views, frames[1][list(microscope.views)])
    step = microscope.view_pixel_um
    assert views.voxel_um == pytest.approx((1, step, step))
    np.testing.assert_array_equal(serenet.read_views(path), frames[0])
    assert serenet.read_views(path).voxel_um is None
    with pytest.raises(UserError, match="no time point 2; it has 2, from 0"):
        serenet.read_views(path, microscope, frame=2)
    with pytest.raises(UserError, match="169 views"):
        serenet.read_views(path, serenet.load_microscope("nnum15"))


def test_volumes_keep_their_size_on_disk(tmp_path):
    path = tmp_path / "cell.tif"
    volume = serenet.ScaledArray(np.random.default_rng(0).random((3, 5, 7)), (0.5, 0.2, 0.1))
    serenet.write_volume(path, volume)
    again = serenet.read_volume(path)
    np.testing.assert_array_equal(again, volume)
    assert again.voxel_um == pytest.approx(volume.voxel_um)
    with pytest.raises(UserError, match=r"cell\.tif exists"):
        serenet.write_volume(path, 2 * volume)
    serenet.write_volume(path, 2 * volume, (1, 1, 1), overwrite=True)
    assert serenet.read_volume(path).voxel_um == (1, 1, 1)
    np.testing.assert_array_equal(serenet.read_volume(path), 2 * volume)


@pytest.mark.parametrize(
    ("values", "name", "size", "failure", "message"),
    [
        (np.ones((2, 3, 4)), "a.tif", None, ValueError, "give voxel_um"),
        (np.ones((2, 3, 4)), "a.png", (1, 1, 1), UserError, "ending in .tif"),
        (np.ones((3, 4)), "a.tif", (1, 1, 1), UserError, r"shape \(3, 4\)"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, values, name, size, failure, message):
    with pytest.raises(failure, match=message):
        serenet.write_volume(tmp_path / name, values, size)
    assert not list(tmp_path.iterdir())


def test_microscopes_by_name_file_and_psf(small_psf, small_microscope, tmp_path):
    assert serenet.load_microscope(small_psf) == small_microscope
    path = tmp_path / "scope.yaml"
    path.write_text(f"{small_microscope.model_dump_json()}\n")
    assert serenet.load_microscope(path) == small_microscope
    with pytest.raises(UserError, match="neither"):
        serenet.load_microscope("nnum7")


def test_pictures_show_every_volume(tmp_path):
    volume = serenet.ScaledArray(np.random.default_rng(0).random((3, 24, 16)), (1.0, 0.5, 0.5))
    picture = serenet.draw({"first": volume, "second": np.asarray(volume)})
    titles = [text.get_text() for text in picture.figure.texts]
    assert {"first", "second"} <= set(titles)
    assert picture._repr_png_().startswith(b"\x89PNG")
    picture.save(tmp_path / "cell.png")
    assert (tmp_path / "cell.png").read_bytes() == picture._repr_png_()
    with pytest.raises(UserError, match=r"cell\.png exists"):
        picture.save(tmp_path / "cell.png")
    with pytest.raises(ValueError, match="give voxel_um"):
        serenet.draw(np.ones((3, 4, 4)))
    with pytest.raises(ValueError, match="all of one shape"):
        serenet.draw({"a": volume, "b": volume[1:]})
    with pytest.raises(ValueError, match="NaN"):
        serenet.draw(volume * np.nan)
