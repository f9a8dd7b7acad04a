"""The training loop of every method: steps, validation, checkpoints, log, resume.

A step's samples, their random numbers and the learning rate follow from the seed and the number
of the step alone. So a run that was killed and resumed equals one that was not, and several
processes equal one with as many times the batch.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scopekit.checkpoints import write_checkpoint
from scopekit.distributed import World
from scopekit.errors import UserError
from scopekit.progress import console, progress_bar, say
from scopekit.run_folder import History, RunFolder
from scopekit.volumes import VoxelSize

Precision = Literal["float32", "bfloat16", "float16"]
_STEPS_AHEAD = 2
_READERS = 2
_ORDER, _SAMPLE, _MODEL = 0, 1, 2  # independent streams of random numbers


class Sample(Protocol):
    """What one pass of the network starts from, on the CPU."""

    @property
    def source(self) -> str:
        """The file it comes from, for messages."""


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes
    ----------
    scores
        Name to value; the higher the better.
    volumes
        Title to volume (Z, Y, X), all of one shape, to be drawn; may be empty.
    voxel_um
        (z, y, x) step in um.
    """

    scores: dict[str, float]
    volumes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    voxel_um: VoxelSize = (1.0, 1.0, 1.0)


class Recipe(Protocol[S]):
    """What a method adds to the loop.

    Attributes
    ----------
    model
        The network; what does not require a gradient stays as it is.
    n_samples
        Samples an epoch.
    best_by
        The score that decides which checkpoint is the best.
    memory_settings
        What to lower when the memory does not suffice, in words: "crop (now 99)".
    """

    @property
    def model(self) -> nn.Module: ...  # noqa: D102
    @property
    def n_samples(self) -> int: ...  # noqa: D102
    @property
    def best_by(self) -> str: ...  # noqa: D102
    @property
    def memory_settings(self) -> str: ...  # noqa: D102

    def sample(self, item: int, rng: np.random.Generator) -> S:
        """Read and prepare sample ``item`` of an epoch; called in other threads, ahead of use."""

    def losses(self, network: Callable[..., Any], samples: Sequence[S]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss, each the mean over the samples.

        ``network`` is the model, to be called once, in the run's precision.
        """

    def validate(self) -> Validation:
        """Judge the model, which is in evaluation mode."""

    def checkpoint(self) -> dict[str, Any]:
        """Return what using the model needs, as plain tensors and values."""


@dataclass(frozen=True)
class Loop:
    """How long and how fast to learn.

    Attributes
    ----------
    epochs
        Number of epochs; in one, every sample is drawn once.
    learning_rate
        The rate that ``schedule`` scales.
    schedule
        ``schedule(epoch)``, epoch a real number from 0: factor of the learning rate.
    optimizer
        ``adam`` or ``sgd``.
    batch_size
        Samples that go through the network together, in one process.
    accumulate
        Batches whose gradients make one step.
    clip_norm
        Largest norm of the gradient; ``None``: any.
    precision
        Of the network; losses and parameters stay float32.
    validate_every, save_every
        Epochs between validations and between kept checkpoints.
    seed
        Of the samples' order and random numbers.
    """

    epochs: int
    learning_rate: float
    schedule: Callable[[float], float] = lambda _: 1.0
    optimizer: Literal["adam", "sgd"] = "adam"
    batch_size: int = 1
    accumulate: int = 1
    clip_norm: float | None = None
    precision: Precision = "float32"
    validate_every: int = 10
    save_every: int = 100
    seed: int = 0


def train(
    recipe: Recipe[Any],
    loop: Loop,
    folder: RunFolder | None,
    world: World,
    last: Mapping[str, Any] | None = None,
) -> None:
    """Train a model and leave its checkpoints, log and pictures in the run's folder.

    Parameters
    ----------
    recipe
        What to train, on what, by which loss; its model is on ``world.device``.
    loop
        How long and how fast.
    folder
        Where to write; ``None`` in all processes but the first.
    world
        The processes that share the work.
    last
        Content of ``last.pt`` of the run to go on with.

    Raises
    ------
    UserError
        If the loss is not finite, or the memory does not suffice; ``last.pt`` is kept.
    """
    trainer = _Trainer(recipe, loop, folder, world)
    if last is not None:
        trainer.restore(last)
    trainer.run()


class _Trainer:
    def __init__(
        self, recipe: Recipe[Any], loop: Loop, folder: RunFolder | None, world: World
    ) -> None:
        self.recipe, self.loop, self.folder, self.world = recipe, loop, folder, world
        self.parallel = DistributedDataParallel(recipe.model) if world.size > 1 else None
        self.parameters = [p for p in recipe.model.parameters() if p.requires_grad]
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[loop.optimizer]
        self.optimizer = kind(self.parameters, lr=loop.learning_rate)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=loop.precision == "float16")
        self.samples_per_step = loop.batch_size * loop.accumulate * world.size
        self.steps_per_epoch = max(recipe.n_samples // self.samples_per_step, 1)
        self.epoch = 0
        self.best = -math.inf
        self.history: History = []
        self.latest = ""

    def run(self) -> None:
        self.recipe.model.train()
        n_steps = (self.loop.epochs - self.epoch) * self.steps_per_epoch
        if n_steps <= 0:
            raise UserError(
                f"this run has its {self.loop.epochs} epochs: raise 'epochs' to train on"
            )
        bar = progress_bar("training", n_steps) if self.folder else nullcontext(_no_bar)
        try:
            with bar as advance:
                while self.epoch < self.loop.epochs:
                    self._run_epoch(advance)
        except KeyboardInterrupt:
            if self.folder is not None:
                say(f"stopped in epoch {self.epoch + 1}{self._kept()}")
            raise
        finally:
            if self.folder is not None:
                self.folder.close()

    def _run_epoch(self, advance: Callable[..., None]) -> None:
        first = self.epoch * self.steps_per_epoch
        steps = range(first, first + self.steps_per_epoch)
        started, waited = time.perf_counter(), 0.0
        totals: dict[str, float] = {}
        batches = self._batches_ahead(steps)
        for step in steps:
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            for name, value in self._step(step, batch).items():
                totals[name] = totals.get(name, 0.0) + value / len(steps)
            advance(1, f"epoch {self.epoch + 1}{self.latest}")
        self.epoch += 1
        self.latest = f", loss {totals['loss']:.4g}"
        seconds = time.perf_counter() - started
        row = {
            "epoch": self.epoch,
            "step": steps[-1] + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 3),
            "waiting_share": round(waited / seconds, 4),
            **totals,
        }
        if self.folder is not None:
            self._finish_epoch(self.folder, row)
        self.world.wait()

    def _batches_ahead(self, steps: range) -> Iterator[list[Any]]:
        """Yield the samples of every step in this process, read while earlier ones are used."""
        with ThreadPoolExecutor(_READERS) as readers:
            queue: deque[list[Future[Any]]] = deque()
            for step in steps:
                queue.append([readers.submit(self._sample, n) for n in self._numbers(step)])
                if len(queue) > _STEPS_AHEAD:
                    yield [future.result() for future in queue.popleft()]
            while queue:
                yield [future.result() for future in queue.popleft()]

    def _numbers(self, step: int) -> range:
        mine = self.loop.batch_size * self.loop.accumulate
        first = step * self.samples_per_step + self.world.rank * mine
        return range(first, first + mine)

    def _sample(self, number: int) -> Any:
        epoch, place = divmod(number, self.recipe.n_samples)
        order = self._random(_ORDER, epoch).permutation(self.recipe.n_samples)
        return self.recipe.sample(int(order[place]), self._random(_SAMPLE, number))

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.loop.seed, stream, number]))

    def _step(self, step: int, samples: list[Any]) -> dict[str, float]:
        """Learn from the samples; return the loss and its terms, averaged over all of them."""
        loop = self.loop
        rate = loop.learning_rate * loop.schedule(step / self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # What the model itself draws, such as dropout.
        own = self._random(_MODEL, step * self.world.size + self.world.rank)
        torch.manual_seed(int(own.integers(2**62)))
        self.optimizer.zero_grad(set_to_none=True)
        where = f"step {step + 1}, {', '.join(sorted({s.source for s in samples}))}"
        try:
            terms = self._backward(samples)
        except (MemoryError, RuntimeError) as failure:
            if not _is_out_of_memory(failure):
                raise
            raise UserError(
                f"out of memory in {where}: lower {self.recipe.memory_settings}{self._kept()}"
            ) from failure
        terms = self.world.mean(terms)
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if loop.clip_norm is None else loop.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        # Half precision overflows now and then; the scaler passes over such steps.
        if not math.isfinite(terms["loss"]) or not (
            math.isfinite(norm) or self.scaler.is_enabled()
        ):
            raise UserError(
                f"the loss is {terms['loss']:g}, its gradient {norm:g}, in {where}: look at that "
                f"file, or lower learning_rate (now {rate:g}){self._kept()}"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return terms

    def _backward(self, samples: list[Any]) -> dict[str, float]:
        loop = self.loop
        sums: dict[str, float] = {}
        for first in range(0, len(samples), loop.batch_size):
            last = first + loop.batch_size >= len(samples)
            # Gradients are averaged over the processes once a step.
            with nullcontext() if last or self.parallel is None else self.parallel.no_sync():
                losses = self.recipe.losses(self._forward, samples[first : first + loop.batch_size])
                total = torch.stack(list(losses.values())).sum() / loop.accumulate
                self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
            for name, term in {"loss": total * loop.accumulate, **losses}.items():
                name = name if name == "loss" else f"loss_{name}"
                sums[name] = sums.get(name, 0.0) + float(term.detach()) / loop.accumulate
        return sums

    def _forward(self, *inputs: Any) -> Any:
        half = self.loop.precision != "float32"
        dtype = torch.float16 if self.loop.precision == "float16" else torch.bfloat16
        with torch.autocast(self.world.device.type, dtype, enabled=half):
            return (self.parallel or self.recipe.model)(*inputs)

    def _finish_epoch(self, folder: RunFolder, row: dict[str, float]) -> None:
        loop, last, scores = self.loop, self.epoch == self.loop.epochs, ""
        self.history.append(row)
        if last or self.epoch % loop.validate_every == 0:
            found = self._validate()
            row.update(found.scores)
            caption = ", ".join(f"{name} {value:.4g}" for name, value in found.scores.items())
            scores = f", {caption}"
            if found.volumes:
                folder.write_picture(self.epoch, found.volumes, found.voxel_um, caption)
            score = found.scores[self.recipe.best_by]
            if score > self.best or not folder.best.exists():
                self.best = -math.inf if math.isnan(score) else score
                write_checkpoint(folder.best, self._content(), overwrite=True)
            folder.write_curves(self.history)
        if last or self.epoch % loop.save_every == 0:
            folder.write_epoch(self.epoch, self._content())
        folder.write_history(self.history)
        content = self._content()
        content["training"] |= {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "best": self.best,
        }
        # Last, so that whatever was interrupted is done again.
        write_checkpoint(folder.last, content, overwrite=True)
        if not console.is_terminal:  # no bar is to be seen
            took = f"{row['seconds']:.1f} s"
            say(f"epoch {self.epoch} of {loop.epochs}: {took}{self.latest}{scores}")

    def _validate(self) -> Validation:
        self.recipe.model.eval()
        try:
            with torch.no_grad():
                return self.recipe.validate()
        finally:
            self.recipe.model.train()

    def _content(self) -> dict[str, Any]:
        step = self.epoch * self.steps_per_epoch
        return {**self.recipe.checkpoint(), "training": {"epoch": self.epoch, "step": step}}

    def restore(self, content: Mapping[str, Any]) -> None:
        state = content["training"]
        self.recipe.model.load_state_dict(content["state"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history, self.best = state["history"], state["best"]
        self.epoch = state["epoch"]
        if self.world.is_first:
            say(f"going on after epoch {self.epoch}")

    def _kept(self) -> str:
        return f"; epoch {self.epoch} is kept, --resume goes on from it" if self.epoch else ""


def _no_bar(*_: Any) -> None:
    pass


def _is_out_of_memory(failure: Exception) -> bool:
    words = ("DefaultCPUAllocator", "out of memory", "could not create a memory")
    return isinstance(failure, MemoryError) or any(word in str(failure) for word in words)
