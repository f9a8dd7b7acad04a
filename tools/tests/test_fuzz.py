"""Readers fed with spoilt files: each gives what is there, or says in a line what is wrong.

Seconds as it is. ``FUZZ_EXAMPLES=100000`` (``nox -s fuzz``) makes as many files of every format,
different ones each time.
"""

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

import optics
from optics import OpticsError
from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.images.files import Selection, open_frames, open_stack
from scopekit.images.zarr_writer import create_store, declare_whole, write_frame
from scopekit.settings import read_json, read_yaml

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
VALUES = np.random.default_rng(0).integers(0, 4000, (2, 3, 12, 10)).astype(np.uint16)
VOXEL_UM = (0.8, 0.2, 0.2)


def write_imagej(path: Path) -> None:
    metadata = {"axes": "TZYX", "spacing": 0.8, "unit": "um"}
    tifffile.imwrite(path, VALUES, imagej=True, resolution=(5, 5), metadata=metadata)


def write_ome(path: Path) -> None:
    sizes = {"PhysicalSizeZ": 0.8, "PhysicalSizeY": 0.2, "PhysicalSizeX": 0.2}
    how = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(path, VALUES, ome=True, metadata={"axes": "TZYX", **sizes}, **how)


def write_compressed(path: Path) -> None:
    tifffile.imwrite(path, VALUES, photometric="minisblack", compression="zlib", predictor=2)


def write_scanimage(path: Path) -> None:
    header = "SI.VERSION_MAJOR = 2023\nSI.hChannels.channelSave = [1;2]\n"
    header += "SI.hStackManager.numSlices = 3\nSI.hStackManager.stackZStepSize = 2\n"
    how = {"photometric": "minisblack", "bigtiff": True, "metadata": None}
    tifffile.imwrite(path, VALUES.reshape(6, 12, 10), software=header, **how)


def write_companion(path: Path) -> None:
    ome = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    pixels = '<Pixels ID="0" DimensionOrder="XYZCT" Type="uint16" SizeX="10" SizeY="12" SizeZ="3"'
    uuid = f'<UUID FileName="{path.name}">urn:uuid:1</UUID>'
    path.with_name("all.companion.ome").write_text(
        f'{ome} UUID="urn:uuid:9"><Image ID="0">{pixels} SizeC="1" SizeT="2">'
        f'<TiffData IFD="0" PlaneCount="6">{uuid}</TiffData></Pixels></Image></OME>'
    )
    pointer = '<BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:9"/>'
    how = {"photometric": "minisblack", "metadata": None}
    described = f'<?xml version="1.0"?>{ome} UUID="urn:uuid:1">{pointer}</OME>'
    tifffile.imwrite(path, VALUES.reshape(6, 12, 10), description=described, **how)


def write_channels_in_pixels(path: Path) -> None:
    how = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
    tifffile.imwrite(path, np.moveaxis(VALUES, 0, -1).copy(), **how)


def write_pt(path: Path) -> None:
    torch.save(torch.from_numpy(VALUES[0].astype(np.float32)), path)


def write_checkpoint(path: Path) -> None:
    torch.save({"weight": torch.ones(3, 4), "epoch": 3, "name": "net"}, path)


def write_yaml(path: Path) -> None:
    path.write_text(yaml.safe_dump({"method": "serenet", "data": {"views": "in", "crop": 32}}))


def write_json(path: Path) -> None:
    path.write_text(json.dumps({"params": {"scale": 4, "res_axial": 0.8}, "name": [1, 2.5, None]}))


def small_microscope() -> optics.LightFieldMicroscope:
    views, depths = (0, 4, 8), (-1.0, 0.0, 1.0)
    return optics.presets["nnum13"].model_copy(
        update={"n_num": 3, "views": views, "depths_um": depths}
    )


def write_hdf5(path: Path) -> None:
    psf = torch.rand(3, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    optics.write_psf(path, psf, small_microscope())


def write_matlab(path: Path) -> None:
    psf = np.random.default_rng(0).random((3, 3, 3, 9, 9), np.float32)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["psf"] = psf


def write_old_matlab(path: Path) -> None:
    psf = np.random.default_rng(0).random((9, 9, 3, 3, 3), np.float32)
    savemat(path, {"psf": psf})


def require_line(failure: Exception, path: Path) -> None:
    """Require one line that names the file."""
    line = str(failure)
    assert line.startswith(str(path)), line
    assert "\n" not in line, line


def read_stack(path: Path) -> None:
    for opened in (open_stack, open_frames):
        for selection in (Selection(), Selection(channel=1)):
            try:
                stack = opened(path, selection)
                last = stack.read(stack.n_frames - 1)
            except (UserError, OpticsError) as failure:
                require_line(failure, path)
                continue
            assert last.shape == stack.shape[-3:]
            assert np.isfinite(last).all()
            assert all(step is None or 1e-4 < step < 1e5 for step in (stack.voxel_um or ()))


def read_psf(path: Path) -> None:
    try:
        file = optics.open_psf(path)
        psf = file.read([file.n_views - 1])
    except OpticsError as failure:
        require_line(failure, path)
    else:
        assert psf.shape[1] == file.n_depths


def said(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a reader that may say what is wrong."""

    def tried(path: Path) -> None:
        try:
            read(path)
        except (UserError, OpticsError) as failure:
            require_line(failure, path)

    return tried


def write_npy(path: Path) -> None:
    np.save(path, VALUES[0])


FILES: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], None]]] = {
    "ImageJ TIFF": ("a.tif", write_imagej, read_stack),
    "OME-TIFF": ("a.ome.tif", write_ome, read_stack),
    "compressed TIFF": ("a.tif", write_compressed, read_stack),
    "ScanImage": ("a.tif", write_scanimage, read_stack),
    "OME-TIFF with companion": ("a.ome.tif", write_companion, read_stack),
    "channels in pixels": ("a.tif", write_channels_in_pixels, read_stack),
    "NPY": ("a.npy", write_npy, read_stack),
    "PT": ("a.pt", write_pt, read_stack),
    "checkpoint": ("a.pth", write_checkpoint, said(read_checkpoint)),
    "YAML": ("a.yaml", write_yaml, said(read_yaml)),
    "JSON": ("a.json", write_json, said(read_json)),
    "HDF5": ("a.h5", write_hdf5, read_psf),
    "MATLAB": ("a.mat", write_matlab, read_psf),
    "older MATLAB": ("a.mat", write_old_matlab, read_psf),
}

# Numbers that are likely to be at fault, as bytes and as text.
EDGES = [b"\0", b"\0\0", b"\xff\xff", b"\xff" * 4, b"\0" * 8, b"\x7f\xff\xff\xff", b"\x80"]
TEXTS = [b"nan", b"-1", b"0,8", b"1e99", b"inf", b"99999999999", b'"', b"<", b"\xc3\x28", b"\n"]
change = st.tuples(
    st.sampled_from(["replace", "cut", "insert", "remove", "double", "number"]),
    st.floats(0, 1),
    st.one_of(st.sampled_from(EDGES + TEXTS), st.binary(min_size=1, max_size=8)),
)
# Most of a file is values: what describes them stands at its beginning and end.
changes = st.lists(
    st.one_of(change, change.map(lambda c: (c[0], c[1] * 0.1, c[2]))), min_size=1, max_size=4
)


def another_number(content: bytes, at: int) -> bytes:
    """Put 0 for the first number, of digits, behind a place."""
    found = re.compile(rb"\d+").search(content, at)
    return content[: found.start()] + b"0" + content[found.end() :] if found else content


def spoilt(content: bytes, how: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, new in how:
        at = int(place * len(content))
        if kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "remove":
            content = content[:at] + content[at + len(new) :]
        elif kind == "number":
            content = another_number(content, at)
        elif kind == "double":
            content = content[:at] + content[max(at - 64, 0) :]
        else:
            content = content[:at] + new + content[at + len(new) :]
    return content


@contextmanager
def quiet() -> Iterator[None]:
    """Let libraries warn, as they do of spoilt files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 1000,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("kind", FILES)
def test_spoilt_files(kind, tmp_path):
    name, write, read = FILES[kind]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    with quiet():
        read(path)

    @fuzzed
    @given(changes)
    def try_one(how):
        path.unlink()  # what is mapped of the last one stays as it was
        path.write_bytes(spoilt(whole, how))
        with quiet():
            read(path)

    try_one()


def test_spoilt_stores(tmp_path):
    pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    whole = tmp_path / "whole.ome.zarr"
    create_store(whole, VALUES.shape, VOXEL_UM, "cell")
    for frame in range(len(VALUES)):
        write_frame(whole, frame, VALUES[frame].astype(np.float32))
    declare_whole(whole, [])
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())

    @fuzzed
    @given(changes, st.sampled_from(files))
    def try_one(how, file):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            path = Path(folder) / "a.ome.zarr"
            shutil.copytree(whole, path)
            (path / file).write_bytes(spoilt((whole / file).read_bytes(), how))
            with quiet():
                read_stack(path)

    try_one()
