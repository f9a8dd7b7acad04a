"""``tenet pretrain``, ``tenet finetune`` and ``tenet train-aligner``."""

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
from tenet.alignment.modes import AlignmentLoss
from tenet.training.modes import Mode

ConfigArgument = Annotated[
    str,
    typer.Argument(
        help="A configuration (JSON); or NAME for experiments/configs/NAME.json, or of one that "
        "ships (demo).",
        show_default=False,
    ),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="How long to train, earlier starts included, instead of the configuration's n_epochs: "
        "as many as fit, at least one.",
        show_default=False,
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]


def pretrain(
    config: ConfigArgument,
    minutes: MinutesOption = None,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Pre-train on random scenes, or on labels (datagen phantoms), imaged on the spot.

    Which of them, the configuration's pretrain_loop.recipe says: fast, on scenes, without files;
    or published, on labels.

    The best weights land in the configuration's pretrain_loop.path as PRETRAINED_MODEL.pt, with
    PRETRAINED_MODEL_optim.pt for the optimizer. The folder of the run, in savefig_path, holds
    checkpoints, log.csv, loss.png, pictures of validation crops, and logs for TensorBoard. A run
    that was stopped or killed goes on with --resume as if nothing had happened. Several processes
    share the work under torchrun: **torchrun --nproc-per-node 2 -m tenet pretrain my.json**

    Your own: a copy of the configuration demo, which **tenet check** of a stack says where it lies.

    Example: **tenet pretrain demo --minutes 20**
    """
    from tenet.training.pretraining import pretrain as run

    run(
        config,
        device=device.value,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        minutes=minutes,
    )


def train_aligner(
    config: ConfigArgument,
    loss_mode: Annotated[
        list[AlignmentLoss] | None,
        typer.Option(
            help="shift: from the true shifts; pixel: from the stack before; perceptual, "
            "segmentation: the same as the pre-trained network sees it. Give it again to add.",
            show_default="shift",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of pretrain_dataset.I stacks each.")] = 26,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Train the network that aligns slices, on the labels of the pre-training.

    They are imaged by the configuration's microscope and displaced as its section vibration says.
    The best network lands beside the weights as ALIGN_MODEL.pt (without that key,
    PRETRAINED_MODEL_align.pt), where **tenet finetune --align** and evaluations find it.

    Example: **tenet train-aligner JNet_microglia**
    """
    from tenet.training.aligner import train_aligner as run

    run(
        config,
        loss_modes=loss_mode or [AlignmentLoss.shift],
        epochs=epochs,
        device=device.value,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
    )


def finetune(
    config: ConfigArgument,
    stacks: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the recordings, instead of the configuration's train_dataset and "
            "val_dataset.",
            show_default=False,
        ),
    ] = None,
    minutes: MinutesOption = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            "-t",
            help="all; encoder: the network; decoder: the microscope (PSF and noise); old: all, "
            "with the optimizer's state from pre-training.",
        ),
    ] = Mode.old,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            "-cv",
            metavar="K",
            help="Fold of a cross-validation: adds K to the folders of recordings, _cv_K to the "
            "saved name.",
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
        bool,
        typer.Option("--align", "--train_with_align", help="Align the slices of each stack first."),
    ] = False,
    stored_ewc: Annotated[
        bool,
        typer.Option(
            "--stored-ewc",
            help="Hold on to what the starting weights keep of published fine-tuning with EWC, "
            "instead of to what the labels of the pre-training tell; no labels are needed.",
        ),
    ] = False,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    loss_only: Annotated[
        bool,
        typer.Option(
            "--loss-only",
            help="Train nothing: print every term of the loss of what is there.",
        ),
    ] = False,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
) -> None:
    """Fine-tune pre-trained weights on recordings, without any truth.

    What the network finds is imaged by the microscope's model, which is learnt too, and compared
    with the recording. With train_loop.recipe: fast, the microscope is found first, scenes that it
    images are learnt from too, and the result is never worse on the stacks that are held out (a
    fifth) than what it started from. The weights land in train_loop.path under the configuration's
    name; the rest is as with tenet pretrain.

    Example: **tenet finetune demo --stacks my_stacks --minutes 10**
    """
    from tenet.training.finetune_options import FinetuneOptions
    from tenet.training.finetuning import evaluate_losses
    from tenet.training.finetuning import finetune as run

    selection = select(channel, position, frames_are)
    if not loss_only:
        run(
            config,
            mode=mode,
            fold=fold,
            simulation=simulation,
            align=align,
            selection=selection,
            stored_ewc=stored_ewc,
            stacks=stacks,
            device=device.value,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
            minutes=minutes,
        )
        return
    wanted = FinetuneOptions(mode, fold or None, simulation, align, selection, stored_ewc, stacks)
    path, terms = evaluate_losses(config, wanted, device=device.value, seed=seed)
    print(f"{path}:")
    for name, value in terms.items():
        print(f"    {name.removeprefix('val_')}: {value:.6g}")
