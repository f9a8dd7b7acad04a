"""The training loop of every method: steps, validation, checkpoints, log, resume.

A step's samples, their random numbers and the learning rate follow from the seed and the number
of the step alone. So a run that was killed and resumed equals one that was not, and several
processes equal one with as many times the batch.
"""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scopekit.checkpoints import write_checkpoint
from scopekit.errors import Page, UserError
from scopekit.progress import Advance, console, no_progress, progress_bar, say, say_progress
from scopekit.signals import EndedBySignal
from scopekit.training.muon import optimizer_of
from scopekit.training.plateau import PlateauRate
from scopekit.training.processes import World
from scopekit.training.recipe import Loop, Moments, Recipe, Validation
from scopekit.training.run_folder import History, RunFolder
from scopekit.training.samples import SampleStream
from scopekit.training.timetable import Timetable


def train(
    recipe: Recipe[Any],
    loop: Loop,
    folder: RunFolder | None,
    world: World,
    last: Mapping[str, Any] | None = None,
    moments: Moments | None = None,
    timetable: Timetable | None = None,
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
    moments
        Of the optimizer, by the parameters' names, to start with.
    timetable
        Counts the epochs anew while they run, so that they fill a given time.

    Raises
    ------
    UserError
        If the loss is not finite, or the memory does not suffice; ``last.pt`` is kept.
    """
    trainer = Trainer(recipe, loop, folder, world, timetable)
    if moments is not None:
        trainer.take_moments(moments)
    if last is not None:
        trainer.restore(last)
    trainer.run()


class Trainer:
    """A training, step by step, see `train`."""

    def __init__(
        self,
        recipe: Recipe[Any],
        loop: Loop,
        folder: RunFolder | None,
        world: World,
        timetable: Timetable | None = None,
    ) -> None:
        self.timetable = timetable
        self.recipe, self.loop, self.folder, self.world = recipe, loop, folder, world
        self.parallel = DistributedDataParallel(recipe.model) if world.size > 1 else None
        self.parameters = [p for p in recipe.model.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(recipe.model, loop)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=loop.precision == "float16")
        self.rate = None if loop.plateau is None else PlateauRate(self.optimizer, loop.plateau)
        mine = loop.batch_size * loop.accumulate
        self.stream = SampleStream(
            recipe.sample,
            n_samples=recipe.n_samples,
            a_process=mine,
            a_step=mine * world.size,
            seed=loop.seed,
        )
        self.steps_per_epoch = max(recipe.n_samples // (mine * world.size), 1)
        self.epoch = 0
        self.best = -math.inf
        self.losses: list[float] = []
        self.history: History = []
        self.latest = ""

    def is_done(self) -> bool:
        """Whether all epochs are done, or the validation has stopped improving."""
        early = self.loop.early_stop
        stopped = early is not None and early.is_reached(self.losses)
        return stopped or self.epoch >= self.loop.epochs

    def run(self) -> None:
        """Train until all epochs are done."""
        self.recipe.model.train()
        if self.epoch:
            self._count_epochs_anew()
        if self.is_done():
            why = "to train on"
            if self.epoch < self.loop.epochs:
                why = "has no effect: the validation had stopped improving"
            raise UserError(
                f"this run has its {self.epoch} epoch{'s' * (self.epoch > 1)}: raise "
                f"{'minutes' if self.timetable else self.loop.epochs_key} {why}"
            )
        if self.timetable is not None:
            self.timetable.begin()
        try:
            while not self.is_done():
                self._run_as_planned()
        except (KeyboardInterrupt, EndedBySignal):
            if self.folder is not None:
                say(f"stopped in epoch {self.epoch + 1}{self._kept(self.epoch)}")
            raise
        finally:
            if self.folder is not None:
                self.folder.close()
        if self.folder is not None and self.epoch < self.loop.epochs:
            say(f"ended after epoch {self.epoch}: the validation has stopped improving")

    def _run_as_planned(self) -> None:
        """Run the epochs until they are done, or are counted anew."""
        planned = self.loop.epochs
        n_steps = (planned - self.epoch) * self.steps_per_epoch
        bar = progress_bar("training", n_steps) if self.folder else nullcontext(no_progress)
        with bar as advance:
            while not self.is_done() and self.loop.epochs == planned:
                self._run_epoch(advance)

    def _count_epochs_anew(self) -> None:
        if self.timetable is not None:
            epochs = self.timetable.fitting(self.epoch, self.loop.epochs)
            epochs = int(self.world.agree(epochs))
            if epochs != self.loop.epochs:
                self.loop = self.timetable.plan(epochs)

    def _run_epoch(self, advance: Advance) -> None:
        first = self.epoch * self.steps_per_epoch
        steps = range(first, first + self.steps_per_epoch)
        started, waited = time.perf_counter(), 0.0
        totals: dict[str, float] = {}
        self.loop.on_epoch(self.epoch)
        batches = self.stream.ahead(steps, self.world.rank)
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
            "learning_rate": self._rate(),
            "seconds": round(seconds, 3),
            "waiting_share": round(waited / seconds, 4),
            **totals,
        }
        self.history.append(row)
        if self.timetable is not None:
            self.timetable.note_epoch()
            self._count_epochs_anew()
        scores = "" if self.folder is None else self._judge(self.folder, row)
        self._decide()
        if self.folder is not None:
            self._write(self.folder, row, scores)
        self.world.wait()

    def try_step(self, samples: list[Any]) -> None:
        """Take a step that counts for nothing, at a rate of nearly 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(samples)
        self.optimizer.step()

    def _step(self, step: int, samples: list[Any]) -> dict[str, float]:
        """Learn from the samples; return the loss and its terms, averaged over all of them."""
        loop = self.loop
        if self.rate is None:
            rate = loop.learning_rate * loop.schedule(step / self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("share", 1.0)
        # For what the model itself draws, such as dropout.
        torch.manual_seed(self.stream.model_seed(step * self.world.size + self.world.rank))
        self.optimizer.zero_grad(set_to_none=True)
        where = f"step {step + 1}, {', '.join(sorted({s.source for s in samples}))}"
        try:
            terms = self._backward(samples)
        except (MemoryError, RuntimeError) as failure:
            if not _is_out_of_memory(failure):
                raise
            raise UserError(
                f"out of memory in {where}: lower {self.recipe.memory_settings}"
                f"{self._kept(self.epoch)}",
                page=Page.training,
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
                f"file, or lower {loop.rate_key} (now {self._rate():g}){self._kept(self.epoch)}",
                page=Page.training,
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
                self.scaler.scale(total).backward()
            for name, term in {"loss": total * loop.accumulate, **losses}.items():
                name = name if name == "loss" else f"loss_{name}"
                sums[name] = sums.get(name, 0.0) + float(term.detach()) / loop.accumulate
        return sums

    def _forward(self, *inputs: Any) -> Any:
        half = self.loop.precision != "float32"
        dtype = torch.float16 if self.loop.precision == "float16" else torch.bfloat16
        with torch.autocast(self.world.device.type, dtype, enabled=half):
            return (self.parallel or self.recipe.model)(*inputs)

    def _judge(self, folder: RunFolder, row: dict[str, float]) -> str:
        """Validate if it is time, and keep the best; return what to say of it."""
        loop = self.loop
        if not all(bool(p.isfinite().all()) for p in self.parameters):
            raise UserError(
                f"the network's weights are NaN or infinite after epoch {self.epoch}: lower "
                f"{loop.rate_key} (now {self._rate():g}){self._kept(self.epoch - 1)}",
                page=Page.training,
            )
        due = self.epoch == loop.epochs or self.epoch % loop.validate_every == 0
        if not due and loop.plateau is None and loop.early_stop is None:
            return ""
        found = self.validate()
        row.update(found.scores)
        caption = ", ".join(f"{name} {value:.4g}" for name, value in found.scores.items())
        if found.volumes and due:
            folder.write_picture(self.epoch, found.volumes, found.voxel_um, caption)
        score = found.scores[self.recipe.best_by]
        if found.lower_is_better and not math.isfinite(score):
            raise UserError(
                f"{self.recipe.best_by} is {score:g} after epoch {self.epoch}: lower "
                f"{loop.rate_key} (now {self._rate():g}){self._kept(self.epoch - 1)}",
                page=Page.training,
            )
        score = -score if found.lower_is_better else score
        self.losses.append(-score)
        if score > self.best or not folder.best.exists():
            self.best = -math.inf if math.isnan(score) else score
            content = self._content()
            if loop.keep_moments:
                content["training"]["moments"] = self._moments()
            write_checkpoint(folder.best, content, overwrite=True)
        return f", {caption}"

    def _decide(self) -> None:
        """Let every process draw the same conclusions from the validation."""
        if self.rate is None and self.loop.early_stop is None:
            return
        loss = self.world.agree(self.losses[-1] if self.folder is not None else math.nan)
        if self.folder is None:
            self.losses.append(loss)
        if self.rate is not None:
            self.rate.step(self.epoch, loss)

    def _write(self, folder: RunFolder, row: dict[str, float], scores: str) -> None:
        if scores:
            folder.write_curves(self.history)
        if self.is_done() or self.epoch % self.loop.save_every == 0:
            folder.write_epoch(self.epoch, self._content())
        folder.write_history(self.history)
        content = self._content()
        content["training"] |= {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rate": None if self.rate is None else self.rate.state_dict(),
            "losses": self.losses,
            "history": self.history,
            "best": self.best,
            "timetable": None if self.timetable is None else self.timetable.state(),
        }
        # Last, so that whatever was interrupted is done again.
        write_checkpoint(folder.last, content, overwrite=True)
        if not console.is_terminal:  # no bar is to be seen
            took = f"{row['seconds']:.1f} s"
            say_progress(f"epoch {self.epoch} of {self.loop.epochs}: {took}{self.latest}{scores}")

    def validate(self) -> Validation:
        """Let the recipe judge the model."""
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
        """Go on with the content of ``last.pt``."""
        state = content["training"]
        self.recipe.restore(content)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.rate is not None:
            self.rate.load_state_dict(state["rate"])
        self.history, self.best = state["history"], state["best"]
        self.losses = state.get("losses", [])
        if self.timetable is not None:
            self.timetable.restore(state.get("timetable"), self.history)
        self.epoch = state["epoch"]
        if self.world.is_first:
            say(f"going on after epoch {self.epoch}")

    def take_moments(self, moments: Moments) -> None:
        """Let the optimizer start from moments of parameters of the same names and shapes."""
        for name, parameter in self._named():
            found = moments.get(name, {})
            if all(t.shape in ((), parameter.shape) for t in found.values()) and found:
                self.optimizer.state[parameter] = {k: t.clone() for k, t in found.items()}

    def _moments(self) -> Moments:
        return {name: dict(self.optimizer.state[p]) for name, p in self._named()}

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.recipe.model.named_parameters() if p.requires_grad]

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _kept(self, epoch: int) -> str:
        return f"; epoch {epoch} is kept, `resume=True` goes on from it" if epoch else ""


def _is_out_of_memory(failure: Exception) -> bool:
    words = ("DefaultCPUAllocator", "out of memory", "could not create a memory")
    return isinstance(failure, MemoryError) or any(word in str(failure) for word in words)
