"""The command ``serenet train``."""

from pathlib import Path
from typing import Annotated

import typer

from scopekit.cli import Device, DeviceOption, OverwriteOption


def train(
    config: Annotated[
        str | None,
        typer.Argument(help="Training YAML, or a preset's name.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default=False)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in --out stopped.")
    ] = False,
    microscope: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_YAML",
            help="The microscope, instead of the one that CONFIG names.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Train for about so long, scenes and earlier starts included; at least an epoch.",
            show_default="by CONFIG",
        ),
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--list", help="List the presets, to be used or copied, and end.")
    ] = False,
    import_published: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a published training YAML as ours to --out, and end.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a network: of the SeReNet family, vcdnet, hylfmnet, rlnet, vsnet or twnet.

    serenet, vsnet and twnet learn from light fields alone, the others from volumes too.
    The folder of the run holds checkpoints/last.pt and best.pt, log.csv, loss.png, pictures of
    the validation volumes, and logs for TensorBoard. A run that was stopped or killed goes on
    with --resume as if nothing had happened. Several processes share the work under torchrun:
    **torchrun --nproc-per-node 4 -m serenet train my.yaml --out run**

    Example: **serenet train demo --out demo_run**
    """
    from scopekit.errors import UserError

    if list_presets:
        _list_presets()
        return
    if out is None:
        raise UserError("--out is missing: the folder of the run, or the YAML file to write")
    if import_published is not None:
        if config is not None or resume:
            raise UserError("--import-published only writes a file: leave out the rest")
        from serenet.training.published.convert import import_config

        import_config(import_published, out, overwrite=overwrite)
        print(f"{out}: look it through, then give it to serenet train")
        return
    if config is None:
        raise UserError("name a training YAML or a preset (serenet train --list)")
    from serenet.training.run import train_method

    train_method(
        config,
        out,
        microscope=microscope,
        minutes=minutes,
        device=device.value,
        resume=resume,
        overwrite=overwrite,
    )


def _list_presets() -> None:
    from serenet.training.settings import shipped_settings

    for name, path in shipped_settings().items():
        purpose = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(f"{name}: {purpose}\n    {path}")
