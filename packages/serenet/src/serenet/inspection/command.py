"""The command ``serenet check``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    FramesAreOption,
    PositionOption,
    select,
)
from serenet.options import MICROSCOPE_HELP, MICROSCOPE_METAVAR


def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="View stacks, camera frames, volumes, PSFs, checkpoints, microscopes.",
            show_default=False,
        ),
    ],
    microscope: Annotated[
        str | None,
        typer.Option(
            metavar=MICROSCOPE_METAVAR,
            help=f"{MICROSCOPE_HELP} Says whether the file fits it.",
            show_default=False,
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
) -> None:
    """Say in plain words what a file is, and which command comes next.

    Views: how many, their pixels, counts, noise, saturation, whether they are likely scanned, and
    which microscope they fit. Nothing is written.

    Example: **serenet check views.tif --microscope nnum13**
    """
    from scopekit.inputs import run_all
    from serenet.inspection.kinds import inspect

    selection = select(channel, position, frames_are)

    def tell(path: Path) -> Path:
        print("\n".join(inspect(path, microscope, selection).lines(path)))
        return path

    run_all(files, tell)
