"""``tenet enhance``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    DaskOption,
    Device,
    DeviceOption,
    FramesAreOption,
    MemoryOption,
    OutFolderOption,
    OutputType,
    OutputTypeOption,
    OverwriteOption,
    PositionOption,
    ResultFormat,
    select,
    whole_numbers,
)
from tenet.cli.options import ValueRangeOption


def enhance(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings (TIFF, OME-Zarr, NPY, PT, ND2), or folders of them.",
            show_default=False,
        ),
    ],
    config: Annotated[str, typer.Option(help="A configuration (JSON), or a model's name.")],
    checkpoint: Annotated[
        Path, typer.Option(help="Trained network (.pt), or the name of one that ships.")
    ],
    out: OutFolderOption,
    time_points: Annotated[
        str | None,
        typer.Option(help="Of series, from 0: 0,2,5.", show_default="all"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="What counts as structure.", show_default="the configuration's"
        ),
    ] = None,
    value_range: ValueRangeOption = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    max_memory_gb: MemoryOption = None,
    device: DeviceOption = Device.auto,
    dask: DaskOption = None,
    format_: Annotated[
        ResultFormat | None,
        typer.Option(
            "--format",
            help="TIFF, a file for each image; or OME-Zarr, one store a recording.",
            show_default="that of the input",
        ),
    ] = None,
    dtype: OutputTypeOption = OutputType.float32,
    overwrite: OverwriteOption = False,
) -> None:
    """Enhance recordings: sharp structure and brightness, finer in z, and the objects in it.

    Any size: what does not fit the memory is enhanced in chunks, straight to disk. Each time point
    of each recording gives structure, brightness, reconstruction, mask and labels (TIFF, voxel
    size in um), a table of the objects (CSV), a picture and the settings. What is finished is
    skipped when the same command is given again. With **--format zarr** a recording gives one
    OME-Zarr store, and an interrupted run goes on in the middle of a stack.

    Example: **tenet enhance tenet_demo/image.tif --config demo --checkpoint demo_pretrain
    --out enhanced**
    """
    from tenet.enhancement.files import enhance_files

    points = whole_numbers(time_points, "--time-points")
    enhance_files(
        inputs,
        config,
        checkpoint,
        out,
        time_points=None if points is None else tuple(points),
        threshold=threshold,
        value_range=value_range,
        selection=select(channel, position, frames_are),
        max_memory_gb=max_memory_gb,
        device=device.value,
        dask=dask,
        dtype=dtype.value,
        format=format_ and format_.value,
        overwrite=overwrite,
    )
