"""The command ``serenet deconvolve``."""

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


def deconvolve(
    inputs: InputsArgument,
    out: OutFolderOption,
    psf: PSFOption = None,
    microscope: Annotated[
        str | None,
        typer.Option(
            metavar=MICROSCOPE_METAVAR,
            help=f"{MICROSCOPE_HELP} Without --psf the PSF is computed for it.",
            show_default=False,
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sweeps over all views.",
            show_default="until a sweep lowers the misfit by less than 3 %, at most 10",
        ),
    ] = None,
    tv: Annotated[
        float, typer.Option(min=0.0, help="Total variation weight: 0.002 a little, 0.02 strong.")
    ] = 0.0,
    stop_at_change: Annotated[
        float, typer.Option(min=0.0, help="Stop when a sweep changes less than this share.")
    ] = 0.0,
    supersample: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=99,
            help="Voxels a microlens side; of an unscanned light field 5 hold nearly all there is.",
            show_default="voxels_a_lens of the microscope, which is n_num",
        ),
    ] = None,
    background: BackgroundOption = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    virtual_scan: VirtualScanOption = None,
    max_memory_gb: MemoryOption = None,
    device: DeviceOption = Device.auto,
    format_: FormatOption = None,
    dask: DaskOption = None,
    dtype: OutputTypeOption = OutputType.float32,
    no_preview: PreviewOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Reconstruct volumes iteratively: ordered-subset Richardson-Lucy, one view at a time.

    Planes of unscanned light fields come out as fine as the views tell of each (near the focal
    plane a lens), without the grid of the lenses, and the background of each view is fitted.

    Without --iterations it ends when a sweep gains little, and says after how many. Where light is
    so dim that a second sweep might find noise alone, some views judge, and the first is kept.

    An interrupted run goes on where it stopped when the same command is given again, and a finished
    one when more iterations are asked for. Fields too
    large for the memory are cut into windows with half a PSF around, which give the whole within
    0.2 %. With --dask results are OME-Zarr.

    Example: **serenet deconvolve views.tif --psf psf.h5 --out results**
    """
    from serenet.deconvolution.files import DeconvolveOptions, deconvolve_files

    options = DeconvolveOptions(
        out=out,
        psf=psf,
        microscope=microscope,
        iterations=iterations,
        tv=tv,
        stop_at_change=stop_at_change,
        supersample=supersample,
        background=background,
        selection=select(channel, position, frames_are),
        virtual_scan=virtual_scan,
        max_memory_gb=max_memory_gb,
        device=device.value,
        format=format_ and format_.value,
        dask=dask,
        dtype=dtype.value,
        preview=not no_preview,
        overwrite=overwrite,
    )
    deconvolve_files(inputs, options)
