"""The commands ``serenet psf`` and ``serenet project``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    Device,
    DeviceOption,
    FramesAreOption,
    OverwriteOption,
    PositionOption,
    SeedOption,
    select,
)
from serenet.options import MICROSCOPE_HELP


class ViewChoice(StrEnum):
    """Which views a PSF file holds."""

    subset = "subset"
    all = "all"


def psf(
    microscope: Annotated[str, typer.Argument(metavar="MICROSCOPE", help=MICROSCOPE_HELP)],
    out: Annotated[Path, typer.Option(help="The file to write, ending in .h5.")],
    views: Annotated[ViewChoice, typer.Option(help="The microscope's views in use, or all.")] = (
        ViewChoice.subset
    ),
    depths: Annotated[
        int | None,
        typer.Option(min=1, help="Keep N planes around the middle.", show_default="all"),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=3,
            help="Lateral support in pixels.",
            show_default="what the views need, at least 15 n_num",
        ),
    ] = None,
    aberration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WAVES",
            help="Zernike aberration, waves rms: astigmatism, oblique_astigmatism, coma_x, coma_y, "
            "trefoil_x, trefoil_y, spherical, defocus, tilt_x, tilt_y, or an ANSI index; "
            "may be repeated.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Compute the phase-space PSF and its shift by wave optics; tell what detail to expect.

    Example: **serenet psf nnum13 --out psf.h5**

    With an aberration: **serenet psf nnum13 --aberration coma_x=0.1 --out aberrated.h5**
    """
    from serenet.simulation.psf_files import expected_detail, make_psf

    made = make_psf(
        microscope,
        out,
        all_views=views is ViewChoice.all,
        n_depths=depths,
        size=size,
        overwrite=overwrite,
        aberrations=aberration or (),
    )
    print(f"{out}: {len(made.views)} views, {len(made.depths_um)} depths")
    print(f"finest lateral period that the views tell, um: {expected_detail(made)}")


def project(
    volume: Annotated[Path, typer.Argument(help="Volume (Z, Y, X) as TIFF.")],
    psf: Annotated[Path, typer.Option(help="PSF file, from 'serenet psf'.")],
    out: Annotated[Path, typer.Option(help="View stack to write (TIFF).")],
    noise_photons: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Photons in the brightest pixel; adds shot noise.",
            show_default="no noise",
        ),
    ] = None,
    read_noise: Annotated[
        float, typer.Option(min=0.0, help="Read noise, electrons rms (with --noise-photons).")
    ] = 0.0,
    drift: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="Y X",
            help="The volume drifts by so many um per exposure of a 3 x 3 scan; its views at "
            "rest go to OUT's name + _still.tif.",
            show_default="none",
        ),
    ] = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Simulate the views of a volume on the scanned grid.

    Example: **serenet project cell.tif --psf psf.h5 --out views.tif --noise-photons 500**

    Of a moving volume: **serenet project cell.tif --psf psf.h5 --drift 0.1 0.3 --out moving.tif**
    """
    from scopekit.errors import UserError
    from scopekit.memory import choose_device
    from serenet.simulation.projection import Noise, project_file

    if read_noise and noise_photons is None:
        raise UserError("--read-noise needs --noise-photons: the views must be in photons")
    noise = None if noise_photons is None else Noise(noise_photons, read_noise, seed)
    views = project_file(
        volume,
        psf,
        out,
        noise,
        choose_device(device),
        drift_um=drift,
        selection=select(channel, position, frames_are),
        overwrite=overwrite,
    )
    print(f"{out}: {' x '.join(str(n) for n in views.shape)} (views, y, x)")
