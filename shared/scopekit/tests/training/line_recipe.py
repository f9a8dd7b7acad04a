"""A recipe to test the training loop with: a line through noisy points."""

import os
from dataclasses import dataclass

import torch
from torch import nn

from scopekit.checkpoints import read_checkpoint
from scopekit.training.loop import train
from scopekit.training.plateau import Plateau
from scopekit.training.processes import World
from scopekit.training.recipe import Loop, Validation
from scopekit.training.run_folder import RunFolder, read_last

LOSSES = [5.0, 4.0, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5]
PLATEAU = Plateau(patience=2, factor=0.5, warmup_epochs=2, warmup_factor=0.1)
CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


@dataclass
class Point:
    source: str
    x: torch.Tensor
    y: torch.Tensor


class Line:
    """y = 2 x - 1 with noise; the model has dropout, so that it draws random numbers too."""

    n_samples = 12
    best_by = "closeness"
    memory_settings = "batch_size (now 1)"

    def __init__(self, stop_at=None, broken=None):
        torch.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))
        self.stop_at, self.broken = stop_at, broken
        self.seen = []
        self.steps = 0

    def sample(self, item, rng):
        x = (
            torch.tensor(
                [
                    item / 6 - 1,
                ],
                dtype=torch.float32,
            )
            + 0.1 * rng.standard_normal()
        )
        return Point(f"point{item}.tif", x.float(), 2 * x.float() - 1)

    def losses(self, network, samples):
        self.steps += 1
        if self.steps == self.stop_at:
            os._exit(9)
        self.seen += [s.source for s in samples]
        x, y = (torch.stack([getattr(s, name) for s in samples]) for name in "xy")
        error = (network(x) - y).square().mean()
        if self.broken and self.steps == 5:
            error = self.broken(error)
        return {
            "error": error,
            "small": 0.01 * sum(p.square().sum() for p in self.model.parameters()),
        }

    def validate(self):
        assert not self.model.training
        x = torch.linspace(-1, 1, 5)[:, None]
        y = self.model(x).detach()
        error = float((y - 2 * x + 1).square().mean())
        volume = y.reshape(5, 1, 1).expand(5, 6, 7).numpy()
        return Validation({"closeness": -error}, {"line": volume})

    def checkpoint(self):
        return {"state": {k: v.clone() for k, v in self.model.state_dict().items()}}


def loop(**changes):
    return Loop(
        **{"epochs": 4, "learning_rate": 0.05, "validate_every": 2, "save_every": 3} | changes
    )


def run(path, recipe, resume=False, world=ALONE, **changes):
    folder = RunFolder(path, {"epochs": 4, "rate": 1}, resume=resume, overwrite=False)
    folder.begin()
    train(recipe, loop(**changes), folder, world, read_last(path))
    return read_checkpoint(path / "checkpoints" / "last.pt")


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k not in UNTIMED)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


UNTIMED = ("seconds", "waiting_share")


class Loss(Line):
    """Told by a loss that the test makes up, the first ones falling."""

    best_by = "error"

    def __init__(self, losses, stop_at=None):
        super().__init__(stop_at)
        self.given = losses

    def validate(self):
        # What epoch it is follows from the steps, in a resumed run too.
        return Validation({"error": self.given[self.done - 1]}, lower_is_better=True)

    def on_epoch(self, epoch):
        self.done = epoch + 1


def run_loss(path, recipe, resume=False, **changes):
    return run(path, recipe, resume, epochs=12, on_epoch=recipe.on_epoch, **changes)
