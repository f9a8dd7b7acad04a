"""``tenet evaluate``."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scopekit.cli import (
    Device,
    DeviceOption,
    MemoryOption,
    OutFolderOption,
    OverwriteOption,
    SeedOption,
)
from tenet.cli.options import ValueRangeOption

if TYPE_CHECKING:
    from tenet.config.files import Config
    from tenet.evaluation.kinds import Kind
    from tenet.evaluation.samples import Failures
    from tenet.network.jnet import JNet

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Measure what the network finds: beads, microglia, simulations.\n\n"
    "Example: **tenet evaluate beads stacks --config JNet_beads --out eval**",
)

ImagesArgument = Annotated[
    list[Path], typer.Argument(help="Stacks, or folders of them.", show_default=False)
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
AlignOption = Annotated[bool, typer.Option("--align", help="Align the slices of each stack first.")]


@app.command()
def beads(
    images: ImagesArgument,
    config: ConfigOption,
    out: OutFolderOption,
    checkpoint: CheckpointOption = None,
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
    align: AlignOption = False,
    value_range: ValueRangeOption = None,
    device: DeviceOption = Device.auto,
    max_memory_gb: MemoryOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure beads: volume, sphericity, elongation, error of the reconstruction.

    Beads that touch the border are left out, as are specks of less than a tenth of the largest
    object. Writes tables (CSV), pictures and beads_report.html, which shows all of it.

    Example: **tenet evaluate beads stacks --config JNet_beads --radius-um 1 --out eval**
    """
    from tenet.evaluation.kinds import Beads

    volume = None if radius_um is None else 4 / 3 * math.pi * radius_um**3
    run = _Run(config, checkpoint, device, out, overwrite=overwrite)
    samples = run.recorded(images, aligned=align, value_range=value_range)
    run(Beads(volume), samples, len(samples), threshold, baselines, iterations, tv, max_memory_gb)


@app.command()
def microglia(
    images: ImagesArgument,
    config: ConfigOption,
    out: OutFolderOption,
    checkpoint: CheckpointOption = None,
    threshold: ThresholdOption = None,
    baselines: BaselinesOption = False,
    iterations: IterationsOption = 100,
    tv: TVOption = 0.01,
    align: AlignOption = False,
    value_range: ValueRangeOption = None,
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

    run = _Run(config, checkpoint, device, out, overwrite=overwrite)
    samples = run.recorded(images, aligned=align, value_range=value_range)
    run(Microglia(), samples, len(samples), threshold, baselines, iterations, tv, max_memory_gb)


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
    checkpoint: CheckpointOption = None,
    threshold: ThresholdOption = None,
    baselines: BaselinesOption = False,
    iterations: IterationsOption = 100,
    tv: TVOption = 0.01,
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
    from scopekit.errors import UserError
    from tenet.config.sections import LabelCrops
    from tenet.data.recording_files import require_range
    from tenet.evaluation.kinds import Simulation
    from tenet.evaluation.samples import (
        Failures,
        label_files,
        recording_files,
        simulated_crops,
        simulated_samples,
    )

    files = label_files(labels or [])
    pictures = [] if images is None else recording_files([images])
    if images is not None and len(pictures) != len(files):
        raise UserError(f"{images}: {len(pictures)} images of {len(files)} labels; give all")
    if value_range is not None:
        if images is None:
            raise UserError("--value-range: labels are imaged in the right scale; leave it out")
        require_range(value_range)
    run = _Run(config, checkpoint, device, out, overwrite=overwrite)
    if files:
        number = len(files)
        run.failures, run.value_range = Failures(number), value_range
        samples = simulated_samples(
            files, run.model, seed, pictures, value_range=value_range, failures=run.failures
        )
    else:
        samples = simulated_crops(run.config, run.model, None)
        number = run.config.section("pretrain_val_dataset", LabelCrops).I
    run(Simulation(), samples, number, threshold, baselines, iterations, tv, max_memory_gb)


class _Run:
    """A model and where its evaluation goes.

    Attributes
    ----------
    failures
        Files that could not be used, told when the rest is done.
    value_range
        Recorded values that are 0 and 1 to the network, where given.
    """

    failures: "Failures | None" = None

    def __init__(
        self, config: str, checkpoint: Path | None, device: Device, out: Path, *, overwrite: bool
    ) -> None:
        from scopekit.memory import choose_device
        from tenet.config.files import load_config
        from tenet.inference import best_weights
        from tenet.network.weights import checkpoint_file, load_model

        self.config: Config = load_config(config)
        self.weights = checkpoint_file(checkpoint) if checkpoint else best_weights(self.config)
        on = choose_device(device.value)
        self.model: JNet = load_model(self.weights, self.config.params).to(on)
        self._out, self._overwrite = out, overwrite
        self.value_range: tuple[float, float] | None = None

    def recorded(
        self, inputs: list[Path], *, aligned: bool, value_range: tuple[float, float] | None
    ) -> Any:
        """Read recordings."""
        from tenet.evaluation.samples import Failures, recorded_samples, recording_files

        files = recording_files(inputs)
        self.failures, self.value_range = Failures(len(files)), value_range
        samples = recorded_samples(
            files,
            self.config.params,
            aligned=aligned,
            value_range=value_range,
            failures=self.failures,
        )
        if not samples:
            self.failures.require_none()
        return samples

    def __call__(
        self,
        kind: "Kind",
        samples: Any,
        number: int,
        threshold: float | None,
        baselines: bool,
        iterations: int,
        tv: float,
        max_memory_gb: float | None,
    ) -> None:
        """Evaluate, and print the table."""
        from tenet.evaluation.methods import Methods, voxel_of
        from tenet.evaluation.report import text_table
        from tenet.evaluation.run import Outputs, evaluate
        from tenet.inference import draw_psf, visualization_of

        limit = None if max_memory_gb is None else int(max_memory_gb * 1e9)
        methods = Methods(self.model, baselines, iterations, tv, limit)
        threshold = self.config.params.threshold if threshold is None else threshold
        settings: dict[str, Any] = {
            "evaluation": kind.name,
            "configuration": self.config.name,
            "weights": str(self.weights),
            "threshold": threshold,
            "voxel_um": list(voxel_of(self.model)),
            "device": str(self.model.a.device),
        }
        if self.value_range is not None:
            settings["value_range"] = list(self.value_range)
        if baselines:
            settings |= {"rl_tv_iterations": iterations, "rl_tv_weight": tv}
        outputs = Outputs(
            self._out,
            self._overwrite,
            settings,
            draw_psf(self.model, self.config, self.weights),
            visualization_of(self.config),
        )
        rows = evaluate(kind, methods, samples, number, threshold, outputs)
        print(text_table(rows))
        print(f"report: {self._out / f'{kind.name}_report.html'}")
        if self.failures is not None:
            self.failures.require_none()
