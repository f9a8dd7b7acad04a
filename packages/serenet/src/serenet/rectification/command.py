"""The commands ``serenet rectify`` and ``serenet calibrate``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    DaskOption,
    FramesAreOption,
    OverwriteOption,
    PositionOption,
    select,
    whole_numbers,
)
from serenet.options import MICROSCOPE_HELP, MICROSCOPE_METAVAR


def rectify(
    raw: Annotated[list[Path], typer.Argument(help="Camera frames (TIFF, PNG), in time order.")],
    microscope: Annotated[str, typer.Option(metavar=MICROSCOPE_METAVAR, help=MICROSCOPE_HELP)],
    out: Annotated[Path, typer.Option(help="View stack to write (.tif, .ome.zarr).")],
    radiometry: Annotated[
        Path | None,
        typer.Option(
            help="Frame of homogeneous fluorescence; without one there is no flat field.",
            show_default=False,
        ),
    ] = None,
    dark: Annotated[
        Path | None, typer.Option(help="Frame without light.", show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibration YAML of an earlier run, instead of --radiometry.",
            show_default=False,
        ),
    ] = None,
    rectified: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The frames have N pixels a microlens side already.",
            show_default=False,
        ),
    ] = None,
    scan_order: Annotated[
        str | None,
        typer.Option(
            help="Scanned series: the position 3 row + column of every frame in turn.",
            show_default="6,7,8,5,2,1,0,3,4",
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    dask: DaskOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Turn raw camera frames into views: find the microlenses, flat-field, resample.

    Without a radiometry frame the microlenses are looked for in the frames themselves. OME-Zarr is
    written time point by time point: an interrupted run goes on, and --dask spreads them.

    Example: **serenet rectify raw.tif --radiometry flat.tif --microscope my.yaml --out views.tif**
    """
    from scopekit.outputs import claimed
    from serenet.rectification.files import rectify_files
    from serenet.views.microscope import load_microscope

    with claimed(out.with_suffix("")):
        lattice = rectify_files(
            raw,
            out,
            load_microscope(microscope),
            radiometry=radiometry,
            dark=dark,
            calibration=calibration,
            rectified=rectified,
            scan_order=whole_numbers(scan_order, "--scan-order"),
            selection=select(channel, position, frames_are),
            dask=dask,
            overwrite=overwrite,
        )
    print(
        f"{out}: {lattice.rows} x {lattice.columns} microlenses, pitch {lattice.pitch_y:.3f} x "
        f"{lattice.pitch_x:.3f} pixels, rotation {lattice.rotation_deg:.3f} degrees"
    )


def calibrate(
    views: Annotated[list[Path], typer.Argument(help="Stacks of all views, from 'rectify'.")],
    microscope: Annotated[str, typer.Option(metavar=MICROSCOPE_METAVAR, help=MICROSCOPE_HELP)],
    out: Annotated[Path, typer.Option(help="Corrected microscope to write (YAML).")],
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Fit the focal length of the microlenses to the views that receive light.

    Light fields do not tell the sign of z: planes in reverse order give the views in reverse order.
    They do not tell either whether the focal length or the aperture is other than supposed.

    Example: **serenet calibrate views.tif --microscope my.yaml --out corrected.yaml**
    """
    from serenet.rectification.aperture import calibrate_files
    from serenet.views.microscope import load_microscope

    told = load_microscope(microscope)
    selection = select(channel, position, frames_are)
    found = calibrate_files(views, told, out, selection=selection, overwrite=overwrite)
    row, column = found.centre
    print(
        f"{out}: microlens_focal_length_um {found.microscope.microlens_focal_length_um:g}, was "
        f"{told.microlens_focal_length_um:g} (or numerical_aperture {found.aperture_instead:g}, "
        f"was {told.numerical_aperture:g}: the views do not tell which). Unexplained of the "
        f"brightness among the views: {found.misfit:.1%}, was {found.misfit_before:.1%}. Middle of "
        f"the aperture: {row:+.2f} rows, {column:+.2f} columns from the central view. Not told by "
        "light fields: the sign of z"
    )
