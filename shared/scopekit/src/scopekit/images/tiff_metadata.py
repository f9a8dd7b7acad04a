"""Voxel sizes in TIFF metadata: ImageJ's and OME's, read; ImageJ's, written."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

_UM_PER_UNIT = {
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
}
# Offsets in the file have 32 bits; the margin is for the directories of the pages.
_LARGEST_WITH_DIRECTORIES = 2**32 - 2**28


def read_voxel_um(tif: tifffile.TiffFile) -> tuple[float, float, float] | None:
    """Return the (z, y, x) step in um from OME or ImageJ metadata, or None if neither tells it."""
    if tif.is_ome and tif.ome_metadata:
        return _from_ome(tif.ome_metadata)
    if tif.imagej_metadata:
        return _from_imagej(tif.imagej_metadata, tif.pages.first.tags)
    return None


def _from_ome(xml: str) -> tuple[float, float, float] | None:
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None:
        return None
    z, y, x = (_ome_length_um(pixels, axis) for axis in "ZYX")
    return (z or 1.0, y, x) if y and x else None


def _ome_length_um(pixels: ElementTree.Element, axis: str) -> float | None:
    length = pixels.get(f"PhysicalSize{axis}")
    um_per_unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return float(length) * um_per_unit if length and um_per_unit else None


def _from_imagej(
    metadata: dict[str, Any], tags: tifffile.TiffTags
) -> tuple[float, float, float] | None:
    # ImageJ escapes the micro sign.
    unit = re.sub(r"\\u00[bB]5", "µ", str(metadata.get("unit", "")))
    um_per_unit = _UM_PER_UNIT.get(unit)
    if um_per_unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
    if not (x_pixels and y_pixels and x_units and y_units):
        return None
    # ImageJ writes negative spacings for some stacks and ignores the sign.
    z = abs(float(metadata.get("spacing", 1.0)))
    return (z * um_per_unit, y_units / y_pixels * um_per_unit, x_units / x_pixels * um_per_unit)


def imagej_arguments(
    shape: tuple[int, ...], dtype: np.dtype, voxel_um: tuple[float, float, float]
) -> dict[str, Any]:
    """Return the arguments with which tifffile writes an ImageJ file of this voxel size."""
    z_um, y_um, x_um = voxel_um
    return {
        "imagej": True,
        "resolution": (1 / x_um, 1 / y_um),
        "metadata": {"axes": "TZYX"[-len(shape) :], "spacing": z_um, "unit": "um"},
        # ImageJ's own way beyond 4 GB: one directory, all pages behind it.
        "truncate": int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        > _LARGEST_WITH_DIRECTORIES,
    }
