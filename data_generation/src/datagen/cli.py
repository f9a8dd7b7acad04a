"""The command ``datagen``; its work is imported only when a command runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from datagen import __version__
from scopekit.cli import (
    MICROSCOPE_ALIASES,
    Device,
    DeviceOption,
    OutFolderOption,
    OverwriteOption,
    SeedOption,
    new_app,
    run,
    version_option,
)

app = new_app(
    "Synthetic volumes, light fields and phantoms to train serenet and tenet.", MICROSCOPE_ALIASES
)

CountOption = Annotated[int, typer.Option(min=1, help="Objects in each volume.")]
SizeOption = Annotated[
    tuple[int, int, int], typer.Option(min=1, metavar="Z Y X", help="Voxels along each axis.")
]
NumberOption = Annotated[int, typer.Option(min=1, help="How many volumes.")]
VolumeJobsOption = Annotated[int, typer.Option(min=1, help="Volumes made at the same time.")]


class PhantomObjects(StrEnum):
    """Which objects phantoms are drawn from."""

    mixture = "mixture"
    thin_lines = "thin-lines"
    solids = "solids"
    deformed_solids = "deformed-solids"


@app.callback()
def _options(version: Annotated[bool, version_option("datagen", __version__)] = False) -> None:
    pass


@app.command()
def bubtub(
    out: OutFolderOption,
    microscope: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_YAML",
            help="nnum13, nnum15, or a YAML file of your microscope; or give --psf.",
            show_default=False,
        ),
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

    Example: **datagen bubtub --microscope nnum13 --size 429 --out bubtub**
    """
    from datagen.bubtub.making import BubtubOptions, make_bubtub

    options = BubtubOptions(
        out=out,
        microscope=microscope,
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


@app.command()
def phantoms(
    config: Annotated[
        str,
        typer.Argument(
            help="A TENET configuration (JSON); or NAME for experiments/configs/NAME.json, or of "
            "one that ships with tenet, where that is installed (demo).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the data set's own folder.")],
    objects: Annotated[
        PhantomObjects,
        typer.Option(
            help="mixture: deformed thick lines and some solids; thin-lines: deformed thin lines "
            "and some solids; solids: of radius 20; deformed-solids: of radius 5 to 14, out of "
            "shape."
        ),
    ] = PhantomObjects.mixture,
    seed: SeedOption = 0,
    jobs: VolumeJobsOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Make the phantoms of a TENET configuration: crowded volumes of known structure.

    The section simulation_data_generation tells their number, size and crowding. Each is a pair
    of files, NNNN_labelx.npy (1 in objects, else 0) and NNNN_labelz.npy (brightness, 0 to 1):
    float32, (1, Z, Y, X). An interrupted run goes on where it stopped.

    Example: **datagen phantoms JNet_beads --out . --jobs 2**
    """
    from datagen.labels.making import make_label_set
    from datagen.labels.phantom_config import read_simulation_config, read_voxel_um
    from datagen.labels.phantoms import phantom_set
    from scopekit.settings import find_config

    path = find_config(config, "tenet")
    section = read_simulation_config(path)
    folder = out / section.dataset_name
    phantom = phantom_set(section, objects.value, seed, read_voxel_um(path))
    make_label_set(phantom, folder, jobs=jobs, overwrite=overwrite)


@app.command()
def lines(
    angle: Annotated[str, typer.Option(help="Degrees to the optical axis, 0 to 90, or 'random'.")],
    out: OutFolderOption,
    count: CountOption = 250,
    size: SizeOption = (500, 500, 500),
    number: NumberOption = 1,
    seed: SeedOption = 0,
    jobs: VolumeJobsOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Make volumes of short straight lines at one angle to the optical axis.

    The lines are 20 to 39 voxels long and 3 wide; everything but the angle is random. Files and
    settings are like those of phantoms.

    Example: **datagen lines --angle 45 --out lines45**
    """
    from datagen.labels.lines import line_set
    from datagen.labels.making import make_label_set

    made = line_set(angle, count=count, size=size, number=number, seed=seed)
    make_label_set(made, out, jobs=jobs, overwrite=overwrite)


@app.command()
def beads(
    out: OutFolderOption,
    radius_um: Annotated[float, typer.Option(help="Radius of every bead, um.")] = 1.0,
    voxel_um: Annotated[
        str, typer.Option(metavar="STEP | Z,Y,X", help="Voxel size, um; one number or three.")
    ] = "0.05",
    count: CountOption = 30,
    size: SizeOption = (500, 500, 500),
    number: NumberOption = 1,
    seed: SeedOption = 0,
    jobs: VolumeJobsOption = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Make volumes of beads of a known radius at random places, which do not touch.

    labelz is the share of each voxel that a bead covers, labelx the voxels covered by about half
    and more; both have the volume of the beads. NNNN_objects.csv tells centres and radii.

    Example: **datagen beads --radius-um 1 --voxel-um 0.05 --count 30 --out beads**
    """
    from datagen.labels.beads import bead_set
    from datagen.labels.making import make_label_set

    made = bead_set(radius_um, voxel_um, count=count, size=size, number=number, seed=seed)
    make_label_set(made, out, jobs=jobs, overwrite=overwrite)


def main() -> None:
    """Run the command line."""
    run(app)
