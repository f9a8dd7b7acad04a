"""Time points that the workers of a dask cluster enhance: each loads the network once."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from scopekit.images.files import Selection
from scopekit.memory import return_freed_memory
from scopekit.series.dask import WorkerJob
from tenet.config.files import Config
from tenet.enhancement.recording import Enhancer
from tenet.enhancement.results import StackOptions
from tenet.network.weights import load_evaluated


@dataclass(frozen=True)
class EnhanceSetting:
    """What all time points share; files have absolute names.

    Attributes
    ----------
    config
        The configuration; ``config_text`` tells it from others.
    weights, weights_sha256
        The network, and what tells it from an earlier one of the same name.
    device
        Where each worker computes.
    options, out, selection, overwrite
        See `tenet.enhancement.recording.Enhancer`.
    """

    config: Config = field(compare=False)
    config_text: str
    weights: Path
    weights_sha256: str
    device: str
    options: StackOptions
    out: Path
    selection: Selection
    overwrite: bool


@dataclass(frozen=True)
class EnhanceJob(WorkerJob):
    """Enhances any of some time points; travels to workers.

    Attributes
    ----------
    setting
        What they share.
    tasks
        Recording and time point of each.
    """

    setting: EnhanceSetting
    tasks: tuple[tuple[Path, int], ...]

    def do(self, frame: int) -> None:
        """Enhance the time point of that number, unless an earlier worker has."""
        path, time_point = self.tasks[frame]
        enhancer = _enhancer_once(self.setting)
        opened = enhancer.open(path)
        if not enhancer.is_done(opened, time_point):
            enhancer.enhance(opened, time_point)


@lru_cache(maxsize=1)
def _enhancer_once(setting: EnhanceSetting) -> Enhancer:
    return_freed_memory()
    model = load_evaluated(
        setting.weights,
        setting.config,
        threshold=setting.options.threshold,
        device=setting.device,
    )
    return Enhancer(
        setting.config,
        model,
        setting.weights,
        setting.options,
        setting.out,
        setting.selection,
        overwrite=setting.overwrite,
    )
