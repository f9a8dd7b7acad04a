"""How many epochs fit into a time."""

import time

import pytest

from scopekit.training import loop as loop_module
from scopekit.training.loop import fitting_epochs

from .line_recipe import ALONE, Line, equal, loop, run


class Slow(Line):
    """Steps of 20 ms, validations of 50."""

    def losses(self, network, samples):
        time.sleep(0.02)
        return super().losses(network, samples)

    def validate(self):
        time.sleep(0.05)
        return super().validate()


def test_epochs_and_validations_fill_the_time():
    # An epoch of 12 steps takes 0.24 s, and half a validation.
    found = fitting_epochs(Slow(), loop(), ALONE, seconds=10)
    assert 25 <= found <= (10 - 0.05) / (12 * 0.02 + 0.025)


def test_a_time_too_short_is_one_epoch():
    assert fitting_epochs(Slow(), loop(), ALONE, seconds=0.01) == 1


def test_long_steps_are_not_all_tried():
    recipe = Slow()
    fitting_epochs(recipe, loop(), ALONE, seconds=1)
    assert recipe.steps < 6


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_is_the_same_after_it(tmp_path, optimizer):
    timed, plain = Line(), Line()
    fitting_epochs(timed, loop(optimizer=optimizer), ALONE, seconds=1)
    results = [run(tmp_path / n, r, optimizer=optimizer) for n, r in (("t", timed), ("p", plain))]
    assert equal(*results)


def test_the_first_process_decides(monkeypatch):
    world = loop_module.World(1, 1, ALONE.device)
    monkeypatch.setattr(loop_module.World, "agree", lambda self, value: 7.0)
    assert fitting_epochs(Line(), loop(), world, seconds=1) == 7
