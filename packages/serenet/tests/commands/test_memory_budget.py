"""``--max-memory-gb`` bounds the peak memory of the whole program."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaml

from scopekit.images.files import open_stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux tells it")

# The system counts what a parent held as its child's peak, so the parent must be small.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "serenet", *sys.argv[1:]])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9)
sys.exit(done.returncode)
"""


@pytest.fixture(scope="module")
def reconstruct(tmp_path_factory, weights):
    """Reconstruct 101 depths of views within a budget in GB; return (error, peak, out)."""
    folder = tmp_path_factory.mktemp("budget")
    generator = np.random.default_rng(0)
    views = generator.uniform(100, 500, (49, 64, 61)).astype(np.float32)
    tifffile.imwrite(folder / "wide.tif", views)
    tifffile.imwrite(folder / "views.tif", views[:, :40, :37])
    np.save(folder / "shift.npy", generator.normal(0, 10, (49, 101, 2)))

    def call(model, budget, *options, views="views"):
        out = folder / f"{model}_{budget:.3f}"
        arguments = (
            *("reconstruct", folder / f"{views}.tif", "--checkpoint", weights[model], "--out", out),
            *("--psf-shift", folder / "shift.npy", "--max-memory-gb", f"{budget:.4f}", *options),
        )
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *(str(a) for a in arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        peak = float(re.search(r"^peak (.*)$", done.stdout, re.MULTILINE)[1])
        return (done.stderr if done.returncode else ""), peak, out

    return call


@pytest.fixture(scope="module")
def held(reconstruct):
    """What the program holds before it starts, GB."""
    error, _, _ = reconstruct("serenet", 0.11)
    return float(re.search(r"the program itself holds ([\d.]+) GB", error)[1])


def tiles(out, stem):
    return yaml.safe_load((out / f"{stem}.yaml").read_text())["frames"][0]["tiles"]


def test_the_peak_stays_within_the_budget(reconstruct, held):
    error, _, out = reconstruct("serenet", held + 0.02)
    assert error.count("\n") == 1
    assert not out.exists()
    # What the program asks for is enough.
    least = float(re.search(r"give at least ([\d.]+)", error)[1])
    volumes, counts = [], []
    for budget in (least, least + 0.04):
        error, peak, out = reconstruct("serenet", budget, views="wide")
        assert error == ""
        assert peak <= budget
        volumes.append(open_stack(out / "wide_serenet.tif").read())
        counts.append(tiles(out, "wide_serenet"))
    assert counts[0] > counts[1] > 1
    assert np.abs(volumes[0] - volumes[1]).max() <= 1e-4 * volumes[0].max()


def test_larger_networks_and_half_precision(reconstruct, held):
    error, peak, out = reconstruct("fserenet", held + 0.36, "--half", "--dtype", "uint16")
    assert error == ""
    assert peak <= held + 0.36
    assert tiles(out, "views_fserenet") > 1
