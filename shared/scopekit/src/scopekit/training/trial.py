"""The first steps of a training, timed and undone."""

import copy
import time
from typing import Any

from scopekit.training.loop import Trainer
from scopekit.training.processes import World
from scopekit.training.recipe import Loop, Recipe

# Steps, and share of the time, in which the speed of a training is measured.
_TIMED_STEPS = 20
_TIMED_SHARE = 0.05


def fitting_epochs(
    recipe: Recipe[Any], loop: Loop, world: World, seconds: float
) -> tuple[int, float]:
    """Return how many epochs take about so long here, at least 1, and the seconds of each.

    Validations are included.

    The first steps and one validation are timed, then undone: a training that follows is the same
    with and without it.

    Parameters
    ----------
    recipe, loop
        What is to be trained; ``loop.epochs`` does not matter.
    world
        The processes that share the work; all get the same number.
    seconds
        Time for the training.
    """
    state = copy.deepcopy(recipe.model.state_dict())
    trainer = Trainer(recipe, loop, None, world)
    steps = min(trainer.steps_per_epoch, _TIMED_STEPS)
    started, a_step = time.perf_counter(), 0.0
    recipe.model.train()
    batches = trainer.stream.ahead(range(steps), world.rank)
    for done, batch in enumerate(batches, start=1):
        trainer.try_step(batch)
        if done == 1:  # the first also waits for files and makes plans
            first, started = time.perf_counter() - started, time.perf_counter()
            a_step = first
        else:
            a_step = (time.perf_counter() - started) / (done - 1)
        if time.perf_counter() - started > _TIMED_SHARE * seconds:
            break
    started = time.perf_counter()
    trainer.validate()
    a_validation = time.perf_counter() - started
    recipe.model.load_state_dict(state)
    an_epoch = a_step * trainer.steps_per_epoch + a_validation / loop.validate_every
    return int(world.agree(max(round((seconds - a_validation) / an_epoch), 1))), an_epoch
