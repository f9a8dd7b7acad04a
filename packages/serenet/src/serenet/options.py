"""Options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

InputsArgument = Annotated[
    list[Path],
    typer.Argument(help="View stacks (TIFF, OME-Zarr), or folders of them.", show_default=False),
]
PreviewOption = Annotated[
    bool, typer.Option("--no-preview", help="Draw no picture beside the result.")
]
MICROSCOPE_METAVAR = "NAME_OR_YAML"
MICROSCOPE_HELP = "nnum13, nnum15, or a YAML file of your microscope."
PSFOption = Annotated[
    Path | None, typer.Option("--psf", help="PSF file, from 'serenet psf'.", show_default=False)
]
BackgroundOption = Annotated[
    float | None,
    typer.Option(
        help="Counts to subtract; an rlnet takes views as they are.",
        show_default="1 % quantile of each light field",
    ),
]
VirtualScanOption = Annotated[
    Path | None,
    typer.Option(
        metavar="VSNET",
        help="Checkpoint of a vsnet, to begin with: makes an unscanned light field (all views) a "
        "scanned one.",
        show_default=False,
    ),
]
