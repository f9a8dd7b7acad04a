"""The benchmark program's cases run, and agree with their plain formulas."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1]


def run(numbers, *arguments):
    command = [sys.executable, "-m", "bench", *arguments, "--tiny", "--json", str(numbers)]
    path = os.pathsep.join(filter(None, [str(TOOLS), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done, json.loads(numbers.read_text())


def test_cases_of_tiny_size(tmp_path):
    cases = ("projection", "decomposition", "network", "reconstruct", "enhance")
    done, found = run(tmp_path / "numbers.json", *cases)
    assert found["machine"]["bandwidth"] > 0
    names = [result["name"] for result in found["results"]]
    assert len(names) == 7
    assert all(name in done.stdout for name in names)
    assert "network-float16: only on cuda" in done.stdout
    for result in found["results"]:
        assert result["ratio"] == pytest.approx(result["plain_seconds"] / result["seconds"])
        assert result["share"] > 0
        in_half = result["precision"] == "bfloat16"
        assert result["max_relative_difference"] < (0.1 if in_half else 1e-4)


def test_learning_curves_of_both_recipes(tmp_path):
    picture = tmp_path / "curves.png"
    _, found = run(tmp_path / "numbers.json", "learning", "--picture", str(picture))
    curves = {curve["name"]: curve for curve in found["results"]}
    assert list(curves) == ["published recipe", "fast recipe"]
    for curve in curves.values():
        # Before, between and after two epochs.
        assert len(curve["correlations"]) == 3
        assert curve["seconds"][0] == 0
        assert sorted(curve["seconds"]) == curve["seconds"]
    assert picture.stat().st_size > 5000
