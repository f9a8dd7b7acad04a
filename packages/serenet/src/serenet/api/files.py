"""Views, volumes and microscopes from files, and volumes to files."""

from pathlib import Path
from typing import Literal

import numpy as np

from optics import LightFieldMicroscope, open_psf
from scopekit.errors import UserError
from scopekit.images.files import Selection, StackFile, VoxelSize, open_stack
from scopekit.images.files import write_volume as write_file
from serenet.api.arrays import AnyArray, ScaledArray, voxel_of
from serenet.api.sources import is_psf_file
from serenet.views.files import open_views
from serenet.views.microscope import load_microscope as load_described


def load_microscope(name_or_file: str | Path) -> LightFieldMicroscope:
    """Load a microscope by name, or from its YAML file or a PSF file.

    Parameters
    ----------
    name_or_file
        ``nnum13``, ``nnum15``, the path of a ``.yaml`` that describes the optics, or of a PSF file.

    Returns
    -------
    optics.LightFieldMicroscope
        Its optics, the views used (``views``), the planes (``depths_um``), and what follows from
        them: ``voxel_um``, ``lateral_scale``, ``psf_size``. ``with_middle_depths(9)`` and
        ``with_views(...)`` return it with fewer.

    Raises
    ------
    UserError, optics.OpticsError
        If there is no such name or file, or naming every wrong or missing key.

    Examples
    --------
    >>> import serenet
    >>> microscope = serenet.load_microscope("nnum13").with_middle_depths(9)
    >>> len(microscope.views), len(microscope.depths_um)
    (49, 9)
    >>> [round(n, 3) for n in microscope.voxel_um]
    [0.2, 0.122, 0.122]
    """
    if not is_psf_file(name_or_file):
        return load_described(str(name_or_file))
    microscope = open_psf(Path(name_or_file)).microscope
    if microscope is None:
        raise UserError(
            f"{name_or_file}: does not tell its microscope; give that by name or as a YAML file"
        )
    return microscope


def read_views(
    path: str | Path,
    microscope: LightFieldMicroscope | str | Path | None = None,
    *,
    frame: int = 0,
    channel: int | None = None,
    position: int | None = None,
    frames_are: Literal["planes"] | None = None,
) -> ScaledArray:
    """Read the views of a light field: TIFF of any dialect, OME-Zarr, ND2, NPY or PT.

    Parameters
    ----------
    path
        (A, Y, X), or a series (T, A, Y, X).
    microscope
        Or what `load_microscope` takes. Its views are taken, in its order; the file holds all
        n_num^2 or just those. Without one all are, as they lie in the file.
    frame
        Time point of a series, counted from 0.
    channel, position
        Which one, from 0, of a file of several.
    frames_are
        ``planes`` if what the file calls time points or channels is views.

    Returns
    -------
    ScaledArray
        (A, Y, X), float32, as recorded: subtract the background next. ``voxel_um`` is what the
        file tells; else the pixel of the microscope's views, with 1 for z; else ``None``.

    Raises
    ------
    UserError
        If the file is missing, damaged, holds NaN, other views, or no such time point; or has
        several channels or positions, and none is named.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> serenet.write_volume("views.tif", np.ones((49, 12, 12)), (1, 0.5, 0.5))
    >>> serenet.read_views("views.tif", "nnum13").shape
    (49, 12, 12)
    """
    selection = Selection(channel, position, frames_are)
    if isinstance(microscope, str | Path):
        microscope = load_microscope(microscope)
    if microscope is None:
        stack, pages, pixel_um = open_stack(Path(path), selection), None, None
    else:
        stack, pages = open_views(Path(path), microscope, selection)
        pixel_um = microscope.view_pixel_um
    y_um, x_um = stack.steps.y_um or pixel_um, stack.steps.x_um or pixel_um
    views = _read(stack, frame)
    size = (1.0, y_um, x_um) if y_um and x_um else None
    return ScaledArray(views if pages is None else views[pages], size)


def read_volume(
    path: str | Path,
    *,
    frame: int = 0,
    channel: int | None = None,
    position: int | None = None,
    frames_are: Literal["planes"] | None = None,
) -> ScaledArray:
    """Read a volume: TIFF of any dialect, OME-Zarr, ND2, NPY or PT.

    Parameters
    ----------
    path
        (Z, Y, X), or a series (T, Z, Y, X).
    frame
        Time point of a series, counted from 0.
    channel, position
        Which one, from 0, of a file of several.
    frames_are
        ``planes`` if what the file calls time points or channels is planes.

    Returns
    -------
    ScaledArray
        (Z, Y, X), float32; ``voxel_um`` is what the file tells, or ``None``.

    Raises
    ------
    UserError
        If the file is missing, damaged, holds NaN, or no such time point; or has several channels
        or positions, and none is named.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> serenet.write_volume("cell.tif", np.ones((3, 8, 8)), (0.5, 0.25, 0.25))
    >>> volume = serenet.read_volume("cell.tif")
    >>> volume.shape, volume.voxel_um
    ((3, 8, 8), (0.5, 0.25, 0.25))
    """
    stack = open_stack(Path(path), Selection(channel, position, frames_are))
    return ScaledArray(_read(stack, frame), stack.voxel_um)


def _read(stack: StackFile, frame: int) -> np.ndarray:
    if not 0 <= frame < stack.n_frames:
        raise UserError(f"{stack.path}: no time point {frame}; it has {stack.n_frames}, from 0")
    return stack.read(frame)


def write_volume(
    path: str | Path,
    volume: AnyArray,
    voxel_um: VoxelSize | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a volume, or views, as float32 TIFF that ImageJ, Fiji and napari read.

    Parameters
    ----------
    path
        The ``.tif`` to write; it appears when it is whole.
    volume
        (Z, Y, X), or a series (T, Z, Y, X).
    voxel_um
        (z, y, x) step in um; default: what ``volume`` carries.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    UserError
        If the file exists, the disk is full, or the shape is no volume's.
    ValueError
        If the voxel size is not known.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> serenet.write_volume("dark.tif", np.zeros((3, 8, 8)), (0.2, 0.1, 0.1))
    """
    size = voxel_um or voxel_of(volume)
    if size is None:
        raise ValueError("the volume carries no voxel size: give voxel_um=(z, y, x) in um")
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"{path}: volumes are written as TIFF; give a name ending in .tif")
    values = np.asarray(volume.detach().cpu() if not isinstance(volume, np.ndarray) else volume)
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise UserError(f"{path}: shape {values.shape}; give (Z, Y, X) or (T, Z, Y, X)")
    write_file(Path(path), values.astype(np.float32), size, overwrite=overwrite)
