"""``tenet psf``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    FramesAreOption,
    OutFolderOption,
    OverwriteOption,
    PositionOption,
    SeedOption,
    select,
)

PhotonsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2,
        help="2 squares the PSF, as two-photon excitation does: a focus about 1.4 times narrower. "
        "Published models have 1.",
        show_default="the configuration's, else 1",
    ),
]


def psf(
    config: Annotated[
        str, typer.Argument(help="A configuration (JSON), or a model's name.", show_default=False)
    ],
    out: OutFolderOption = Path(),
    photons: PhotonsOption = None,
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            "--fit",
            metavar="STACK",
            help="A recording, or several: find the numerical aperture that they were made with, "
            "by what a network finds in them and by its image.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Weights of that network.",
            show_default="the configuration's, fine-tuned ones first",
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Compute the PSF of a configuration, and fit the neural PSF to it.

    Writes both sections and the kernel (TIFF, voxel size in um) and a picture with the profiles.

    Example: **tenet psf JNet_beads.json --out psf**

    Example: **tenet psf demo --fit stack.tif --out psf**
    """
    from scopekit.outputs import claimed
    from tenet.config.files import load_config
    from tenet.microscope.psf import write_psf

    settings = load_config(config)
    if photons is not None:
        params = settings.params.model_copy(update={"photons": photons})
        settings = settings.model_copy(update={"params": params})
    if fit:
        from tenet.enhancement.microscope import fitted_config

        settings = fitted_config(
            settings, fit, checkpoint, select(channel, position, frames_are), seed=seed
        )
    with claimed(out / f"{settings.name}_psf"):
        lines = write_psf(settings, out, seed=seed, overwrite=overwrite)
    for line in lines:
        print(line)
