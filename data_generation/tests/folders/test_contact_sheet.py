import numpy as np
import pytest
from matplotlib.image import imread
from scipy.ndimage import label

from datagen.folders.contact_sheet import save_contact_sheet, sheet_item
from scopekit.errors import UserError
from scopekit.preview import orthogonal_projections

VOXEL_UM = (0.2, 0.1, 0.1)


def one_voxel(shape=(20, 40, 40), at=(5, 10, 30)):
    volume = np.zeros(shape, np.uint16)
    volume[at] = 700
    return volume


def test_planes_and_their_projections_give_the_same_item():
    volume = one_voxel()
    of_planes = sheet_item("a", iter(volume), VOXEL_UM)
    of_projections = sheet_item("a", orthogonal_projections(volume), VOXEL_UM)
    assert of_planes.extent_um == of_projections.extent_um == pytest.approx((4, 4, 4))
    for one, other in zip(of_planes.projections, of_projections.projections, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_large_volume_is_kept_small_and_its_single_bright_voxel_stays():
    item = sheet_item("large", iter(one_voxel((3, 1989, 1989), (1, 1501, 77))), VOXEL_UM)
    assert max(item.projections[0].shape) < 1000
    assert [image.max() for image in item.projections] == [700, 700, 700]
    assert item.extent_um == pytest.approx((0.6, 198.9, 198.9))


@pytest.mark.parametrize("count", [1, 2, 7, 15])
def test_every_volume_is_in_the_picture(tmp_path, count):
    path = tmp_path / "sheet.png"
    items = [sheet_item(f"group {n}", iter(np.ones((8, 30, 30))), VOXEL_UM) for n in range(count)]
    save_contact_sheet(path, items, overwrite=False, heading="all of them")
    picture = imread(path)[..., :3].mean(-1)
    # A flat volume's XY panel is a white square, framed in grey.
    panels, found = label(picture > 0.999)
    sizes = np.bincount(panels.ravel())[1:]
    assert found >= count
    assert (sizes > 0.7 * sizes.max()).sum() == count
    height, width = picture.shape
    assert width / height < 3


def test_volumes_that_are_empty_flat_or_deep(tmp_path):
    items = [
        sheet_item("empty", iter(np.zeros((5, 20, 20))), VOXEL_UM, ["0 %"]),
        sheet_item("deep", iter(np.random.default_rng(0).random((60, 10, 20))), VOXEL_UM),
        sheet_item("one plane", iter(np.ones((1, 20, 10))), VOXEL_UM),
    ]
    save_contact_sheet(tmp_path / "sheet.png", items, overwrite=False)
    assert imread(tmp_path / "sheet.png").std() > 0.01


def test_an_existing_picture_is_kept_unless_told(tmp_path):
    path = tmp_path / "sheet.png"
    path.write_text("mine")
    items = [sheet_item("a", iter(one_voxel()), VOXEL_UM)]
    with pytest.raises(UserError, match="`overwrite=True`"):
        save_contact_sheet(path, items, overwrite=False)
    assert path.read_text() == "mine"
    save_contact_sheet(path, items, overwrite=True)
    assert imread(path).ndim == 3


def test_no_volumes_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        save_contact_sheet(tmp_path / "sheet.png", [], overwrite=False)
