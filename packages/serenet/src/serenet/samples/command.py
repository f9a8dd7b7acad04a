"""The commands ``serenet samples`` and ``serenet samples get``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import OverwriteOption

samples = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)


@samples.callback(invoke_without_command=True)
def _list(context: typer.Context) -> None:
    """List recordings to try the commands with.

    Example: **serenet samples**, **serenet samples get guv**
    """
    if context.invoked_subcommand is not None:
        return
    from serenet.samples.files import SAMPLES

    for name, about in SAMPLES.items():
        print(f"{name}: {about}\n    serenet samples get {name}")


@samples.command()
def get(
    name: Annotated[str, typer.Argument(help="As the list calls it: guv.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the files.", show_default="the sample's name"),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Copy a recording, and the description of its microscope, into a folder.

    Example: **serenet samples get guv --out guv**
    """
    from scopekit.outputs import claimed
    from serenet.samples.files import copy_sample

    folder = out or Path(name)
    with claimed(folder / name):
        copied = copy_sample(name, folder, overwrite=overwrite)
    for path in copied:
        print(path)
    print(
        f"next: serenet rectify {folder / 'light_field.tif'} --radiometry "
        f"{folder / 'radiometry_frame.tif'} --microscope {folder / 'guv.yaml'} --out guv.tif"
    )
