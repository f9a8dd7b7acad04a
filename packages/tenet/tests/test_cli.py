import subprocess
import sys

import pytest

from tenet import __version__


def tenet(*arguments):
    command = [sys.executable, "-m", "tenet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version():
    shown = tenet("--version")
    assert (shown.returncode, shown.stdout) == (0, f"tenet {__version__}\n")


def test_help_says_what_is_coming():
    shown = tenet("--help")
    assert shown.returncode == 0
    assert "No command works yet" in shown.stdout


@pytest.mark.parametrize("arguments", [["enhance"], ["psf", "--out", "x", "--help-me"]])
def test_commands_are_refused_in_one_line(arguments):
    refused = tenet(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: tenet {' '.join(arguments)}: not yet available")
    assert refused.stderr.count("\n") == 1
