"""The command ``serenet``; its work is imported only when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import (
    BARE,
    MICROSCOPE_ALIASES,
    Device,
    DeviceOption,
    OverwriteOption,
    SeedOption,
    new_app,
    run,
    tell_next,
    version_option,
)
from serenet import __version__
from serenet.comparison.command import compare
from serenet.deconvolution.command import deconvolve
from serenet.inspection.command import check
from serenet.motion.command import correct_motion
from serenet.networks.command import weights
from serenet.reconstruction.command import reconstruct
from serenet.rectification.command import calibrate, rectify
from serenet.refocusing.command import refocus
from serenet.samples.command import samples
from serenet.simulation.command import project, psf
from serenet.training.command import train

app = new_app(
    "3D reconstruction for light-field microscopy, scanned (sLFM) or not.", MICROSCOPE_ALIASES
)


_NEXT = """
serenet makes volumes of light fields. What do you have?

  nothing yet       serenet demo                      a small light field, made and reconstructed
                    serenet samples get guv           a recorded camera frame to try all with
  a file            serenet check FILE                what it is, and which command comes next
  camera frames     serenet rectify raw.tif --radiometry flat.tif --microscope my.yaml --out v.tif
  views             serenet refocus views.tif --microscope my.yaml --out look      a quick look
                    serenet deconvolve views.tif --microscope my.yaml --out results
  and a network     serenet reconstruct views.tif --checkpoint serenet_nnum13 --out results
  no network yet    serenet train my_microscope --microscope my.yaml --minutes 20 --out my_run

serenet --help lists all commands; each has --help with an example.
"""


@app.callback(**BARE)
def _options(
    context: typer.Context,
    version: Annotated[bool, version_option("serenet", __version__)] = False,
) -> None:
    tell_next(context, _NEXT)


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
    from scopekit.outputs import claimed
    from serenet.demo import run_demo

    with claimed(out / "demo"):
        scores = run_demo(out, choose_device(device), seed=seed, overwrite=overwrite)
    for name, score in scores.items():
        print(f"correlation with the truth, {name}: {score:.3f}")
    print(f"picture: {out / 'demo.png'}")


# In the order of --help.
for command in (
    check,
    psf,
    project,
    reconstruct,
    deconvolve,
    rectify,
    refocus,
    calibrate,
    compare,
    correct_motion,
    train,
):
    app.command()(command)
app.add_typer(weights, name="weights")
app.add_typer(samples, name="samples")


def main() -> None:
    """Run the command line."""
    run(app)
