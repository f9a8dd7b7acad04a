"""A finished deconvolution that is to have more iterations: the new run goes on from its volume."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.progress import say
from scopekit.settings import read_yaml
from serenet.deconvolution.windows import Window

# These change how long a run takes, not what a sweep does.
_FREE = ("iterations", "device")


@dataclass(frozen=True)
class EarlierResult:
    """A result of the same settings with fewer sweeps.

    Attributes
    ----------
    path
        The volume, float32 as it was estimated.
    iterations
        Its sweeps.
    frames
        What its settings tell of each frame.
    """

    path: Path
    iterations: int
    frames: list[Mapping[str, Any]]

    def start(
        self, frame: int, number: int, n_windows: int, window: Window, gain: float
    ) -> tuple[Tensor, list[float]] | None:
        """Return the estimate of a window, surround included, and the deviance of its sweeps.

        Parameters
        ----------
        frame, number, n_windows
            The time point, the window, and how many there are.
        window
            Where it lies.
        gain
            What the views were multiplied by, see `serenet.views.brightness.exact_gain`.

        Returns
        -------
        Tensor, list of float
            ``None`` if the field was cut into other windows then.
        """
        told = self.frames[frame]
        if told.get("windows") != n_windows:
            return None
        stack = open_stack(self.path)
        values = stack.read_window(range(stack.shape[-3]), *window.volume, frame)
        fits = [float(fit) * gain for fit in told["deviance_per_sweep"][number]]
        return torch.from_numpy(values).mul_(gain), fits


def earlier_result(result: Path, settings: Mapping[str, Any]) -> EarlierResult | None:
    """Return a result that a run of these settings can go on from, ``None`` if there is none.

    Parameters
    ----------
    result
        The volume to be made, as TIFF.
    settings
        Those of the run. What stops by itself, or is stored as uint16, cannot go on.
    """
    if settings["stop_at_change"] > 0 or settings["dtype"] != "float32" or not result.is_file():
        return None
    try:
        noted = read_yaml(result.with_suffix(".yaml"))
    except UserError:
        return None
    wanted = yaml.safe_load(yaml.safe_dump(dict(settings)))
    frames = noted.get("frames")
    if not isinstance(frames, list) or not isinstance(wanted["iterations"], int):
        return None
    done = _sweeps(frames)
    if done is None or done >= wanted["iterations"]:
        return None
    if any(noted.get(name) != value for name, value in wanted.items() if name not in _FREE):
        return None
    return EarlierResult(result, done, frames)


def _sweeps(frames: list[Any]) -> int | None:
    """Return how many sweeps all windows of all frames had, ``None`` if not as many."""
    counts = {
        len(window)
        for frame in frames
        if isinstance(frame, Mapping)
        for window in frame.get("deviance_per_sweep", ())
    }
    return counts.pop() if len(counts) == 1 else None


def tell(earlier: EarlierResult) -> None:
    """Say that a run goes on from an earlier result."""
    say(f"{earlier.path}: going on from its {earlier.iterations} iterations")
