"""The command ``serenet refocus``."""

from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    FramesAreOption,
    OutFolderOption,
    OverwriteOption,
    PositionOption,
    select,
    whole_numbers,
)
from serenet.options import MICROSCOPE_HELP, MICROSCOPE_METAVAR, InputsArgument


def refocus(
    inputs: InputsArgument,
    microscope: Annotated[str, typer.Option(metavar=MICROSCOPE_METAVAR, help=MICROSCOPE_HELP)],
    out: OutFolderOption,
    time_points: Annotated[
        str | None, typer.Option(help="Of series, from 0: 0,2,5.", show_default="all")
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Refocus views to a stack of planes: a quick look, in seconds, to choose depths_um by.

    The views are shifted and added. The stack reaches half as far again as depths_um; in the
    picture see where the sample comes into focus, and whether depths_um hold all of it.

    Example: **serenet refocus views.tif --microscope my.yaml --out look**
    """
    from serenet.refocusing.files import RefocusOptions, refocus_files

    points = whole_numbers(time_points, "--time-points")
    options = RefocusOptions(
        microscope=microscope,
        out=out,
        time_points=None if points is None else tuple(points),
        selection=select(channel, position, frames_are),
        overwrite=overwrite,
    )
    refocus_files(inputs, options)
