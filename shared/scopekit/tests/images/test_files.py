import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from scopekit.errors import UserError
from scopekit.images.files import Selection, VolumeWriter, open_stack, write_volume

VOXEL_UM = (0.2, 0.1221, 0.1221)
STACK = np.random.default_rng(0).random((7, 20, 30), dtype=np.float32)
SERIES = np.stack([STACK, STACK + 1, STACK + 2])

dimensions = st.integers(2, 6)
steps_um = st.floats(1e-3, 1e3, allow_subnormal=False)
numbers = st.sampled_from(["u1", "i1", "<u2", ">u2", "i2", "u4", "f2", "<f4", ">f4", "f8"])


@settings(max_examples=40)
@given(
    shape=st.one_of(
        st.tuples(dimensions, dimensions, dimensions),
        st.tuples(dimensions, dimensions, dimensions, dimensions),
    ),
    dtype=numbers,
    voxel_um=st.tuples(steps_um, steps_um, steps_um),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(shape, dtype, voxel_um, seed):
    volume = np.random.default_rng(seed).uniform(0, 100, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.tif"
        write_volume(path, volume, voxel_um, overwrite=False)
        stack = open_stack(path)
        frames = [stack.read(frame) for frame in range(stack.n_frames)]
    assert stack.shape == shape
    assert stack.dtype == np.float32
    assert stack.voxel_um == pytest.approx(voxel_um, rel=1e-5)
    np.testing.assert_array_equal(np.stack(frames).reshape(shape), volume.astype(np.float32))


@settings(max_examples=40)
@given(
    volume=numbers.flatmap(
        lambda dtype: arrays(
            dtype,
            st.tuples(dimensions, dimensions, dimensions),
            elements={"min_value": 0, "max_value": 100},
        )
    ),
    compression=st.sampled_from([None, "zlib"]),
    ending=st.sampled_from([".tif", ".ome.tif"]),
    big_tiff=st.booleans(),
)
def test_files_of_other_programs_are_read(volume, compression, ending, big_tiff):
    assume(ending == ".tif" or volume.dtype != np.float16)  # OME has no half precision
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"volume{ending}"
        byteorder = ">" if volume.dtype.byteorder == ">" else "<"
        tifffile.imwrite(
            path,
            volume,
            byteorder=byteorder,
            compression=compression,
            bigtiff=big_tiff,
            photometric="minisblack",
            metadata={"axes": "ZYX"},
        )
        stack = open_stack(path)
        result = stack.read()
    assert stack.dtype == volume.dtype.newbyteorder("=")
    np.testing.assert_array_equal(result, volume.astype(np.float32))


def test_imagej_finds_the_voxel_size_and_the_axes(tmp_path):
    write_volume(tmp_path / "series.tif", SERIES, VOXEL_UM, overwrite=False)
    with tifffile.TiffFile(tmp_path / "series.tif") as tif:
        metadata = tif.imagej_metadata
        assert (metadata["frames"], metadata["slices"]) == (3, 7)
        assert (metadata["spacing"], metadata["unit"]) == (0.2, "um")
        pixels, length = tif.pages.first.tags["XResolution"].value
        assert length / pixels == pytest.approx(0.1221, rel=1e-5)
        assert tif.series[0].axes == "TZYX"


@pytest.mark.parametrize(
    ("unit", "spacing", "voxel_um"),
    [
        ("micron", 2, (2, 0.5, 0.25)),
        ("\\u00B5m", 2, (2, 0.5, 0.25)),
        ("mm", 0.002, (2, 500, 250)),
        ("um", -2, (2, 0.5, 0.25)),
        ("pixel", 2, None),
    ],
)
def test_imagej_voxel_sizes(tmp_path, unit, spacing, voxel_um):
    path = tmp_path / "stack.tif"
    metadata = {"axes": "ZYX", "unit": unit, "spacing": spacing}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 2), metadata=metadata)
    found = open_stack(path).voxel_um
    assert found == (None if voxel_um is None else pytest.approx(voxel_um))


@pytest.mark.parametrize(
    ("sizes", "voxel_um"),
    [
        ({"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.3}, (0.3, 0.2, 0.1)),
        (
            {
                "PhysicalSizeX": 100,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.2,
                "PhysicalSizeZ": 0.003,
                "PhysicalSizeZUnit": "mm",
            },
            (3, 0.2, 0.1),
        ),
        ({"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2}, None),
        ({"PhysicalSizeZ": 0.3}, None),
    ],
)
def test_ome_voxel_sizes(tmp_path, sizes, voxel_um):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", **sizes})
    found = open_stack(path).voxel_um
    assert found == (None if voxel_um is None else pytest.approx(voxel_um))


def test_a_plain_tiff_has_no_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", STACK)
    assert open_stack(tmp_path / "stack.tif").voxel_um is None


def write_contiguous(path):
    tifffile.imwrite(path, SERIES, imagej=True, metadata={"axes": "TZYX"})


def write_compressed(path):
    tifffile.imwrite(path, SERIES, imagej=True, compression="zlib", metadata={"axes": "TZYX"})


def write_frame_by_frame(path):
    with tifffile.TiffWriter(path) as tif:
        for stack in SERIES:
            tif.write(stack, contiguous=False)


@pytest.mark.parametrize("write", [write_contiguous, write_compressed, write_frame_by_frame])
def test_every_frame_of_a_series(tmp_path, write):
    write(tmp_path / "series.tif")
    stack = open_stack(tmp_path / "series.tif")
    assert (stack.shape, stack.n_frames) == ((3, 7, 20, 30), 3)
    for frame in range(3):
        np.testing.assert_array_equal(stack.read(frame), SERIES[frame])


@pytest.mark.parametrize("described", [True, False])
def test_pages_written_one_by_one(tmp_path, described):
    with tifffile.TiffWriter(tmp_path / "stack.tif") as tif:
        for page in STACK:
            tif.write(page, contiguous=False, metadata={} if described else None)
    stack = open_stack(tmp_path / "stack.tif")
    assert (stack.shape, stack.n_frames) == (STACK.shape, 1)
    np.testing.assert_array_equal(stack.read(), STACK)


def test_pages_that_differ_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "stack.tif") as tif:
        tif.write(STACK[0])
        tif.write(STACK[1, :10])
    with pytest.raises(UserError, match="differ in size or type"):
        open_stack(tmp_path / "stack.tif")


def test_a_series_beyond_4_gb(tmp_path, monkeypatch):
    # The file is sparse: it takes hardly any space on the disk.
    monkeypatch.setattr("os.posix_fallocate", lambda *_: None)
    monkeypatch.setattr("scopekit.images.files.require_space", lambda *_: None)
    shape = (600, 2, 1000, 1000)
    with VolumeWriter(tmp_path / "big.tif", shape, VOXEL_UM, overwrite=False) as writer:
        writer.array[0, 0, 0, 0] = 1
        writer.array[599, 1, 999, 999] = 2
    stack = open_stack(tmp_path / "big.tif")
    assert stack.shape == shape
    assert stack.voxel_um == pytest.approx(VOXEL_UM, rel=1e-5)
    assert stack.read(0)[0, 0, 0] == 1
    assert stack.read(599)[1, 999, 999] == 2


# What is refused, and why.


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match=r"absent\.tif: no such file"):
        open_stack(tmp_path / "absent.tif")
    for name in ("folder", "folder.npy", "folder.nd2", "folder.pt"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="a folder where a file was expected"):
            open_stack(tmp_path / name)
    (tmp_path / "link.tif").symlink_to("link.tif")
    for name in ("a" * 300 + ".tif", "a\0b.tif", "link.tif"):
        with pytest.raises(UserError, match="; check the path"):
            open_stack(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not an image\n" * 99, b"\x89PNG\r\n\x1a\n" + b"0" * 99])
def test_other_files_named_tif(tmp_path, content):
    (tmp_path / "stack.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"stack\.tif: not a TIFF file"):
        open_stack(tmp_path / "stack.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("imagej", [True, False])
@pytest.mark.parametrize("kept", [0.005, 0.1, 0.5, 0.9])
def test_files_cut_short(tmp_path, imagej, compression, kept):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, imagej=imagej, compression=compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"stack\.tif: damaged or cut short"):
        open_stack(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sides_that_the_bytes_cannot_fill(tmp_path, compression):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, compression=compression, metadata=None, byteorder="<")
    with tifffile.TiffFile(path) as tif:
        places = [page.aspage().tags["ImageLength"].valueoffset for page in tif.pages]
    content = bytearray(path.read_bytes())
    for at in places:
        content[at : at + 4] = (2**24).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        open_stack(path)


@pytest.mark.parametrize("imagej", [True, False])
def test_a_chain_of_pages_that_breaks_midway(tmp_path, imagej):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, imagej=imagej, compression="zlib", byteorder="<")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[3]
        n_tags = len(page.aspage().tags)
        next_page = page.offset + 2 + 12 * n_tags
    content = bytearray(path.read_bytes())
    content[next_page : next_page + 4] = bytes(4)
    path.write_bytes(content)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 4
    with pytest.raises(UserError, match="damaged or cut short"):
        open_stack(path).read()


@pytest.mark.parametrize(("n_pages", "back_to"), [(4, 0), (150, 120)])
@pytest.mark.parametrize("how", [{"byteorder": "<"}, {"byteorder": ">", "bigtiff": True}])
def test_pages_that_follow_each_other_in_a_circle(tmp_path, n_pages, back_to, how):
    path = tmp_path / "stack.tif"
    pages = np.zeros((n_pages, 4, 4), np.uint16)
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None, **how)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[back_to].offset
        length = len(tif.pages)
        last, size = tif.pages.next_page_offset, tif.tiff.offsetsize
        order = "little" if tif.byteorder == "<" else "big"
    assert length == n_pages
    content = bytearray(path.read_bytes())
    content[last : last + size] = offset.to_bytes(size, order)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        open_stack(path)


def test_damaged_bytes_of_a_compressed_page(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[3].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        open_stack(path).read()


def test_a_compression_that_needs_another_package(tmp_path):
    pages = [Image.fromarray((page * 60000).astype(np.uint16)) for page in STACK]
    path = tmp_path / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    try:
        expected = tifffile.imread(path)
    except ValueError:
        with pytest.raises(UserError, match="pip install imagecodecs"):
            open_stack(path).read()
    else:
        np.testing.assert_array_equal(open_stack(path).read(), expected)


@pytest.mark.parametrize("code", [50000, 34887])
def test_a_compression_that_is_not_there_is_told_at_once(tmp_path, monkeypatch, code):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags["Compression"].valueoffset
    content = bytearray(path.read_bytes())
    content[at : at + 2] = code.to_bytes(2, "little")
    path.write_bytes(content)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None})
    with pytest.raises(UserError, match="pip install imagecodecs"):
        open_stack(path)


@pytest.mark.parametrize(
    ("values", "arguments", "reason"),
    [
        (STACK[0], {}, "a single 2D image"),
        (STACK[:1], {"imagej": True}, "a single 2D image"),
        (np.zeros((7, 20, 30, 3), np.uint8), {"photometric": "rgb"}, "a colour image"),
        (np.zeros((7, 20, 30), np.complex64), {}, "of complex64; expected pages of grey values"),
        (np.zeros((7, 20, 30), bool), {}, "of bool; expected pages of grey values"),
        (
            np.zeros((2, 2, 5, 20, 30), np.uint8),
            {},
            "2 pages x 2 pages x 5 pages; expected one stack",
        ),
        (
            np.zeros((7, 2, 20, 30), np.float32),
            {"imagej": True, "metadata": {"axes": "ZCYX"}},
            "7 planes x 2 channels; choose a channel, 0 to 1",
        ),
    ],
)
def test_what_is_no_stack_of_grey_pages(tmp_path, values, arguments, reason):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, **arguments)
    with pytest.raises(UserError, match=rf"stack\.tif: .*{reason}"):
        open_stack(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("how", ["contig", "separate"])
def test_grey_values_side_by_side_in_a_pixel_are_channels(tmp_path, how, compression):
    path = tmp_path / "stack.tif"
    channels = np.stack([STACK, STACK + 1], -1 if how == "contig" else 1)
    plain = {"photometric": "minisblack", "planarconfig": how, "compression": compression}
    tifffile.imwrite(path, channels, **plain)
    with pytest.raises(UserError, match=f"{len(STACK)} pages x 2 channels; choose a channel"):
        open_stack(path)
    for channel in (0, 1):
        values = open_stack(path, Selection(channel=channel)).read()
        np.testing.assert_array_equal(values, STACK + channel)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_nan_and_its_page(tmp_path, value, compression):
    stack = STACK.copy()
    stack[4, 3, 2] = value
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, compression=compression)
    with pytest.raises(UserError, match=r"stack\.tif: NaN or infinite values \(page 4, counted"):
        open_stack(path).read()


def test_nan_and_its_frame(tmp_path):
    series = SERIES.copy()
    series[2, 5, 0, 0] = np.nan
    path = tmp_path / "series.tif"
    tifffile.imwrite(path, series, imagej=True, metadata={"axes": "TZYX"})
    stack = open_stack(path)
    stack.read(1)
    with pytest.raises(UserError, match="frame 2, page 5"):
        stack.read(2)


def test_metadata_in_another_alphabet_is_no_damage(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, software="camera")
    path.write_bytes(path.read_bytes().replace(b"camera", b"c\x81m\x8dra"))
    np.testing.assert_array_equal(open_stack(path).read(), STACK)
