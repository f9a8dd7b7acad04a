"""``tenet evaluate``."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scopekit.cli import (
    ChannelOption,
    Device,
    DeviceOption,
    FramesAreOption,
    MemoryOption,
    OutFolderOption,
    OverwriteOption,
    PositionOption,
    SeedOption,
    select,
)
from tenet.cli.options import ValueRangeOption

if TYPE_CHECKING:
    from tenet.evaluation.run import Outcome

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Measure what the network finds: beads; recordings without truth of whatever kind "
    "(microglia); simulations.\n\n"
    "Example: **tenet evaluate beads stacks --config JNet_beads --out eval**",
)

ImagesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Stacks, or folders of them.", show_default="what test_images names, or validates"
    ),
]
ConfigOption = Annotated[
    str,
    typer.Option(help="A configuration (JSON), or a model's name.", show_default=False),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        help="Weights, or the name of some that ship (demo_pretrain).",
        show_default="the configuration's fine-tuned ones, else its pre-trained ones",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="What counts as structure.", show_default="the configuration's"
    ),
]
BaselinesOption = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Measure RL-TV (Richardson-Lucy with total variation) and interpolation too.",
    ),
]
IterationsOption = Annotated[int, typer.Option(min=1, help="Of RL-TV.")]
TVOption = Annotated[float, typer.Option("--tv", min=0, help="Of RL-TV: weight of the variation.")]
HillOption = Annotated[
    bool,
    typer.Option(
        "--without-hill",
        help="Show networks the image as it is, as published inference on beads does; they learn "
        "from images that the Hill function lifted.",
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--also",
        metavar="CONFIG[=WEIGHTS]",
        help="Another network to compare with; give it again for more.",
        show_default=False,
    ),
]
VolumesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--volumes",
        metavar="NAME=FOLDER",
        help="What another program made of the images: a file IMAGE.tif or IMAGE_NAME.tif each, as "
        "fine as the result; give it again for more.",
        show_default=False,
    ),
]
FoldsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fold",
        "-cv",
        metavar="K",
        help="Fold of a cross-validation, with its own weights and folders (those given, with K "
        "added); give it again for more: all are pooled.",
        show_default=False,
    ),
]
AlignOption = Annotated[bool, typer.Option("--align", help="Align the slices of each stack first.")]


@app.command()
def beads(
    config: ConfigOption,
    out: OutFolderOption,
    images: ImagesArgument = None,
    checkpoint: CheckpointOption = None,
    folds: FoldsOption = None,
    radius_um: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="True radius of the beads: draws what is right, and finds the threshold whose "
            "mean volume is nearest.",
            show_default=False,
        ),
    ] = None,
    threshold: ThresholdOption = None,
    baselines: BaselinesOption = False,
    iterations: IterationsOption = 100,
    tv: TVOption = 0.01,
    also: ModelsOption = None,
    volumes: VolumesOption = None,
    without_hill: HillOption = False,
    align: AlignOption = False,
    value_range: ValueRangeOption = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    device: DeviceOption = Device.auto,
    max_memory_gb: MemoryOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure beads: volume, sphericity, elongation, error of the reconstruction.

    Specks of less than a tenth of the largest object are left out, and of several beads those that
    touch the border; a bead alone counts wherever it lies. Writes tables (CSV), pictures and
    beads_report.html, which shows all of it.

    Example: **tenet evaluate beads stacks --config JNet_beads --radius-um 1 --out eval**
    """
    from tenet.evaluation.kinds import Beads
    from tenet.evaluation.other_volumes import parse_others
    from tenet.evaluation.run import evaluate_recordings
    from tenet.evaluation.setting import EvaluationOptions

    options = EvaluationOptions(
        config,
        out,
        checkpoint,
        threshold,
        baselines,
        iterations,
        tv_weight=tv,
        max_memory_gb=max_memory_gb,
        device=device.value,
        overwrite=overwrite,
        selection=select(channel, position, frames_are),
        with_hill=not without_hill,
        models=tuple(also or ()),
        volumes=parse_others(volumes or ()),
    )
    beads = Beads(None if radius_um is None else 4 / 3 * math.pi * radius_um**3)
    outcome = evaluate_recordings(
        beads,
        images or [],
        options,
        folds=folds or (),
        aligned=align,
        value_range=value_range,
    )
    _tell(outcome)


@app.command()
def microglia(
    config: ConfigOption,
    out: OutFolderOption,
    images: ImagesArgument = None,
    checkpoint: CheckpointOption = None,
    folds: FoldsOption = None,
    threshold: ThresholdOption = None,
    baselines: BaselinesOption = False,
    iterations: IterationsOption = 100,
    tv: TVOption = 0.01,
    also: ModelsOption = None,
    volumes: VolumesOption = None,
    without_hill: HillOption = False,
    align: AlignOption = False,
    value_range: ValueRangeOption = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    device: DeviceOption = Device.auto,
    max_memory_gb: MemoryOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure recordings without truth: share of structure, objects, error of the reconstruction.

    Writes tables (CSV; objects of ten voxels or more), pictures and microglia_report.html, which
    shows all of it.

    Example: **tenet evaluate microglia stacks --config JNet_microglia --out eval**
    """
    from tenet.evaluation.kinds import Microglia
    from tenet.evaluation.other_volumes import parse_others
    from tenet.evaluation.run import evaluate_recordings
    from tenet.evaluation.setting import EvaluationOptions

    options = EvaluationOptions(
        config,
        out,
        checkpoint,
        threshold,
        baselines,
        iterations,
        tv_weight=tv,
        max_memory_gb=max_memory_gb,
        device=device.value,
        overwrite=overwrite,
        selection=select(channel, position, frames_are),
        with_hill=not without_hill,
        models=tuple(also or ()),
        volumes=parse_others(volumes or ()),
    )
    outcome = evaluate_recordings(
        Microglia(),
        images or [],
        options,
        folds=folds or (),
        aligned=align,
        value_range=value_range,
    )
    _tell(outcome)


@app.command()
def simulation(
    config: ConfigOption,
    out: OutFolderOption,
    labels: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Labels NNNN_labelx.npy, or folders of them.",
            show_default="crops of pretrain_val_dataset",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the labels' images, in the same order.",
            show_default="imaged on the spot by the configuration's PSF and noise",
        ),
    ] = None,
    value_range: ValueRangeOption = None,
    channel: ChannelOption = None,
    position: PositionOption = None,
    frames_are: FramesAreOption = None,
    checkpoint: CheckpointOption = None,
    threshold: ThresholdOption = None,
    baselines: BaselinesOption = False,
    iterations: IterationsOption = 100,
    tv: TVOption = 0.01,
    also: ModelsOption = None,
    volumes: VolumesOption = None,
    without_hill: HillOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    max_memory_gb: MemoryOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Compare with known structure: overlap (IoU), squared error, cross-entropy, volume.

    Every method is measured at many thresholds; the best is that of the largest mean IoU. Writes
    tables (CSV), pictures and simulation_report.html, which shows all of it.

    Example: **tenet evaluate simulation lines45 --config JNet_beads --baselines --out eval**
    """
    from tenet.evaluation.other_volumes import parse_others
    from tenet.evaluation.run import evaluate_simulation
    from tenet.evaluation.setting import EvaluationOptions

    options = EvaluationOptions(
        config,
        out,
        checkpoint,
        threshold,
        baselines,
        iterations,
        tv_weight=tv,
        max_memory_gb=max_memory_gb,
        device=device.value,
        overwrite=overwrite,
        selection=select(channel, position, frames_are),
        with_hill=not without_hill,
        models=tuple(also or ()),
        volumes=parse_others(volumes or ()),
    )
    outcome = evaluate_simulation(
        labels or [], options, images=images, value_range=value_range, seed=seed
    )
    _tell(outcome)


def _tell(outcome: "Outcome") -> None:
    """Print the table, where the report is, and at last which files failed."""
    from tenet.evaluation.tables import text_table

    print(text_table(outcome.rows))
    print(f"report: {outcome.page}")
    outcome.failures.require_none()
