"""A learning rate that falls where the validation stops improving; its state can be saved."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scopekit.timm_import import import_timm


@dataclass(frozen=True)
class Plateau:
    """When the learning rate falls.

    Attributes
    ----------
    patience
        Epochs without a better score before it does.
    factor
        By which.
    warmup_epochs, warmup_factor
        It rises linearly over so many epochs, from that share of itself.
    """

    patience: int = 20
    factor: float = 0.1
    warmup_epochs: int = 10
    warmup_factor: float = 0.1


class PlateauRate:
    """timm's ``PlateauLRScheduler`` with all of its state.

    Parameters
    ----------
    optimizer
        Whose rate it sets, at once and in every `step`.
    plateau
        When it falls.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, plateau: Plateau) -> None:
        rate = optimizer.param_groups[0]["lr"]
        with warnings.catch_warnings():
            # It warns that it does not save its state, which is done here.
            warnings.simplefilter("ignore", FutureWarning)
            self._timm = import_timm("timm.scheduler.plateau_lr").PlateauLRScheduler(
                optimizer,
                decay_rate=plateau.factor,
                patience_t=plateau.patience,
                warmup_t=plateau.warmup_epochs,
                warmup_lr_init=rate * plateau.warmup_factor,
                mode="min",
            )

    def step(self, epoch: int, loss: float) -> None:
        """Set the rate after epoch ``epoch``, counted from 1, of that validation loss."""
        self._timm.step(epoch, loss)

    def state_dict(self) -> dict[str, Any]:
        """Return what tells the best loss and the epochs since, in plain values."""
        state: dict[str, Any] = self._timm.lr_scheduler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; the rate itself is the optimizer's."""
        self._timm.lr_scheduler.load_state_dict(state)


@dataclass(frozen=True)
class EarlyStop:
    """When to end a run before its epochs are done.

    Attributes
    ----------
    patience
        Epochs in which the moving mean of the validation loss may stay above its lowest.
    window
        Epochs of the moving mean.
    """

    patience: int
    window: int = 3

    def is_reached(self, losses: Sequence[float]) -> bool:
        """Return whether validation losses, one an epoch, have stopped falling."""
        means = [
            sum(losses[end - self.window : end]) / self.window
            for end in range(self.window, len(losses) + 1)
        ]
        if not means:
            return False
        lowest = min(range(len(means)), key=means.__getitem__)
        return len(means) - 1 - lowest >= self.patience
