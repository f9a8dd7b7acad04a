"""The benchmark program's cases run, and agree with their plain formulas."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[4] / "tools" / "bench"


def test_cases_of_tiny_size(tmp_path):
    pytest.importorskip("tenet", reason="the benchmarks are of both packages")
    numbers = tmp_path / "numbers.json"
    cases = ("projection", "decomposition", "network", "reconstruct")
    arguments = [sys.executable, BENCH, *cases, "--tiny", "--json", numbers]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    found = json.loads(numbers.read_text())
    assert found["machine"]["bandwidth"] > 0
    names = [result["name"] for result in found["results"]]
    assert len(names) == 6
    assert all(name in done.stdout for name in names)
    assert "network-float16: only on cuda" in done.stdout
    for result in found["results"]:
        assert result["ratio"] == pytest.approx(result["plain_seconds"] / result["seconds"])
        assert result["share"] > 0
        in_half = result["precision"] == "bfloat16"
        assert result["max_relative_difference"] < (0.1 if in_half else 1e-4)
