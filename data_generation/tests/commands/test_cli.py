import subprocess
import sys

from datagen import __version__


def datagen(*arguments):
    command = [sys.executable, "-m", "datagen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version():
    shown = datagen("--version")
    assert (shown.returncode, shown.stdout) == (0, f"datagen {__version__}\n")


def test_an_unknown_command_is_refused():
    refused = datagen("bubbletub")
    assert refused.returncode == 2
    assert "No such command" in refused.stderr
    assert "Traceback" not in refused.stderr
