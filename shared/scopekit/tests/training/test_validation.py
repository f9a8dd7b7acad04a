"""What the training loop does with its validation: the best, the rate, the end; and its moments."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.loop import train
from scopekit.training.plateau import EarlyStop
from scopekit.training.run_folder import RunFolder, read_last

from .line_recipe import ALONE, LOSSES, PLATEAU, Line, Loss, equal, loop, run, run_loss

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


def test_of_losses_the_lowest_is_the_best(tmp_path):
    run_loss(tmp_path / "run", Loss(LOSSES), validate_every=1)
    best = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt")
    assert best["training"]["epoch"] == 3
    assert "moments" not in best["training"]


@needs_timm
def test_the_rate_warms_up_and_falls_on_a_plateau(tmp_path):
    last = run_loss(tmp_path / "run", Loss(LOSSES), plateau=PLATEAU)
    rates = [row["learning_rate"] for row in last["training"]["history"]]
    # Each is set after the epoch before: two of warm-up; the loss stops falling after the third,
    # so after the sixth, and again after the ninth, patience is at an end.
    warm = [0.005, 0.0275, 0.05]
    assert rates == pytest.approx(warm + [0.05] * 3 + [0.025] * 3 + [0.0125] * 3)


@needs_timm
def test_a_killed_run_keeps_the_plateau(tmp_path):
    whole = run_loss(tmp_path / "whole", Loss(LOSSES), plateau=PLATEAU)
    killed = tmp_path / "killed"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import line_recipe as t; from pathlib import Path\n"
        f"t.run_loss(Path({str(killed)!r}), t.Loss(t.LOSSES, stop_at=65), plateau=t.PLATEAU)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert process.returncode == 9
    assert read_last(killed)["training"]["epoch"] == 5  # amid the patience
    resumed = run_loss(killed, Loss(LOSSES), resume=True, plateau=PLATEAU)
    assert equal(resumed, whole)


def test_a_run_ends_when_the_moving_mean_stops_falling(tmp_path):
    stop = EarlyStop(patience=3, window=2)
    last = run_loss(tmp_path / "run", Loss(LOSSES), early_stop=stop)
    # Means of two from the second epoch on: 4.5, 3.5, 3.25, 3.5, ...; the lowest after the fourth.
    assert last["training"]["epoch"] == 7
    assert (tmp_path / "run" / "checkpoints" / "epoch-0007.pt").exists()
    with pytest.raises(UserError, match=r"has its 7 epochs.*the validation had stopped improving"):
        run_loss(tmp_path / "run", Loss(LOSSES), resume=True, early_stop=stop)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], False),
        ([1.0, 1.0], False),
        ([3.0, 2.0, 1.0, 0.5, 0.4], False),
        ([1.0, 1.0, 1.0, 2.0, 2.0], True),
        ([1.0, 1.0, 1.0, 2.0, -1.0], False),
    ],
)
def test_when_to_stop(losses, expected):
    assert EarlyStop(patience=2).is_reached(losses) is expected


def test_moments_start_where_they_were(tmp_path):
    run(tmp_path / "first", Line(), epochs=2, keep_moments=True)
    moments = read_checkpoint(tmp_path / "first/checkpoints/best.pt")["training"]["moments"]
    assert set(moments) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    states = []
    for given in (None, moments, {"0.weight": moments["3.weight"]}):
        recipe = Line()
        path = tmp_path / str(len(states))
        folder = RunFolder(path, {}, resume=False, overwrite=False)
        folder.begin()
        train(recipe, loop(epochs=1), folder, ALONE, moments=given)
        states.append(read_checkpoint(path / "checkpoints" / "last.pt")["state"])
    assert not equal(states[0], states[1])
    assert equal(states[0], states[2])  # other shapes are left alone


def test_the_number_of_the_epoch_is_told_before_its_samples(tmp_path):
    told = []
    recipe = Line()
    sample = recipe.sample
    recipe.sample = lambda item, rng: (told.append("sample"), sample(item, rng))[1]
    run(tmp_path / "run", recipe, epochs=2, on_epoch=told.append)
    assert told == [0, *12 * ["sample"], 1, *12 * ["sample"]]
