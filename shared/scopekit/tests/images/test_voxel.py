"""Voxel sizes: units of every format, what is known, unknown and absurd."""

import json

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.images.files import open_frames, open_stack, write_volume
from scopekit.images.voxel import known_steps, um_per_unit

STACK = np.random.default_rng(0).random((4, 6, 5), dtype=np.float32)


@pytest.mark.parametrize(
    ("names", "um"),
    [
        (("um", "µm", "μm", "µ", r"\u00B5m", r"\u03BCm", "micron", "microns", "MICRON"), 1),
        (("micrometer", "micrometers", "micrometre", " Micrometer "), 1),
        (("nm", "nanometer", "nanometres"), 1e-3),
        (("mm", "millimeter", "cm", "centimetre"), None),
        (("Å", "angstrom", "Angstroms", "ångström"), 1e-4),
        (("pm", "picometer"), 1e-6),
        (("inch", "in", "inches"), 25400),
        (("m", "meter", "metres"), 1e6),
        (("pixel", "", "None", "sec", "reference frame", "umm"), None),
    ],
)
def test_units(names, um):
    if "mm" in names:
        assert [um_per_unit(name) for name in names] == [1e3, 1e3, 1e4, 1e4]
    else:
        assert [um_per_unit(name) for name in names] == [um] * len(names)


def imagej(path, *lines, resolution=(5, 5)):
    description = "\n".join(("ImageJ=1.54f", "images=4", "slices=4", *lines, ""))
    plain = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, STACK, description=description, resolution=resolution, **plain)


def ome(path, **sizes):
    tifffile.imwrite(
        path, STACK, ome=True, photometric="minisblack", metadata={"axes": "ZYX"} | sizes
    )


def ngff(path, units, scale):
    zarr = pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    axes = [
        {"name": name, "type": "space"} | ({"unit": unit} if unit else {})
        for name, unit in zip("zyx", units, strict=True)
    ]
    transformations = [{"type": "scale", "scale": scale}]
    image = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
    }
    ome = {"version": "0.5", "multiscales": [image]}
    group = zarr.create_group(path, attributes={"ome": ome})
    group.create_array("0", shape=STACK.shape, dtype=STACK.dtype)[...] = STACK


def told(path):
    steps = open_stack(path).steps
    return steps.z_um, steps.y_um, steps.x_um


@pytest.mark.parametrize(
    ("unit", "spacing", "resolution"),
    [
        ("micrometer", 10, 1),
        (r"\u03BCm", 10, 1),
        ("cm", 1e-3, 1e4),
        ("m", 1e-5, 1e6),
        ("inch", 10 / 25400, 25400),
        ("nm", 10000, 1e-3),
    ],
)
def test_units_of_imagej(tmp_path, unit, spacing, resolution):
    imagej(tmp_path / "a.tif", f"unit={unit}", f"spacing={spacing}", resolution=(resolution,) * 2)
    assert told(tmp_path / "a.tif") == pytest.approx((10, 1, 1), rel=1e-4)
    assert open_stack(tmp_path / "a.tif").steps.source == "ImageJ metadata"


def test_imagej_may_have_a_unit_for_each_axis(tmp_path):
    lines = ("unit=um", "yunit=nm", "zunit=mm", "spacing=0.0008")
    imagej(tmp_path / "a.tif", *lines, resolution=(5, 0.005))
    assert told(tmp_path / "a.tif") == pytest.approx((0.8, 0.2, 0.2))


@pytest.mark.parametrize("unit", ["m", "Å", "pm", "inch", "mm", "µm"])
def test_units_of_ome(tmp_path, unit):
    um = um_per_unit(unit)
    sizes = {f"PhysicalSize{a}": n / um for a, n in zip("ZYX", (0.8, 0.3, 0.2), strict=True)}
    ome(tmp_path / "a.ome.tif", **sizes, **{f"PhysicalSize{a}Unit": unit for a in "ZYX"})
    assert told(tmp_path / "a.ome.tif") == pytest.approx((0.8, 0.3, 0.2))


@pytest.mark.parametrize("unit", ["micrometer", "micron", "centimeter", "inch", "angstrom", "m"])
def test_units_of_zarr(tmp_path, unit):
    um = um_per_unit(unit)
    ngff(tmp_path / "a.zarr", [unit] * 3, [0.8 / um, 0.3 / um, 0.2 / um])
    assert told(tmp_path / "a.zarr") == pytest.approx((0.8, 0.3, 0.2))


def test_what_is_not_told_stays_unknown(tmp_path):
    imagej(tmp_path / "a.tif", "unit=um")
    assert told(tmp_path / "a.tif") == (None, 0.2, 0.2)
    imagej(tmp_path / "b.tif", "unit=pixel", "spacing=2")
    assert told(tmp_path / "b.tif") == (None, None, None)
    ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.2, PhysicalSizeY=0.2)
    assert told(tmp_path / "a.ome.tif") == (None, 0.2, 0.2)
    ngff(tmp_path / "a.zarr", [None, "micrometer", "micrometer"], [1, 0.2, 0.2])
    assert told(tmp_path / "a.zarr") == (None, 0.2, 0.2)
    for name in ("a.tif", "b.tif", "a.ome.tif", "a.zarr"):
        assert open_stack(tmp_path / name).voxel_um is None


@pytest.mark.parametrize(
    "voxel_um", [(None, 0.2, 0.3), (None, None, None), (0.5, None, None), (0.5, 0.2, 0.3)]
)
def test_what_is_unknown_is_not_written(tmp_path, voxel_um):
    write_volume(tmp_path / "a.tif", STACK, voxel_um, overwrite=False)
    for found, written in zip(told(tmp_path / "a.tif"), voxel_um, strict=True):
        assert found == (written and pytest.approx(written))


ABSURD = ("0", "nan", "inf", "-inf", "8e-7", "0,8", "1e9", "wide")


@pytest.mark.parametrize("value", ABSURD)
def test_absurd_steps_of_imagej_are_refused_by_name(tmp_path, value):
    imagej(tmp_path / "a.tif", "unit=um", f"spacing={value}")
    with pytest.raises(UserError, match=r"a\.tif: its ImageJ metadata give .* um along z"):
        open_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [*ABSURD, "-0.2"])
def test_absurd_steps_of_ome_are_refused_by_name(tmp_path, value):
    path = tmp_path / "a.ome.tif"
    ome(path, PhysicalSizeX=0.2, PhysicalSizeY=0.2, PhysicalSizeZ=0.8125)
    path.write_bytes(path.read_bytes().replace(b'"0.8125"', f'"{value:6}"'.encode()))
    with pytest.raises(UserError, match=r"its OME metadata give a step of .* µm along z"):
        open_stack(path)


@pytest.mark.parametrize("value", ["0", "-0.2", "NaN", "Infinity", "8e-7", '"0,8"'])
def test_absurd_steps_of_zarr_are_refused(tmp_path, value):
    path = tmp_path / "a.zarr"
    ngff(path, ["micrometer"] * 3, [0.8125, 0.2, 0.2])
    file = path / "zarr.json"
    file.write_text(file.read_text().replace("0.8125", value))
    assert json.loads(file.read_text())
    with pytest.raises(UserError, match=r"a\.zarr: .*metadata"):
        open_stack(path)


def test_a_step_that_is_not_used_is_not_asked_for(tmp_path):
    description = "ImageJ=1.54f\nimages=3\nframes=3\nunit=um\nspacing=0\n"
    plain = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", STACK[:3], description=description, **plain)
    assert open_frames(tmp_path / "a.tif").n_frames == 3


def test_limits(tmp_path):
    for value in (0.001, 1e4):
        assert known_steps(tmp_path, "header", x=(value, "um")).x_um == value
    for value in (0.00099, 1.1e4):
        with pytest.raises(UserError, match="which no light microscope has"):
            known_steps(tmp_path, "header", x=(value, "um"))
