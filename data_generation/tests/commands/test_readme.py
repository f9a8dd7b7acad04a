"""The commands of the README are understood."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from datagen.cli import app

README = Path(__file__).resolve().parents[2] / "README.md"


def command_lines():
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    return [line for line in lines if line.startswith("datagen ") and "--help" not in line]


@pytest.mark.parametrize("line", command_lines())
def test_commands_of_the_readme_are_understood(line):
    _, name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]
    with command.make_context(name, arguments) as context:
        assert context.params["out"]
