"""The command ``serenet reconstruct``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    DaskOption,
    Device,
    DeviceOption,
    FormatOption,
    FramesAreOption,
    MemoryOption,
    OutFolderOption,
    OutputType,
    OutputTypeOption,
    OverwriteOption,
    PositionOption,
    select,
)
from serenet.options import (
    MICROSCOPE_HELP,
    MICROSCOPE_METAVAR,
    BackgroundOption,
    InputsArgument,
    PreviewOption,
    PSFOption,
    VirtualScanOption,
)


class ViewAlignment(StrEnum):
    """How digital adaptive optics finds the views' shifts."""

    fit = "fit"
    correlation = "correlation"
    subpixel = "subpixel"


def reconstruct(
    inputs: InputsArgument,
    checkpoint: Annotated[Path, typer.Option(help="Trained network (.pth, .pt).")],
    out: OutFolderOption,
    psf: PSFOption = None,
    psf_shift: Annotated[
        Path | None,
        typer.Option(help="PSF shift alone (.pt, .npy) instead of --psf.", show_default=False),
    ] = None,
    microscope: Annotated[
        str | None,
        typer.Option(
            metavar=MICROSCOPE_METAVAR, help=MICROSCOPE_HELP, show_default="by the checkpoint"
        ),
    ] = None,
    background: BackgroundOption = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    predao: Annotated[
        bool,
        typer.Option(
            "--predao",
            help="Digital adaptive optics: undo the shifts that aberrations gave the views; draws "
            "a map of them.",
        ),
    ] = False,
    predao_by: Annotated[
        ViewAlignment | None,
        typer.Option(
            show_default="fit",
            help="fit: astigmatism, coma and trefoil, by the agreement of the refocused views. "
            "correlation: each view with the central one, as published; for thin objects. "
            "subpixel: the same to fractions of a pixel.",
        ),
    ] = None,
    virtual_scan: VirtualScanOption = None,
    refine: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Refine by N physics updates, a view each (25 is good); stops by itself when "
            "views left out fit worse.",
        ),
    ] = 0,
    half: Annotated[
        bool, typer.Option("--half", help="Half precision: faster, errors below 1 %.")
    ] = False,
    max_memory_gb: MemoryOption = None,
    device: DeviceOption = Device.auto,
    format_: FormatOption = None,
    dask: DaskOption = None,
    dtype: OutputTypeOption = OutputType.float32,
    no_preview: PreviewOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Reconstruct volumes from view stacks with a trained network.

    A stack holds all n_num x n_num views or the network's subset; series (T, A, Y, X) and any
    number of files and folders are welcome. Without --psf the PSF shift is computed from the
    optics of the microscope. With --dask results are OME-Zarr. A vsnet makes no volume, but the
    finer views NAME_vsnet.tif.

    Example: **serenet reconstruct views.tif --checkpoint serenet.pth --out results**
    """
    from scopekit.errors import UserError
    from serenet.reconstruction.files import ReconstructOptions, reconstruct_files

    if predao_by is not None and not predao:
        raise UserError(f"--predao-by {predao_by.value} has no effect without --predao: add that")
    options = ReconstructOptions(
        checkpoint=checkpoint,
        out=out,
        psf=psf,
        psf_shift=psf_shift,
        microscope=microscope,
        background=background,
        selection=select(channel, position, frames_are),
        virtual_scan=virtual_scan,
        predao=(predao_by or ViewAlignment.fit).value if predao else "no",
        refine=refine,
        half=half,
        max_memory_gb=max_memory_gb,
        device=device.value,
        format=format_ and format_.value,
        dask=dask,
        dtype=dtype.value,
        preview=not no_preview,
        overwrite=overwrite,
    )
    reconstruct_files(inputs, options)
