"""The command line explains itself, at once."""

import re
import subprocess
import sys

import pytest
import typer

from tenet import __version__
from tenet.cli import app as cli

COMMANDS = sorted(typer.main.get_command(cli.app).commands)


def test_version():
    command = [sys.executable, "-m", "tenet", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stdout) == (0, f"tenet {__version__}\n")


def test_help_lists_every_command(tenet):
    shown = tenet("--help")
    assert shown.returncode == 0
    assert {"demo", "psf", "pretrain", "finetune"} <= set(COMMANDS)
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\s", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(tenet, command):
    shown = tenet(command, "--help")
    assert shown.returncode == 0
    assert re.search(rf"Example:\s+tenet {command}", shown.stdout)


def test_help_needs_no_pytorch():
    heavy = "{'torch', 'numpy', 'pydantic'}"
    script = f"import sys, tenet.cli.app; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_name_that_is_none_is_told(tenet, command):
    refused = tenet(command, "no_such_model")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: no_such_model: no such file, nor")
    assert refused.stderr.count("\n") == 1


def test_a_wrong_mode_is_told(tenet):
    refused = tenet("finetune", "demo", "--mode", "half")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_a_bare_command_tells_commands_that_are_there(tenet):
    told = tenet()
    assert (told.returncode, told.stderr) == (0, "")
    named = set(re.findall(r"tenet ([a-z]+) ", told.stdout)) - {"sharpens"}
    assert {"demo", "check", "enhance", "pretrain", "finetune"} <= named <= set(COMMANDS)


def test_shells_complete_commands(tenet, monkeypatch):
    monkeypatch.setenv("_TENET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "tenet enh")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert tenet().stdout.split() == ["enhance"]


def test_weights_that_ship_are_listed_and_published_ones_told(tenet):
    listed = tenet("weights")
    assert listed.returncode == 0
    assert "demo_pretrain: " in listed.stdout
    assert "https://zenodo.org/records/15545449" in listed.stdout
    refused = tenet("weights", "get", "published-beads")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "JNet_beads.pt from https://zenodo.org" in refused.stderr
