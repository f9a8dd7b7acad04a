"""How many epochs fit into a time."""

import time

import pytest

from scopekit.errors import UserError
from scopekit.settings import read_yaml
from scopekit.training.loop import train
from scopekit.training.processes import World
from scopekit.training.run_folder import RunFolder, read_last
from scopekit.training.timetable import Timetable
from scopekit.training.trial import fitting_epochs

from .line_recipe import ALONE, Line, equal, loop, run


class Clock:
    """The time as the recipe of a test tells it: a step takes what is said."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


class Timed(Line):
    """Steps of a second, or of what `seconds` says of the epoch."""

    def __init__(self, clock, seconds=lambda epoch: 1.0, **more):
        super().__init__(**more)
        self.clock, self.seconds, self.epoch = clock, seconds, 0

    def losses(self, network, samples):
        self.clock.now += self.seconds(self.epoch)
        return super().losses(network, samples)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Slow(Timed):
    """Steps of 20 ms, validations of 50."""

    def __init__(self, clock):
        super().__init__(clock, lambda _: 0.02)

    def validate(self):
        self.clock.now += 0.05
        return super().validate()


def test_epochs_and_validations_fill_the_time(clock):
    # An epoch of 12 steps takes 0.24 s, and half a validation.
    found, epoch_s = fitting_epochs(Slow(clock), loop(), ALONE, seconds=10)
    assert epoch_s == pytest.approx(0.265)
    assert found == round((10 - 0.05) / 0.265)


def test_a_time_too_short_is_one_epoch(clock):
    assert fitting_epochs(Slow(clock), loop(), ALONE, seconds=0.01)[0] == 1


def test_long_steps_are_not_all_tried(clock):
    recipe = Slow(clock)
    fitting_epochs(recipe, loop(), ALONE, seconds=1)
    assert recipe.steps < 6


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_is_the_same_after_it(tmp_path, optimizer):
    timed, plain = Line(), Line()
    fitting_epochs(timed, loop(optimizer=optimizer), ALONE, seconds=1)
    results = [run(tmp_path / n, r, optimizer=optimizer) for n, r in (("t", timed), ("p", plain))]
    assert equal(*results)


def test_the_first_process_decides(monkeypatch):
    world = World(1, 1, ALONE.device)
    monkeypatch.setattr(World, "agree", lambda self, value: 7.0)
    assert fitting_epochs(Line(), loop(), world, seconds=1)[0] == 7


def run_for(path, recipe, minutes, planned, resume=False):
    """Train for a time in which so many epochs were planned; return what was kept of it."""

    def begin(epoch):
        recipe.epoch = epoch

    def loop_of(epochs):
        # As the cosine does, the rate tells how far the training is.
        shared = {"on_epoch": begin, "validate_every": 1000}
        return loop(epochs=epochs, schedule=lambda epoch: 1 - epoch / epochs, **shared)

    last = read_last(path) if resume else None
    kept = read_yaml(path / "settings.yaml")["epochs"] if last else planned
    folder = RunFolder(path, {"epochs": kept, "rate": 1}, resume=resume, overwrite=False)
    folder.begin()

    def settle(epochs):
        folder.settle({"epochs": epochs, "rate": 1})

    timetable = Timetable(60 * minutes, recipe.clock.now, loop_of, settle, "12 samples")
    first = loop_of(kept) if last else timetable.plan(planned, 12.0)
    train(recipe, first, folder, ALONE, last, timetable=timetable)
    content = read_last(path)
    assert read_yaml(path / "settings.yaml")["epochs"] == content["training"]["epoch"]
    return content


def test_a_slow_start_does_not_shorten_the_run(tmp_path, clock):
    """Measured while another program ran, two epochs seemed to fill the time of 50."""
    content = run_for(tmp_path / "run", Timed(clock), minutes=10, planned=2)
    assert content["training"]["epoch"] == 50
    rates = [row["learning_rate"] for row in content["training"]["history"]]
    assert rates[-1] < 0.05 * max(rates)


def test_a_machine_that_grows_slow_has_fewer_epochs(tmp_path, clock):
    recipe = Timed(clock, lambda epoch: 1.0 if epoch < 10 else 4.0)
    content = run_for(tmp_path / "run", recipe, minutes=10, planned=50)
    assert clock.now - 1000 == pytest.approx(600, rel=0.15)
    assert content["training"]["epoch"] == pytest.approx(10 + 480 / 48, abs=2)


def test_a_small_difference_changes_nothing(tmp_path, clock, capsys):
    recipe = Timed(clock, lambda epoch: 1.05)
    assert run_for(tmp_path / "run", recipe, 10, planned=50)["training"]["epoch"] == 50
    assert capsys.readouterr().err.count(" fit: ") == 1


def test_a_stopped_run_of_a_given_time_goes_on_to_the_same_end(tmp_path, clock):
    whole = run_for(tmp_path / "whole", Timed(clock), minutes=1, planned=5)

    class Stopped(Timed):
        def losses(self, network, samples):
            if self.epoch == 3:
                raise KeyboardInterrupt
            return super().losses(network, samples)

    with pytest.raises(KeyboardInterrupt):
        run_for(tmp_path / "parts", Stopped(clock), minutes=1, planned=5)
    clock.now += 10_000  # until it is resumed
    parts = run_for(tmp_path / "parts", Timed(clock), minutes=1, planned=5, resume=True)
    assert whole["training"]["epoch"] == 5
    assert all(whole["state"][n].equal(parts["state"][n]) for n in whole["state"])


def test_more_minutes_go_on(tmp_path, clock):
    run_for(tmp_path / "run", Timed(clock), minutes=1, planned=5)
    with pytest.raises(UserError, match="has its 5 epochs: raise minutes to train on"):
        run_for(tmp_path / "run", Timed(clock), minutes=1, planned=5, resume=True)
    longer = run_for(tmp_path / "run", Timed(clock), minutes=2, planned=5, resume=True)
    assert longer["training"]["epoch"] == 10
