"""OME-TIFFs that point to metadata in another file, and those whose metadata say nothing."""

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_stack

OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
PLANES = np.arange(6 * 8 * 8, dtype=np.uint16).reshape(3, 2, 8, 8)
"""Planes, channels, rows, columns."""


def write(path, xml):
    plain = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, PLANES.reshape(6, 8, 8), description=xml.encode(), **plain)


def image(file, uuid, number=0):
    return (
        f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" '
        'Type="uint16" SizeX="8" SizeY="8" SizeZ="3" SizeC="2" SizeT="1" PhysicalSizeX="0.2" '
        'PhysicalSizeY="0.2" PhysicalSizeZ="0.8"><Channel ID="0"/><Channel ID="1"/>'
        f'<TiffData IFD="0" PlaneCount="6"><UUID FileName="{file}">urn:uuid:{uuid}</UUID>'
        "</TiffData></Pixels></Image>"
    )


@pytest.fixture
def pointing(tmp_path):
    path = tmp_path / "a.ome.tif"
    pointer = '<BinaryOnly MetadataFile="D:\\\\day\\\\set.companion.ome" UUID="urn:uuid:9"/>'
    write(path, f'{OME} UUID="urn:uuid:1">{pointer}</OME>')
    return path


def test_without_its_companion_no_axis_is_guessed(pointing):
    with pytest.raises(UserError, match=r"another file, set\.companion\.ome, which is missing"):
        open_stack(pointing)


def test_the_companion_tells_the_axes(pointing):
    companion = pointing.with_name("set.companion.ome")
    companion.write_text(f'{OME} UUID="urn:uuid:9">{image("a.ome.tif", 1)}</OME>')
    with pytest.raises(UserError, match="3 planes x 2 channels; choose a channel"):
        open_stack(pointing)
    stack = open_stack(pointing, Selection(channel=1))
    np.testing.assert_array_equal(stack.read(), PLANES[:, 1])
    assert stack.voxel_um == (0.8, 0.2, 0.2)


@pytest.mark.parametrize("content", ["", "<OME", "<html/>"])
def test_a_companion_of_another_kind(pointing, content):
    pointing.with_name("set.companion.ome").write_text(content)
    with pytest.raises(UserError, match=r"a\.ome\.tif: .*OME metadata"):
        open_stack(pointing)


def test_the_first_of_a_set_tells_for_the_others_which_keep_their_own_positions(tmp_path):
    first, second = tmp_path / "p0.ome.tif", tmp_path / "p1.ome.tif"
    images = image(first.name, 0) + image(second.name, 1, 1)
    write(first, f'{OME} UUID="urn:uuid:0">{images}</OME>')
    pointer = f'<BinaryOnly MetadataFile="{first.name}" UUID="urn:uuid:0"/>'
    write(second, f'{OME} UUID="urn:uuid:1">{pointer}</OME>')
    for path in (first, second):
        stack = open_stack(path, Selection(channel=1))
        np.testing.assert_array_equal(stack.read(), PLANES[:, 1])
        assert stack.path == path
    with tifffile.TiffFile(second) as tif:
        place = tif.pages[1].dataoffsets[0]
    content = bytearray(second.read_bytes())
    content[place : place + 2] = (999).to_bytes(2, "little")
    second.write_bytes(content)
    assert open_stack(second, Selection(channel=1)).read()[0, 0, 0] == 999
    assert open_stack(first, Selection(channel=1)).read()[0, 0, 0] == PLANES[0, 1, 0, 0]


@pytest.mark.parametrize("inside", ["<Image>", "", "<Image ID='0'><Pixels/></Image>"])
def test_metadata_that_cannot_be_read_are_no_reason_to_guess(tmp_path, inside):
    write(tmp_path / "a.ome.tif", f"{OME}>{inside}</OME>")
    with pytest.raises(UserError, match=r"a\.ome\.tif: "):
        open_stack(tmp_path / "a.ome.tif")
