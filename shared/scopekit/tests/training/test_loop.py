"""The training loop on a line through noisy points."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.processes import process_group
from scopekit.training.run_folder import RunFolder, read_last

from .line_recipe import CPU, Line, equal, run


def test_it_learns_and_leaves_its_files(tmp_path):
    recipe = Line()
    recipe.model.eval()
    start = recipe.validate().scores["closeness"]
    last = run(tmp_path / "run", recipe, epochs=10)
    history = last["training"]["history"]
    assert history[-1]["closeness"] > start / 4  # scores are negative errors
    assert history[-1]["loss"] < history[0]["loss"] / 2
    names = sorted(p.name for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert [n for n in names if not n.startswith("events.")] == sorted(
        ["settings.yaml", "log.csv", "loss.png", "last.pt", "best.pt"]
        + [f"epoch-{n:04d}.png" for n in (2, 4, 6, 8, 10)]
        + [f"epoch-{n:04d}.pt" for n in (3, 6, 9, 10)]
    )
    with (tmp_path / "run" / "log.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 11))
    assert [int(row["step"]) for row in rows] == list(range(12, 121, 12))
    assert rows[0]["closeness"] == ""
    for row in rows:
        parts = float(row["loss_error"]) + float(row["loss_small"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)
        assert 0 <= float(row["waiting_share"]) <= 1


def test_the_best_checkpoint_is_the_best(tmp_path):
    last = run(tmp_path / "run", Line(), epochs=8, validate_every=1)
    scores = [row["closeness"] for row in last["training"]["history"]]
    best = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt")
    assert best["training"]["epoch"] == 1 + int(np.argmax(scores))


def test_weights_that_are_lost_between_validations_do_not_land(tmp_path):
    steps = []

    def spoil(optimizer, *_):
        steps.append(0)
        if len(steps) == 24:  # the last of the second epoch
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(math.nan)

    hook = register_optimizer_step_post_hook(spoil)
    try:
        with pytest.raises(UserError, match=r"after epoch 2: lower .*; epoch 1 is kept"):
            run(tmp_path / "run", Line(), epochs=6, validate_every=5)
    finally:
        hook.remove()
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert last["training"]["epoch"] == 1


def test_an_epoch_visits_every_sample_once_in_another_order(tmp_path):
    recipe = Line()
    run(tmp_path / "run", recipe, epochs=2)
    first, second = recipe.seen[:12], recipe.seen[12:]
    assert sorted(first) == sorted(second) == sorted(f"point{n}.tif" for n in range(12))
    assert first != second


def test_the_seed_decides(tmp_path):
    states = [run(tmp_path / str(n), Line(), seed=s)["state"] for n, s in enumerate((1, 1, 2))]
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, optimizer):
    whole = run(tmp_path / "whole", Line(), optimizer=optimizer)
    killed = tmp_path / "killed"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import line_recipe as t; from pathlib import Path\n"
        f"t.run(Path({str(killed)!r}), t.Line(stop_at=31), optimizer={optimizer!r})"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert process.returncode == 9
    kept = read_checkpoint(killed / "checkpoints" / "last.pt")
    assert kept["training"]["epoch"] == 2
    resumed = run(killed, Line(), resume=True, optimizer=optimizer)
    assert equal(resumed, whole)


def test_accumulated_batches_equal_a_large_one(tmp_path):
    class WithoutDropout(Line):
        def __init__(self):
            super().__init__()
            self.model[1] = nn.Identity()

    large = run(tmp_path / "large", WithoutDropout(), batch_size=4)
    small = run(tmp_path / "small", WithoutDropout(), batch_size=2, accumulate=2)
    for a, b in zip(large["state"].values(), small["state"].values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    a, b = (r["training"]["history"][-1]["loss"] for r in (large, small))
    assert a == pytest.approx(b, rel=1e-4)


def test_the_schedule_scales_the_rate(tmp_path):
    last = run(tmp_path / "run", Line(), schedule=lambda epoch: 0.5 if epoch >= 2 else 1.0)
    rates = [row["learning_rate"] for row in last["training"]["history"]]
    assert rates == [0.05, 0.05, 0.025, 0.025]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, wrong):
    recipe = Line(broken=lambda error: error * wrong)
    with pytest.raises(UserError, match=r"loss is (nan|inf).*in step 5, point\d+\.tif.*lower"):
        run(tmp_path / "run", recipe)
    assert all(torch.isfinite(p).all() for p in recipe.model.parameters())


def test_a_gradient_that_is_no_number_stops_the_run(tmp_path):
    # The square root of 0 has no slope.
    recipe = Line(broken=lambda error: error + (error - error.detach()).sqrt())
    with pytest.raises(UserError, match="its gradient nan, in step 5"):
        run(tmp_path / "run", recipe)


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_too_little_memory_names_what_to_lower(tmp_path, failure):
    def fail(_):
        raise failure

    class Later(Line):
        def losses(self, network, samples):
            if self.steps == 14:
                fail(None)
            return super().losses(network, samples)

    with pytest.raises(UserError, match=r"step 15.*lower batch_size \(now 1\); epoch 1 is kept"):
        run(tmp_path / "run", Later())
    assert read_last(tmp_path / "run")["training"]["epoch"] == 1


def test_other_failures_are_not_hidden(tmp_path):
    def fail(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(tmp_path / "run", Line(broken=fail))


def test_a_failing_sample_reaches_the_user(tmp_path):
    class Damaged(Line):
        def sample(self, item, rng):
            raise UserError("point.tif: damaged")

    with pytest.raises(UserError, match="damaged"):
        run(tmp_path / "run", Damaged())


def test_a_finished_run_says_how_to_train_on(tmp_path):
    run(tmp_path / "run", Line())
    with pytest.raises(UserError, match="has its 4 epochs: raise epochs"):
        run(tmp_path / "run", Line(), resume=True)
    longer = run(tmp_path / "run", Line(), resume=True, epochs=6)
    assert equal(longer["state"], run(tmp_path / "at_once", Line(), epochs=6)["state"])


def test_a_folder_with_a_run_is_left_alone(tmp_path):
    run(tmp_path / "run", Line())
    with pytest.raises(UserError, match="holds a training run: add `resume=True`"):
        run(tmp_path / "run", Line())
    RunFolder(tmp_path / "run", {"rate": 2}, resume=False, overwrite=True).begin()
    assert read_last(tmp_path / "run") is None
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_other_settings_are_not_resumed(tmp_path):
    run(tmp_path / "run", Line())
    with pytest.raises(UserError, match=r"other settings \(rate\): rate was 1, is 3; set it back"):
        RunFolder(tmp_path / "run", {"epochs": 9, "rate": 3}, resume=True, overwrite=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "group001.tif").touch()
    with pytest.raises(UserError, match="holds other files than a training run"):
        RunFolder(tmp_path, {}, resume=False, overwrite=True)


def test_the_setting_that_differs_is_named_to_its_end(tmp_path):
    run(tmp_path / "run", Line())
    settings = tmp_path / "run" / "settings.yaml"
    settings.write_text("epochs: 4\ndata: {views: a, repeat: 2}\n")
    changed = {"epochs": 4, "data": {"views": "a", "repeat": 3}}
    with pytest.raises(UserError, match=r"data\.repeat was 2, is 3"):
        RunFolder(tmp_path / "run", changed, resume=True, overwrite=False)


def test_half_precision_keeps_parameters_whole(tmp_path):
    last = run(tmp_path / "run", Line(), precision="bfloat16", epochs=6)
    assert {t.dtype for t in last["state"].values()} == {torch.float32}
    history = last["training"]["history"]
    assert history[-1]["loss"] < history[0]["loss"]


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group(CPU) as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        assert world.mean({"loss": 3.0}) == {"loss": 3.0}


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import line_recipe as t; from pathlib import Path\n"
        "from scopekit.training.processes import process_group\n"
        "recipe = t.Line(); recipe.model[1] = t.nn.Identity()\n"
        "path = Path(sys.argv[1])\n"
        "with process_group(t.CPU) as world:\n"
        "    folder = None\n"
        "    if world.is_first:\n"
        "        folder = t.RunFolder(path, {}, resume=False, overwrite=False)\n"
        "        folder.begin()\n"
        "    t.train(recipe, t.loop(batch_size=1, accumulate=2), folder, world)\n"
        "names = [n.read_text() for n in Path('/proc/self/task').glob('*/comm')]\n"
        "assert not [n for n in names if 'gloo' in n], names\n"
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    two = read_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")
    recipe = Line()
    recipe.model[1] = nn.Identity()
    one = run(tmp_path / "one", recipe, batch_size=2, accumulate=2)
    for a, b in zip(two["state"].values(), one["state"].values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    a, b = (r["training"]["history"][-1]["loss"] for r in (two, one))
    assert a == pytest.approx(b, rel=1e-5)
