"""Voxel sizes in TIFF metadata: OME's, ImageJ's, ScanImage's and Micro-Manager's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from scopekit.images.readers.scanimage import scanimage_steps
from scopekit.images.voxel import UNKNOWN, Steps, known_steps


def read_steps(path: Path, tif: tifffile.TiffFile, image: int, *, of_planes: bool) -> Steps:
    """Return what the metadata tell about the voxel size.

    Parameters
    ----------
    path
        The file.
    tif
        The same, open.
    image
        Number of the image, where there are several.
    of_planes
        Whether there are several planes: else no step is asked for between them.

    Raises
    ------
    UserError
        If a step is absurd.
    """
    steps = UNKNOWN
    if tif.is_ome and tif.ome_metadata:
        steps = _from_ome(path, tif.ome_metadata, image, of_planes)
    elif tif.imagej_metadata:
        steps = _from_imagej(path, tif.imagej_metadata, tif.pages.first.tags, of_planes)
    else:
        steps = scanimage_steps(path, tif, of_planes=of_planes) or UNKNOWN
    if steps == UNKNOWN and tif.is_micromanager:
        steps = _from_micromanager(path, tif, of_planes)
    return steps


def _from_ome(path: Path, xml: str, image: int, of_planes: bool) -> Steps:
    every = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    if image >= len(every):
        return UNKNOWN
    pixels = every[image]
    z, y, x = (
        (pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    return known_steps(path, "OME metadata", z=z if of_planes else None, y=y, x=x)


def _from_imagej(
    path: Path, metadata: Mapping[str, Any], tags: tifffile.TiffTags, of_planes: bool
) -> Steps:
    unit, spacing = metadata.get("unit"), metadata.get("spacing")
    # ImageJ writes negative spacings for some stacks and ignores the sign.
    if isinstance(spacing, int | float):
        spacing = abs(spacing)
    return known_steps(
        path,
        "ImageJ metadata",
        z=(spacing, metadata.get("zunit", unit)) if of_planes else None,
        y=(_units_a_pixel(tags, "YResolution"), metadata.get("yunit", unit)),
        x=(_units_a_pixel(tags, "XResolution"), unit),
    )


def _units_a_pixel(tags: tifffile.TiffTags, name: str) -> float | None:
    """Return the side of a pixel: ImageJ means the resolution in pixels a unit; 0 is none."""
    if name not in tags:
        return None
    pixels, units = tags[name].value
    return units / pixels if pixels and units else None


def _from_micromanager(path: Path, tif: tifffile.TiffFile, of_planes: bool) -> Steps:
    summary = (tif.micromanager_metadata or {}).get("Summary") or {}
    tag = tif.pages.first.tags.get(51123)
    page = tag.value if tag is not None and isinstance(tag.value, dict) else {}
    # 0 stands for none.
    side = (page.get("PixelSizeUm") or summary.get("PixelSize_um") or None, "um")
    z = (summary.get("z-step_um") or None, "um") if of_planes else None
    return known_steps(path, "Micro-Manager metadata", z=z, y=side, x=side)
