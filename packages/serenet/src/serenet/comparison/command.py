"""The command ``serenet compare``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    FramesAreOption,
    OutFolderOption,
    OverwriteOption,
    PositionOption,
    select,
)

# Where no terminal cuts lines, a table has room for long names.
_FILE_WIDTH = 200


def compare(
    truth: Annotated[Path, typer.Argument(help="True volume (TIFF).")],
    results: Annotated[list[Path], typer.Argument(help="Reconstructed volumes (TIFF).")],
    out: OutFolderOption,
    border: Annotated[
        tuple[int, int],
        typer.Option(metavar="Z XY", help="Planes and pixels to leave out on every side."),
    ] = (0, 0),
    blur: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="Z Y X",
            help="Gaussian sigma in voxels applied to the truth first.",
            show_default=False,
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Compare reconstructions with the truth: correlation, PSNR, SSIM, resolution, and a picture.

    Resolution is found by decorrelation analysis; '-' where it gives none.

    Example: **serenet compare truth.tif results/cell_serenet.tif --out comparison**
    """
    from rich.console import Console
    from rich.table import Column, Table

    from scopekit.outputs import claimed
    from serenet.comparison.files import as_text, compare_files

    with claimed(out / "comparison"):
        rows = compare_files(
            truth,
            results,
            out,
            border=border,
            blur=blur,
            selection=select(channel, position, frames_are),
            overwrite=overwrite,
        )
    measures = ("correlation", "PSNR (dB)", "SSIM", "lateral (µm)", "axial (µm)")
    table = Table(Column("file", overflow="fold"), *measures)
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    for cells in as_text(rows):
        table.add_row(*cells)
    console.print(table)
