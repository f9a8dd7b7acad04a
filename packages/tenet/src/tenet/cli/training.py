"""``tenet pretrain`` and ``tenet finetune``."""

from typing import Annotated

import typer

from scopekit.cli import Device, DeviceOption, OverwriteOption, SeedOption
from tenet.training.modes import Mode

ConfigArgument = Annotated[
    str,
    typer.Argument(
        help="A configuration (JSON); or NAME for experiments/configs/NAME.json, or of one that "
        "ships (demo).",
        show_default=False,
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]


def pretrain(
    config: ConfigArgument,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Pre-train on labels (datagen phantoms) that are imaged on the spot.

    The best weights land in the configuration's pretrain_loop.path as PRETRAINED_MODEL.pt, with
    PRETRAINED_MODEL_optim.pt for the optimizer. The folder of the run, in savefig_path, holds
    checkpoints, log.csv, loss.png, pictures of validation crops, and logs for TensorBoard. A run
    that was stopped or killed goes on with --resume as if nothing had happened. Several processes
    share the work under torchrun: **torchrun --nproc-per-node 2 -m tenet pretrain my.json**

    Example: **tenet pretrain JNet_beads**
    """
    from tenet.training.pretraining import pretrain as run

    run(config, device=device.value, seed=seed, resume=resume, overwrite=overwrite)


def finetune(
    config: ConfigArgument,
    mode: Annotated[
        Mode,
        typer.Option(
            help="all; encoder: the network; decoder: the microscope (PSF and noise); old: all, "
            "with the optimizer's state from pre-training."
        ),
    ] = Mode.old,
    fold: Annotated[
        str | None,
        typer.Option(
            metavar="K",
            help="Fold of a cross-validation: adds _cv_K to the data folders and the saved name.",
            show_default=False,
        ),
    ] = None,
    simulation: Annotated[
        bool,
        typer.Option(
            "--simulation",
            help="Learn from labels, imaged by the pre-trained microscope, instead of recordings.",
        ),
    ] = False,
    align: Annotated[
        bool, typer.Option("--align", help="Align the slices of each stack first.")
    ] = False,
    loss_only: Annotated[
        bool,
        typer.Option(
            "--loss-only", help="Train nothing: print every term of the loss of what is there."
        ),
    ] = False,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Fine-tune pre-trained weights on recordings, without any truth.

    What the network finds is imaged by the microscope's model, which is learnt too, and compared
    with the recording. The weights land in train_loop.path under the configuration's name; the
    rest is as with tenet pretrain.

    Example: **tenet finetune JNet_beads --mode all**
    """
    from tenet.training.finetuning import FinetuneOptions, evaluate_losses
    from tenet.training.finetuning import finetune as run

    if not loss_only:
        run(
            config,
            mode=mode,
            fold=fold,
            simulation=simulation,
            align=align,
            device=device.value,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
        )
        return
    wanted = FinetuneOptions(mode, fold, simulation, align)
    path, terms = evaluate_losses(config, wanted, device=device.value, seed=seed)
    print(f"{path}:")
    for name, value in terms.items():
        print(f"    {name.removeprefix('val_')}: {value:.6g}")
