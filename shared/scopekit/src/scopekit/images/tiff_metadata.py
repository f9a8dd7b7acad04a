"""Voxel sizes in TIFF metadata, as ImageJ writes them."""

from typing import Any

import numpy as np

from scopekit.images.voxel import PartialVoxelSize

# Offsets in the file have 32 bits; the margin is for the directories of the pages.
_LARGEST_WITH_DIRECTORIES = 2**32 - 2**28


def imagej_arguments(
    shape: tuple[int, ...], dtype: np.dtype[Any], voxel_um: PartialVoxelSize
) -> dict[str, Any]:
    """Return the arguments with which tifffile writes an ImageJ file of this voxel size.

    What is unknown of it is not written.
    """
    z_um, y_um, x_um = voxel_um
    metadata: dict[str, Any] = {"axes": "TZYX"[-len(shape) :]}
    arguments: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if y_um is not None and x_um is not None:
        metadata["unit"] = "um"
        arguments["resolution"] = (1 / x_um, 1 / y_um)
    if z_um is not None:
        metadata["spacing"] = z_um
        # Without a resolution a unit would mean 1 um a pixel.
        metadata |= {"zunit": "um"} if "unit" not in metadata else {}
    # ImageJ's own way beyond 4 GB: one directory, all pages behind it.
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    arguments["truncate"] = n_bytes > _LARGEST_WITH_DIRECTORIES
    return arguments
