import subprocess
import sys

import pytest

from datagen import __version__


def datagen(*arguments):
    command = [sys.executable, "-m", "datagen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version():
    shown = datagen("--version")
    assert (shown.returncode, shown.stdout) == (0, f"datagen {__version__}\n")


def test_help_says_what_is_coming():
    shown = datagen("--help")
    assert shown.returncode == 0
    assert "No command works yet" in shown.stdout


@pytest.mark.parametrize("arguments", [["bubtub"], ["beads", "--out", "x", "--help-me"]])
def test_commands_are_refused_in_one_line(arguments):
    refused = datagen(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: datagen {' '.join(arguments)}: not yet available")
    assert refused.stderr.count("\n") == 1
