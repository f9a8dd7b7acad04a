"""Where results cannot be written: one line, exit code 2, and no part of a result."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from scopekit.images.files import write_volume


@pytest.fixture
def commands(tmp_path, weights, small_psf, views_file, light_field):
    """Every command that writes, with ``{out}`` for its output, a folder or a file in it."""
    volume = tmp_path / "volume.tif"
    write_volume(volume, light_field(9), (0.2, 0.12, 0.12), overwrite=False)
    checkpoint = ("--checkpoint", weights["serenet"], "--psf", small_psf)
    return {
        "reconstruct": ("reconstruct", views_file, *checkpoint, "--out", "{out}"),
        "compare": ("compare", volume, volume, "--out", "{out}"),
        "project": ("project", volume, "--psf", small_psf, "--out", "{out}/v.tif"),
        "psf": ("psf", "nnum13", "--depths", 3, "--size", 31, "--out", "{out}/p.h5"),
    }


NAMES = ("reconstruct", "compare", "project", "psf")


def into(command, out):
    return [str(part).replace("{out}", str(out)) for part in command]


def assert_refused(outcome, out):
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1] == outcome.error
    assert str(out) in outcome.error


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_the_folders_place(serenet, tmp_path, commands, name):
    out = tmp_path / "out"
    out.write_text("mine")
    assert_refused(serenet(*into(commands[name], out)), out)
    assert_refused(serenet(*into(commands[name], out / "deeper")), out)
    assert out.read_text() == "mine"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs the proc file system")
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_takes_no_files(serenet, commands, name):
    # Not even root writes here.
    assert_refused(serenet(*into(commands[name], "/proc/self/out")), "/proc/self/out")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_permission(serenet, tmp_path, commands, contents, name):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o500)
    assert_refused(serenet(*into(commands[name], out)), out)
    assert contents(out) == []


@pytest.mark.parametrize("limit", [0, 1000, 40_000])
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk(serenet, tmp_path, commands, contents, full_disk, name, limit):
    out = tmp_path / "out"
    out.mkdir()
    with full_disk(limit):
        outcome = serenet(*into(commands[name], out))
    if outcome.code == 0:
        assert (name, limit) in {("project", 40_000), ("compare", 40_000)}  # it fits
        return
    assert_refused(outcome, out)
    assert contents(out) == []


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_disk_that_is_full_after_the_volume(
    serenet, tmp_path, commands, contents, monkeypatch, dtype
):
    from scopekit import outputs

    def refuse(folder, n_bytes):
        raise OSError(28, "No space left on device", str(folder))

    out = tmp_path / "out"
    if dtype == "uint16":
        written = []

        def second_fails(folder, n_bytes):
            written.append(n_bytes)
            if len(written) > 1:
                refuse(folder, n_bytes)

        monkeypatch.setattr("scopekit.images.files.require_space", second_fails)
    else:
        monkeypatch.setattr(
            "serenet.results.tiff.write_yaml", lambda path, *_, **__: refuse(path, 0)
        )
    assert outputs.require_space is not None
    outcome = serenet(*into(commands["reconstruct"], out), "--dtype", dtype)
    assert outcome.code == 2
    assert "space" in outcome.error.lower()
    assert contents(out) == []


def test_an_interrupted_run_leaves_nothing(tmp_path, commands, contents, weights):
    views, out = tmp_path / "large.tif", tmp_path / "out"
    tifffile.imwrite(views, np.random.default_rng(0).uniform(0, 500, (49, 90, 90)).astype("f4"))
    command = into(commands["reconstruct"], out)
    command[1] = str(views)
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *command, "--max-memory-gb", "0.6"],
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = program.communicate(timeout=60)
    assert program.returncode not in (0, None)
    assert "Traceback" not in err
    assert contents(out) == []


# Presses Ctrl-C when the first part of the volume is done.
INTERRUPTED = """
import os, signal, sys
from serenet import cli
from serenet.reconstruction import volume
whole = volume.tile_of_volume
def interrupted(*arguments, **options):
    part = whole(*arguments, **options)
    os.kill(os.getpid(), signal.SIGINT)
    return part
volume.tile_of_volume = interrupted
sys.argv = ["serenet", *sys.argv[1:]]
cli.main()
"""


def test_a_failed_run_keeps_the_earlier_result(serenet, tmp_path, commands, views_file, contents):
    out = tmp_path / "out"
    command = into(commands["reconstruct"], out)
    assert serenet(*command).code == 0
    before = {name: (out / name).read_bytes() for name in contents(out)}
    spoilt = tifffile.imread(views_file)
    spoilt[3] = np.nan
    tifffile.imwrite(views_file, spoilt)
    assert serenet(*command, "--overwrite").code == 2
    assert {name: (out / name).read_bytes() for name in contents(out)} == before
