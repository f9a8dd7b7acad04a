"""``serenet rectify``: camera files to a file of views, with its calibration and a picture."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optics import LightFieldMicroscope
from scopekit.errors import Page, UserError
from scopekit.images.files import (
    WHOLE_FILE,
    PartialVoxelSize,
    Selection,
    StackFile,
    VolumeWriter,
    is_zarr,
    open_frames,
    stack_stem,
)
from scopekit.images.target import Target
from scopekit.inputs import sha256_of
from scopekit.outputs import require_new, require_no_input
from scopekit.progress import progress_bar, say
from scopekit.series.dask import require_scheduler
from scopekit.settings import write_yaml
from serenet.rectification.calibration import (
    Calibration,
    calibration_of,
    mean_frame,
    read_calibration,
    require_shape,
)
from serenet.rectification.lattice import Lattice, find_lattice, rectified_lattice
from serenet.rectification.picture import save_lattice_picture
from serenet.rectification.resampling import require_fit, require_other_frame, swapped_frames
from serenet.rectification.series import RectifiedFrames, rectified_frames, write_series
from serenet.views.files import require_tiff
from serenet.views.scan import require_order


def rectify_files(
    raw: Sequence[Path],
    out: Path,
    microscope: LightFieldMicroscope,
    *,
    radiometry: Path | None = None,
    dark: Path | None = None,
    calibration: Path | None = None,
    rectified: int | None = None,
    scan_order: Sequence[int] | None = None,
    selection: Selection = WHOLE_FILE,
    dask: str | None = None,
    overwrite: bool = False,
) -> Lattice:
    """Rectify camera files into a TIFF of views, with a calibration file and a picture beside it.

    Written are ``out`` (A, Y, X), or (T, A, Y, X) if there is light for several time points, as
    OME-Zarr if it is named so, which is made time point by time point and may be interrupted;
    ``<out>_calibration.yaml``, to be given as ``calibration`` for further frames; and
    ``<out>_lattice.png``, the lattice drawn over the radiometry frame.

    Parameters
    ----------
    raw
        TIFF files of one or many frames, all in the order of exposure. A scanned microscope's
        are merged by ``microscope.scanning ** 2``.
    out
        The views to write.
    microscope
        The microscope.
    radiometry, dark
        TIFF files; several frames are averaged.
    calibration
        An earlier calibration file, instead of ``radiometry``.
    rectified
        The frames, and the radiometry frame if there is one, have this many pixels a microlens
        side already. Without this, calibration and radiometry the lattice is looked for in the
        frames themselves.
    scan_order
        See `interlace`; default for 3 x 3 positions: 6 7 8 5 2 1 0 3 4.
    selection
        Which channel and position of every file that has several.
    dask
        Scheduler of a cluster whose workers do the time points of an OME-Zarr store.
    overwrite
        Whether existing results may be replaced.

    Returns
    -------
    Lattice
        The microlenses found, or those of the calibration.

    Raises
    ------
    UserError
        If a file is unfit or is the radiometry frame, the lattice is missing or not the
        microscope's, or a result exists.
    """
    stem, as_store = stack_stem(out), is_zarr(out)
    yaml, picture = (out.with_name(stem + end) for end in ("_calibration.yaml", "_lattice.png"))
    if not as_store:
        require_tiff(out)
    if dask is not None:
        if not as_store:
            raise UserError(f"`dask`: workers write OME-Zarr; {out}: give a name in .ome.zarr")
        require_scheduler(dask)
    inputs = [path for path in (*raw, radiometry, dark) if path is not None]
    if as_store:
        require_no_input(out, inputs)
    for path in (yaml, picture) if as_store else (out, yaml, picture):
        require_new(path, overwrite=overwrite, inputs=inputs)
    order = require_order(scan_order, microscope.scanning)

    # Frames for calibration may have but one channel.
    still = replace(selection, where_several=True)
    setting = _calibrate(raw[0], radiometry, dark, calibration, rectified, still)
    lattice = setting.lattice
    require_fit(lattice, microscope, str(calibration or setting.radiometry or raw[0]))
    stacks = [open_frames(path, selection) for path in raw]
    for stack in stacks:
        require_shape(stack, lattice.frame_shape)
    if setting.radiometry is not None:
        _require_other_frames(raw, stacks, setting.radiometry, lattice, still)
    n_frames, n_scan = sum(stack.n_frames for stack in stacks), microscope.scanning**2
    if n_frames == 0 or n_frames % n_scan:
        raise UserError(
            f"{', '.join(map(str, raw))}: {n_frames} frames; the microscope scans "
            f"{microscope.scanning} x {microscope.scanning} positions, so give a multiple of "
            f"{n_scan} frames",
            page=Page.rectifying,
        )

    source = rectified_frames(raw, microscope, setting, order, selection)
    voxel_um = (None, microscope.view_pixel_um, microscope.view_pixel_um)
    n_times = n_frames // n_scan
    if as_store:
        write_series(out, source, n_times, voxel_um, dask=dask, overwrite=overwrite)
    else:
        _write_tiff(out, source, n_times, voxel_um, overwrite=overwrite)
    if setting.radiometry is None:
        drawn = mean_frame(raw[0], still)
    else:
        drawn = mean_frame(setting.radiometry, still)
    write_yaml(yaml, setting.model_dump(mode="json"), overwrite=overwrite)
    save_lattice_picture(picture, drawn, lattice, overwrite=overwrite)
    return lattice


def _require_other_frames(
    raw: Sequence[Path],
    stacks: Sequence[StackFile],
    radiometry: Path,
    lattice: Lattice,
    still: Selection,
) -> None:
    """Refuse camera files that are the radiometry frame, or begin with it; warn if swapped."""
    bright, size = mean_frame(radiometry, still), radiometry.stat().st_size
    for path, stack in zip(raw, stacks, strict=True):
        # A long series would take long to be averaged, or to be read at all.
        is_one = path.is_file() and path.stat().st_size == size
        is_one = is_one and sha256_of(path) == sha256_of(radiometry)
        first = bright if is_one else stack.read(0)[0]
        require_other_frame(first, bright, str(path))
        doubt = swapped_frames(first, bright, lattice)
        if doubt:
            say(f"warning: {path}: {doubt}")


def _write_tiff(
    out: Path, source: RectifiedFrames, n_times: int, voxel_um: PartialVoxelSize, *, overwrite: bool
) -> None:
    opened = source.open()
    shape = opened.volume_shape
    with (
        VolumeWriter(
            out, (n_times, *shape) if n_times > 1 else shape, voxel_um, overwrite=overwrite
        ) as writer,
        progress_bar("rectify", n_times) as advance,
    ):
        for time_point, views in enumerate(writer.array.reshape(n_times, *shape)):
            opened.solve(opened.stack, time_point, Target(views))
            writer.release()
            advance()


def _calibrate(
    raw: Path,
    radiometry: Path | None,
    dark: Path | None,
    calibration: Path | None,
    rectified: int | None,
    selection: Selection,
) -> Calibration:
    """Find the lattice, or read it from an earlier calibration."""
    if calibration is not None:
        if radiometry is not None or rectified is not None:
            raise UserError(
                "give either `radiometry=FRAME.tif` or `calibration=FILE.yaml`, and `rectified=N` "
                "with neither or with the first",
                page=Page.rectifying,
            )
        setting = read_calibration(calibration)
        return setting.model_copy(update={"dark": dark.resolve()}) if dark else setting
    source = raw if radiometry is None else radiometry
    bright = mean_frame(source, selection)
    if rectified is not None:
        lattice = _named(source, lambda: rectified_lattice(bright.shape, rectified))
    else:
        if dark is not None:
            bright = bright - mean_frame(dark, selection, bright.shape)
        if radiometry is None:
            say(
                f"{raw}: no radiometry frame: the microlenses are looked for in the frame itself, "
                "and there is no flat field; look at the picture of the lattice"
            )
        lattice = _named(source, lambda: _lattice_of(bright, is_flat=radiometry is not None))
    return calibration_of(lattice, radiometry, dark)


def _lattice_of(frame: NDArray[np.float32], *, is_flat: bool) -> Lattice:
    try:
        return find_lattice(frame)
    except UserError as failure:
        if is_flat:
            raise
        raise UserError(
            "its microlenses are not distinct enough; give `radiometry=FRAME.tif` (homogeneous "
            "fluorescence), `calibration=FILE.yaml`, or `rectified=N`",
            page=Page.rectifying,
        ) from failure


def _named(source: Path, find: Callable[[], Lattice]) -> Lattice:
    try:
        return find()
    except UserError as failure:
        raise UserError(f"{source}: {failure}") from failure
