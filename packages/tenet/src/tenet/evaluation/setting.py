"""What an evaluation is told, and the configuration, weights and model that this names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenet.config.files import Config, as_config
from tenet.config.sections import Visualization
from tenet.evaluation.baselines import ITERATIONS, TV_WEIGHT
from tenet.evaluation.kinds import Kind
from tenet.evaluation.methods import Methods
from tenet.network.jnet import JNet
from tenet.network.weights import best_weights, load_model, weights_file


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


@dataclass(frozen=True)
class Setting:
    """Options with what they name: configuration, weights, model."""

    options: EvaluationOptions
    config: Config
    weights: Path
    model: JNet

    @classmethod
    def of(cls, options: EvaluationOptions) -> "Setting":
        """Read what options name."""
        config = as_config(options.config)
        checkpoint = options.checkpoint
        weights = best_weights(config) if checkpoint is None else weights_file(checkpoint)
        return cls(options, config, weights, load_model(weights, config, device=options.device))

    @property
    def threshold(self) -> float:
        """What counts as structure."""
        wanted = self.options.threshold
        return self.model.params.threshold if wanted is None else wanted

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
        )

    @property
    def visualization(self) -> Visualization | None:
        """What pictures show, where the configuration says so."""
        return self.config.told_visualization

    def file(self, kind: Kind, ending: str) -> Path:
        """Return the file of a result."""
        return self.options.out / f"{kind.name}{ending}"

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
        }
        if options.baselines:
            told |= {"rl_tv_iterations": options.iterations, "rl_tv_weight": options.tv_weight}
        return told
