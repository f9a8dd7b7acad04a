"""Commands that are killed leave nothing half, and go on; a program that does not is found out."""

import os
import signal

import pytest

from kills import TRIALS, Reference, Trial, kill_all, write_inputs

if not hasattr(os, "fork"):
    pytest.skip("needs forks", allow_module_level=True)

BY_NAME = {trial.name: trial for trial in TRIALS}

CARELESS = """
import sys, time
from pathlib import Path

def main():
    path = Path("out/a.csv")
    path.parent.mkdir(exist_ok=True)
    Path("out/.hidden").touch()
    path.write_text("name")
    time.sleep(1)
    path.write_text("name\\nvalue")
    Path("out/.hidden").unlink()
"""

SLOW_TO_END = """
import sys, time
from pathlib import Path

def main():
    path = Path("out/a.csv")
    if path.exists():
        print("error: out/a.csv exists", file=sys.stderr)
        sys.exit(2)
    path.parent.mkdir(exist_ok=True)
    path.with_name(".a.csv").write_text("name")
    path.with_name(".a.csv").rename(path)
    time.sleep(1)
"""


@pytest.mark.parametrize("name", ["datagen lines", "serenet deconvolve"])
def test_killed_commands_go_on(name):
    told: list[str] = []
    for seed in range(5):  # a machine that just got faster has done before it is hit
        n_hit, faults = kill_all((BY_NAME[name],), 4, seed, told.append)
        assert faults == []
        if n_hit:
            break
    assert n_hit > 0
    assert len(told) == 5 * (seed + 1)


def reference_of(name, program, folder, monkeypatch):
    (folder / f"{name}.py").write_text(program)
    monkeypatch.syspath_prepend(folder)
    (folder / "inputs").mkdir()
    write_inputs(folder / "inputs")
    return Reference.of(Trial(name, ("work",)), folder / "inputs", folder / "whole")


def test_what_is_left_half_is_found(tmp_path, monkeypatch):
    reference = reference_of("careless", CARELESS, tmp_path, monkeypatch)
    was_hit, faults = reference.kill(tmp_path / "killed", 0.5, signal.SIGTERM)
    assert was_hit
    assert faults == [
        "out/a.csv differs from that of an undisturbed run",
        "left after SIGTERM: ['out/.hidden']",
    ]


def test_what_had_done_all_but_end_is_no_fault(tmp_path, monkeypatch):
    reference = reference_of("slow_to_end", SLOW_TO_END, tmp_path, monkeypatch)
    assert reference.kill(tmp_path / "killed", 0.5, signal.SIGKILL) == (True, [])
