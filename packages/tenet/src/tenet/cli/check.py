"""``tenet check``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import ChannelOption, FramesAreOption, PositionOption, select


def check(
    files: Annotated[
        list[Path],
        typer.Argument(help="Recordings (TIFF, OME-Zarr, NPY, PT, ND2).", show_default=False),
    ],
    config: Annotated[
        str | None,
        typer.Option(
            help="A configuration (JSON), or a model's name: says whether the stack fits it.",
            show_default=False,
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
) -> None:
    """Say in plain words what a stack is, and which command comes next.

    Planes, voxels, counts, saturation, noise, whether slices are displaced, and whether a network
    is for such voxels. Nothing is written.

    Example: **tenet check stack.tif --config demo**
    """
    from scopekit.inputs import run_all
    from tenet.inspection.stacks import inspect

    selection = select(channel, position, frames_are)

    def tell(path: Path) -> Path:
        print("\n".join(inspect(path, config, selection).lines(path)))
        return path

    run_all(files, tell)
