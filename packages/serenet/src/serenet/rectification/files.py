"""``serenet rectify``: camera files to a file of views, with its calibration and a picture."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from optics import LightFieldMicroscope
from scopekit.errors import Page, UserError
from scopekit.images.files import WHOLE_FILE, Selection, StackFile, VolumeWriter, open_frames
from scopekit.images.target import require_finite
from scopekit.inputs import sha256_of
from scopekit.outputs import require_new
from scopekit.progress import progress_bar, say
from scopekit.settings import read_yaml, write_yaml
from serenet.rectification.lattice import Lattice, find_lattice, rectified_lattice
from serenet.rectification.picture import save_lattice_picture
from serenet.rectification.resampling import (
    flat_field,
    rectify_series,
    require_fit,
)
from serenet.views.files import require_tiff
from serenet.views.scan import require_order


class Calibration(BaseModel):
    """What rectifying another frame of the same microscope needs; kept as YAML.

    Attributes
    ----------
    lattice
        The microlenses.
    radiometry, radiometry_sha256
        The frame of homogeneous fluorescence behind the flat field (and the lattice), and its
        fingerprint; without one nothing is divided by a flat field.
    dark
        The dark frame, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lattice: Lattice
    radiometry: Path | None = None
    radiometry_sha256: str | None = None
    dark: Path | None = None


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
    overwrite: bool = False,
) -> Lattice:
    """Rectify camera files into a TIFF of views, with a calibration file and a picture beside it.

    Written are ``out`` (A, Y, X), or (T, A, Y, X) if there is light for several time points;
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
    overwrite
        Whether existing results may be replaced.

    Returns
    -------
    Lattice
        The microlenses found, or those of the calibration.

    Raises
    ------
    UserError
        If a file is unfit, the lattice is missing or not the microscope's, or a result exists.
    """
    yaml, picture = (out.with_name(out.stem + end) for end in ("_calibration.yaml", "_lattice.png"))
    require_tiff(out)
    inputs = [path for path in (*raw, radiometry, dark) if path is not None]
    for path in (out, yaml, picture):
        require_new(path, overwrite=overwrite, inputs=inputs)
    order = require_order(scan_order, microscope.scanning)

    # Frames for calibration may have but one channel.
    still = replace(selection, where_several=True)
    setting = _calibrate(raw[0], radiometry, dark, calibration, rectified, still)
    lattice = setting.lattice
    require_fit(lattice, microscope, str(calibration or setting.radiometry or raw[0]))
    dark_frame = mean_frame(setting.dark, still, lattice.frame_shape) if setting.dark else None
    bright_frame = None
    if setting.radiometry is not None:
        bright_frame = mean_frame(setting.radiometry, still, lattice.frame_shape)
    stacks = [open_frames(path, selection) for path in raw]
    for stack in stacks:
        _require_shape(stack, lattice.frame_shape)
    n_frames, n_scan = sum(stack.n_frames for stack in stacks), microscope.scanning**2
    if n_frames == 0 or n_frames % n_scan:
        raise UserError(
            f"{', '.join(map(str, raw))}: {n_frames} frames; the microscope scans "
            f"{microscope.scanning} x {microscope.scanning} positions, so give a multiple of "
            f"{n_scan} frames",
            page=Page.rectifying,
        )

    flat = flat_field(bright_frame, lattice, microscope.n_num, dark_frame)
    drawn = mean_frame(raw[0], still) if bright_frame is None else bright_frame
    n_times = n_frames // n_scan
    shape = (
        microscope.n_num**2,
        lattice.rows * microscope.scanning,
        lattice.columns * microscope.scanning,
    )
    step_um = microscope.view_pixel_um
    frames = _frames(stacks)
    with (
        VolumeWriter(
            out,
            (n_times, *shape) if n_times > 1 else shape,
            (None, step_um, step_um),
            overwrite=overwrite,
        ) as writer,
        progress_bar("rectify", n_frames) as advance,
    ):
        series = rectify_series(frames, lattice, flat, order, dark_frame, advance)
        for target, views in zip(writer.array.reshape(n_times, *shape), series, strict=True):
            require_finite(views)
            target[:] = views
            writer.release()
    write_yaml(yaml, setting.model_dump(mode="json"), overwrite=overwrite)
    save_lattice_picture(picture, drawn, lattice, overwrite=overwrite)
    return lattice


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


def calibration_of(
    lattice: Lattice, radiometry: Path | None, dark: Path | None = None
) -> Calibration:
    """Return what to keep of a lattice that was found in these files."""
    return Calibration(
        lattice=lattice,
        radiometry=radiometry and radiometry.resolve(),
        radiometry_sha256=None if radiometry is None else sha256_of(radiometry),
        dark=dark and dark.resolve(),
    )


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


def read_calibration(path: Path) -> Calibration:
    """Read a calibration; raise `UserError` unless its radiometry frame is there, unchanged."""
    content = read_yaml(path)
    try:
        setting = Calibration.model_validate(content)
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path}: not a calibration of `serenet rectify` ({where}: {first['msg']}); "
            "calibrate again with a radiometry frame",
            page=Page.rectifying,
        ) from failure
    if setting.radiometry is not None and not setting.radiometry.is_file():
        raise UserError(
            f"{path}: its radiometry frame {setting.radiometry} is missing; correct that line or "
            "calibrate again",
            page=Page.rectifying,
        )
    if setting.radiometry and sha256_of(setting.radiometry) != setting.radiometry_sha256:
        raise UserError(
            f"{path}: its radiometry frame {setting.radiometry} has changed since; calibrate again",
            page=Page.rectifying,
        )
    return setting


def mean_frame(
    path: Path, selection: Selection = WHOLE_FILE, shape: tuple[int, ...] | None = None
) -> NDArray[np.float32]:
    """Return the mean of all frames of a file, which must have ``shape`` if that is given."""
    stack = open_frames(path, selection)
    if shape is not None:
        _require_shape(stack, shape)
    total = sum((frame.astype(np.float64) for frame in _frames([stack])), np.zeros(()))
    return (total / stack.n_frames).astype(np.float32)


def _frames(stacks: Sequence[StackFile]) -> Iterator[NDArray[np.float32]]:
    for stack in stacks:
        for t in range(stack.n_frames):
            yield stack.read(t)[0]


def _require_shape(stack: StackFile, shape: tuple[int, ...]) -> None:
    if stack.shape[-2:] != shape:
        raise UserError(
            f"{stack.path}: frames of {stack.shape[-2]} x {stack.shape[-1]} pixels, but the "
            f"radiometry frame has {shape[0]} x {shape[1]}; record them with one camera setting"
        )
