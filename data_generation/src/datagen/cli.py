"""The command ``datagen``; its work is imported only when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

from datagen import __version__
from scopekit.cli import (
    Device,
    DeviceOption,
    OutFolderOption,
    OverwriteOption,
    SeedOption,
    new_app,
    run,
    version_option,
)

app = new_app("Synthetic volumes, light fields and phantoms to train serenet and tenet.")


@app.callback()
def _options(version: Annotated[bool, version_option("datagen", __version__)] = False) -> None:
    pass


@app.command()
def bubtub(
    out: OutFolderOption,
    preset: Annotated[
        str | None,
        typer.Option(help="Microscope: nnum13 or nnum15; or give --psf.", show_default=False),
    ] = None,
    psf: Annotated[
        Path | None,
        typer.Option(
            help="PSF of all views (serenet psf MICROSCOPE.yaml --views all --out F.h5), which "
            "tells the microscope and its depths.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[int, typer.Option(min=1, help="How many groups.")] = 15,
    first: Annotated[int, typer.Option(min=1, help="Number of the first group.")] = 1,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of the volumes, a multiple of the views per microlens: the middle of the "
            "full field.",
            show_default="the full field, 1989 or 2025",
        ),
    ] = None,
    seed: SeedOption = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Groups made at the same time.")] = 1,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Make volumes of tubes, bubbles and beads, and the light fields that they give.

    The groups come in a cycle of 15: tubes (1 - 6), bubbles (7 - 9), beads (10 - 14) and big
    beads (15), each thicker, larger or more blurred than the one before. A group is the same
    whether made alone or with others, and an interrupted run goes on where it stopped.

    Example: **datagen bubtub --preset nnum13 --size 429 --out bubtub**
    """
    from datagen.bubtub import BubtubOptions, make_bubtub

    options = BubtubOptions(
        out=out,
        preset=preset,
        psf=psf,
        groups=groups,
        first=first,
        size=size,
        seed=seed,
        jobs=jobs,
        device=device.value,
        overwrite=overwrite,
    )
    make_bubtub(options)


def main() -> None:
    """Run the command line."""
    run(app)
