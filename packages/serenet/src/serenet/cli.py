"""The command ``serenet``; its work is imported only when a command runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    Device,
    DeviceOption,
    OutFolderOption,
    OverwriteOption,
    SeedOption,
    new_app,
    run,
    version_option,
    whole_numbers,
)
from serenet import __version__
from serenet.motion import command as cli_motion
from serenet.reconstruction import command as cli_reconstruction
from serenet.training import command as cli_training

# Where no terminal cuts lines, a table has room for long names.
_FILE_WIDTH = 200

app = new_app("3D reconstruction for light-field microscopy, scanned (sLFM) or not.")


class ViewChoice(StrEnum):
    """Which views a PSF file holds."""

    subset = "subset"
    all = "all"


@app.callback()
def _options(version: Annotated[bool, version_option("serenet", __version__)] = False) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("serenet_demo"),
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Simulate a small light field, reconstruct it, and show it beside the truth.

    It is reconstructed by the networks that ship with this package, and by deconvolution.

    Example: **serenet demo --out serenet_demo**
    """
    from scopekit.memory import choose_device
    from serenet.demo import run_demo

    scores = run_demo(out, choose_device(device), seed=seed, overwrite=overwrite)
    for name, score in scores.items():
        print(f"correlation with the truth, {name}: {score:.3f}")
    print(f"picture: {out / 'demo.png'}")


@app.command()
def psf(
    preset_or_yaml: Annotated[str, typer.Argument(help="nnum13, nnum15 or an optics YAML file.")],
    out: Annotated[Path, typer.Option(help="The file to write, ending in .h5.")],
    views: Annotated[ViewChoice, typer.Option(help="The preset's views, or all.")] = (
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
    """Compute the phase-space PSF and its shift by wave optics.

    Example: **serenet psf nnum13 --out psf.h5**

    With an aberration: **serenet psf nnum13 --aberration coma_x=0.1 --out aberrated.h5**
    """
    from serenet.simulation.projection import make_psf

    preset = make_psf(
        preset_or_yaml,
        out,
        all_views=views is ViewChoice.all,
        n_depths=depths,
        size=size,
        overwrite=overwrite,
        aberrations=aberration or (),
    )
    print(f"{out}: {len(preset.views)} views, {len(preset.depths_um)} depths")


@app.command()
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
        volume, psf, out, noise, choose_device(device), drift_um=drift, overwrite=overwrite
    )
    print(f"{out}: {' x '.join(str(n) for n in views.shape)} (views, y, x)")


app.command()(cli_reconstruction.reconstruct)
app.command()(cli_reconstruction.deconvolve)


@app.command()
def rectify(
    raw: Annotated[list[Path], typer.Argument(help="Camera frames (TIFF), in time order.")],
    optics: Annotated[str, typer.Option(help="nnum13, nnum15 or an optics YAML.")],
    out: Annotated[Path, typer.Option(help="View stack to write (TIFF).")],
    radiometry: Annotated[
        Path | None,
        typer.Option(help="Frame of homogeneous fluorescence.", show_default=False),
    ] = None,
    dark: Annotated[
        Path | None, typer.Option(help="Frame without light.", show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibration YAML of an earlier run, instead of --radiometry.",
            show_default=False,
        ),
    ] = None,
    scan_order: Annotated[
        str | None,
        typer.Option(
            help="Scanned series: the position 3 row + column of every frame in turn.",
            show_default="6,7,8,5,2,1,0,3,4",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Turn raw camera frames into views: find the microlenses, flat-field, resample.

    Example: **serenet rectify raw.tif --radiometry flat.tif --optics scope.yaml --out views.tif**
    """
    from serenet.rectification.resampling import rectify_files
    from serenet.views.microscope import load_preset

    lattice = rectify_files(
        raw,
        out,
        load_preset(optics),
        radiometry=radiometry,
        dark=dark,
        calibration=calibration,
        scan_order=whole_numbers(scan_order, "--scan-order"),
        overwrite=overwrite,
    )
    print(
        f"{out}: {lattice.rows} x {lattice.columns} microlenses, pitch {lattice.pitch_y:.3f} x "
        f"{lattice.pitch_x:.3f} pixels, rotation {lattice.rotation_deg:.3f} degrees"
    )


@app.command()
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
    overwrite: OverwriteOption = False,
) -> None:
    """Compare reconstructions with the truth: correlation, PSNR, SSIM, resolution, and a picture.

    Resolution is found by decorrelation analysis; '-' where it gives none.

    Example: **serenet compare truth.tif results/cell_serenet.tif --out comparison**
    """
    from rich.console import Console
    from rich.table import Column, Table

    from serenet.comparison.files import as_text, compare_files

    rows = compare_files(truth, results, out, border=border, blur=blur, overwrite=overwrite)
    measures = ("correlation", "PSNR (dB)", "SSIM", "lateral (µm)", "axial (µm)")
    table = Table(Column("file", overflow="fold"), *measures)
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    for cells in as_text(rows):
        table.add_row(*cells)
    console.print(table)


app.command()(cli_motion.correct_motion)
app.command()(cli_training.train)
app.command()(cli_training.weights)


def main() -> None:
    """Run the command line."""
    run(app)
