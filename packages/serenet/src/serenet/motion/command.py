"""The command ``serenet correct-motion``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    Device,
    DeviceOption,
    FramesAreOption,
    MemoryOption,
    OutFolderOption,
    OverwriteOption,
    PositionOption,
    select,
    whole_numbers,
)


def correct_motion(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Scanned view stacks (TIFF), or folders.", show_default=False),
    ],
    checkpoint: Annotated[Path, typer.Option(help="Trained twnet (.pth, .pt).")],
    out: OutFolderOption,
    scan_order: Annotated[
        str | None,
        typer.Option(
            help="The position 3 row + column of every exposure in turn.",
            show_default="6,7,8,5,2,1,0,3,4",
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    max_memory_gb: MemoryOption = None,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Undo the sample's motion during a 3 x 3 scan: views to views, before they are reconstructed.

    Where something moved, exposures around the middle one take over. A stack holds any views
    (A, Y, X), sides multiples of 3; series (T, A, Y, X) and any number of files and folders are
    welcome.

    Example: **serenet correct-motion views.tif --checkpoint demo_twnet --out corrected**
    """
    from serenet.motion.files import MotionOptions, correct_files

    options = MotionOptions(
        checkpoint=checkpoint,
        out=out,
        scan_order=whole_numbers(scan_order, "--scan-order"),
        selection=select(channel, position, frames_are),
        max_memory_gb=max_memory_gb,
        device=device.value,
        overwrite=overwrite,
    )
    correct_files(inputs, options)
