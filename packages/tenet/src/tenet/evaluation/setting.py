"""What an evaluation is told, and the configuration, weights and model that this names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scopekit.errors import UserError
from scopekit.images.selection import WHOLE_FILE, Selection
from tenet.config.files import Config, as_config
from tenet.config.sections import Visualization
from tenet.evaluation.baselines import ITERATIONS, TV_WEIGHT
from tenet.evaluation.kinds import Kind
from tenet.evaluation.methods import Methods
from tenet.evaluation.other_volumes import OtherVolumes
from tenet.evaluation.scratch import Scratch
from tenet.network.jnet import JNet
from tenet.network.weights import best_weights, load_evaluated, weights_file, weights_of


@dataclass(frozen=True)
class EvaluationOptions:
    """What all evaluations are told.

    Attributes
    ----------
    config
        A configuration: itself, its path, or its name.
    out
        Folder for the results.
    checkpoint
        Weights; by default the configuration's.
    threshold
        What counts as structure; by default the configuration's.
    baselines, iterations, tv_weight, max_memory_gb
        See `Methods`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    overwrite
        Whether earlier results may be replaced.
    selection
        Which channel and position of recordings that have several.
    with_hill
        See `tenet.enhance`.
    models
        Other networks to compare with: configurations (paths or names), each with its weights, of
        the fold if there is one, or with those behind a ``=``.
    volumes
        What other programs made of the images.
    fold
        Of a cross-validation: its weights are taken, and its folder of recordings.
    """

    config: Config | str | Path
    out: Path
    checkpoint: Path | None = None
    threshold: float | None = None
    baselines: bool = False
    iterations: int = ITERATIONS
    tv_weight: float = TV_WEIGHT
    max_memory_gb: float | None = None
    device: str = "auto"
    overwrite: bool = False
    selection: Selection = WHOLE_FILE
    with_hill: bool = True
    models: tuple[str, ...] = ()
    volumes: tuple[OtherVolumes, ...] = ()
    fold: str | None = None

    def of_fold(self, fold: str | None) -> "EvaluationOptions":
        """Return the options for a fold, with what other programs made of it."""
        volumes = tuple(other.of_fold(fold) for other in self.volumes)
        return replace(self, fold=fold, volumes=volumes)


@dataclass(frozen=True)
class Setting:
    """Options with what they name: configuration, weights, model; others with their weights."""

    options: EvaluationOptions
    config: Config
    weights: Path
    model: JNet
    others: tuple[tuple[str, Path, JNet], ...] = ()

    @classmethod
    def of(cls, options: EvaluationOptions) -> "Setting":
        """Read what options name.

        Raises
        ------
        UserError
            If any of it is missing or wrong, or if two methods have one name.
        """
        config = as_config(options.config)
        if options.fold is not None and options.checkpoint is not None:
            raise UserError("`checkpoint`: each fold has its own weights; leave it out")
        weights = _weights(config, options.checkpoint, options.fold)
        model = load_evaluated(weights, config, threshold=options.threshold, device=options.device)
        others = tuple(_other_model(text, model, options) for text in options.models)
        setting = cls(options, config, weights, model, others)
        names = setting.methods.names
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{name}: two methods of that name; name one of them otherwise")
        return setting

    @property
    def threshold(self) -> float:
        """What counts as structure."""
        return float(self.model.params.threshold)

    @property
    def methods(self) -> Methods:
        """What to try."""
        options = self.options
        return Methods(
            self.model,
            options.baselines,
            options.iterations,
            options.tv_weight,
            options.max_memory_gb,
            options.with_hill,
            tuple((name, model) for name, _, model in self.others),
            options.volumes,
            self.scratch,
        )

    @property
    def scratch(self) -> Scratch:
        """Where large volumes lie meanwhile: in the folder of the results, which must be there."""
        return Scratch(self.options.out, self.options.max_memory_gb)

    @property
    def visualization(self) -> Visualization | None:
        """What pictures show, where the configuration says so."""
        return self.config.told_visualization

    def file(self, kind: Kind, ending: str) -> Path:
        """Return the file of a result."""
        return self.options.out / f"{kind.name}{ending}"

    def require_volumes(self, images: Sequence[str]) -> None:
        """Raise `UserError` if another program has no volume, or several, of an image."""
        for other in self.options.volumes:
            for image in images:
                other.find(image)

    def told(self, kind: Kind) -> dict[str, Any]:
        """Return the settings to note."""
        options = self.options
        told: dict[str, Any] = {
            "evaluation": kind.name,
            "configuration": self.config.name,
            "weights": str(self.weights),
            "threshold": self.threshold,
            "voxel_um": list(self.model.voxel_um),
            "device": str(self.model.device),
            **options.selection.settings(),
        }
        if not options.with_hill:
            told["with_hill"] = False
        if self.others:
            told["models"] = {name: str(path) for name, path, _ in self.others}
        if options.volumes:
            told["volumes"] = {other.name: str(other.path) for other in options.volumes}
        if options.baselines:
            told |= {"rl_tv_iterations": options.iterations, "rl_tv_weight": options.tv_weight}
        return told


def folds_told(folds: Sequence[Setting]) -> dict[str, Any]:
    """Return what to note of folds in place of what `Setting.told` tells of one."""
    told: dict[str, Any] = {
        "folds": [setting.options.fold for setting in folds],
        "weights": [str(setting.weights) for setting in folds],
    }
    others = zip(*(setting.others for setting in folds), strict=True)
    models = {each[0][0]: [str(path) for _, path, _ in each] for each in others}
    return told | ({"models": models} if models else {})


def _weights(config: Config, checkpoint: str | Path | None, fold: str | None) -> Path:
    """Return the weights that are given, or a configuration's (of a fold)."""
    if checkpoint:
        return weights_file(checkpoint)
    if fold is not None:
        return weights_of(config, pretrained=False, fold=fold)
    return best_weights(config)


def _other_model(text: str, model: JNet, options: EvaluationOptions) -> tuple[str, Path, JNet]:
    """Return name, weights and network that ``CONFIG`` or ``CONFIG=WEIGHTS`` names."""
    named, _, checkpoint = text.partition("=")
    if checkpoint and options.fold is not None:
        raise UserError(f"{text}: each fold has its own weights; give {named} alone")
    config = as_config(named)
    weights = _weights(config, checkpoint, options.fold)
    other = load_evaluated(weights, config, threshold=model.params.threshold, device=options.device)
    same = (other.image.scale, other.recorded_voxel_um)
    if same != (model.image.scale, model.recorded_voxel_um):
        raise UserError(
            f"{config.name}: for voxels of {other.recorded_voxel_um} um refined by "
            f"{other.image.scale}, not of {model.recorded_voxel_um} by {model.image.scale}; "
            "compare networks for the same recordings"
        )
    return weights.stem if checkpoint else config.name, weights, other
