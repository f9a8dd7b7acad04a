"""The command line explains itself, at once."""

import re
import subprocess
import sys

import pytest
import typer

from serenet import __version__, cli

COMMANDS = sorted(typer.main.get_command(cli.app).commands)


def test_help_lists_every_command(serenet):
    outcome = serenet("--help")
    assert (outcome.code, outcome.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\s", outcome.out, re.MULTILINE)
    assert {"demo", "psf", "project", "reconstruct", "deconvolve", "rectify", "compare"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(serenet, command):
    outcome = serenet(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(rf"Example:\s+serenet {command}", outcome.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_are_refused(serenet, command):
    outcome = serenet(command, "--no-such-option")
    assert outcome.code == 2
    assert "--no-such-option" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", ["reconstruct", "deconvolve", "rectify"])
@pytest.mark.parametrize("option", ["--microscope", "--preset", "--optics"])
def test_the_microscope_has_one_name_in_the_help_and_two_older_ones(
    serenet, tmp_path, command, option
):
    assert (option in serenet(command, "--help").out) == (option == "--microscope")
    views = tmp_path / "views.tif"
    views.touch()
    network = ["--checkpoint", "demo"] if command == "reconstruct" else []
    for given in ([option, "nnum17"], [f"{option}=nnum17"]):
        outcome = serenet(command, views, *network, "--out", tmp_path / "out.tif", *given)
        assert (outcome.code, "nnum17" in outcome.error) == (2, True)


def test_missing_arguments_are_named(serenet, tmp_path):
    outcome = serenet("reconstruct", "views.tif", "--out", tmp_path)
    assert outcome.code == 2
    assert "--checkpoint" in outcome.err


def test_version(serenet):
    assert serenet("--version").out == f"serenet {__version__}\n"


HELP_ALONE = """
import sys
from serenet import cli
sys.argv = ["serenet", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    assert end.code in (0, None)
print(*sorted(m for m in ("torch", "numpy", "scipy", "matplotlib", "tifffile") if m in sys.modules))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["reconstruct", "--help"], ["--version"]])
def test_help_does_not_wait_for_the_libraries(arguments):
    done = subprocess.run(
        [sys.executable, "-c", HELP_ALONE, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""


def test_a_bare_command_tells_commands_that_are_there(serenet):
    outcome = serenet()
    assert (outcome.code, outcome.err) == (0, "")
    told = set(re.findall(r"serenet ([a-z][a-z-]+) ", outcome.out)) - {"makes"}
    assert {"demo", "check", "rectify", "deconvolve", "reconstruct", "train"} <= told
    assert told <= set(COMMANDS)


@pytest.mark.parametrize(("typed", "offered"), [("rec", "reconstruct"), ("check --mic", "--micro")])
def test_shells_complete_commands_and_options(serenet, monkeypatch, typed, offered):
    monkeypatch.setenv("_SERENET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"serenet {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    assert offered in serenet().out
