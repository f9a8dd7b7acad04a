import sys
import warnings
from typing import Annotated

import pytest
import torch
import typer

from scopekit import cli
from scopekit.errors import UserError
from scopekit.progress import say

FAILURES = {
    "user": (UserError("a.tif: damaged;\n  copy it again"), "a.tif: damaged; copy it again"),
    "file": (FileNotFoundError(2, "No such file", "b.tif"), "b.tif: No such file"),
    "system": (OSError("broken"), "file system: broken"),
    "memory": (MemoryError(), "out of memory: give a smaller --max-memory-gb"),
    "gpu": (RuntimeError("CUDA out of memory. Tried"), "out of memory on the device"),
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a program of two commands; return exit code, standard output and error."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    app = cli.new_app("Does things.")

    @app.callback()
    def main(
        _version: Annotated[bool, cli.version_option("program", "1.2.3")] = False,
    ) -> None:
        pass

    @app.command()
    def fail(kind: str) -> None:
        """Fail."""
        raise FAILURES[kind][0]

    @app.command()
    def show(
        device: cli.DeviceOption = cli.Device.auto,
        number_type: cli.OutputTypeOption = cli.OutputType.float32,
        max_memory_gb: cli.MemoryOption = None,
        *,
        overwrite: cli.OverwriteOption = False,
    ) -> None:
        """Print the options."""
        print(device, number_type, max_memory_gb, overwrite)

    @app.command()
    def allocate() -> None:
        """Ask for too much memory."""
        torch.empty(10**15)

    @app.command()
    def warn() -> None:
        """Warn."""
        warnings.warn("mind the gap", stacklevel=1)

    @app.command()
    def break_down() -> None:
        """Show a mistake of the program."""
        raise RuntimeError("a mistake")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        code = 0
        try:
            cli.run(app)
        except SystemExit as exit_:
            code = exit_.code
        printed = capsys.readouterr()
        return code or 0, printed.out, printed.err

    return call


@pytest.mark.parametrize("kind", FAILURES)
def test_what_the_user_can_mend_is_one_line(run, kind):
    code, out, err = run("fail", kind)
    assert (code, out) == (2, "")
    assert err.startswith("error: " + FAILURES[kind][1])
    assert err.count("\n") == 1


def test_memory_that_the_system_refuses(run):
    code, _, err = run("allocate")
    assert code == 2
    assert err.startswith("error: out of memory: give a smaller --max-memory-gb")


def test_mistakes_of_the_program_are_not_hidden(run):
    with pytest.raises(RuntimeError, match="a mistake"):
        run("break-down")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing-like-this"], "No such command 'nothing-like-this'; see "),
        (["fail"], "Missing argument"),
        (["show", "--device", "tpu"], "Invalid value for '--device'"),
        (["show", "--dtype", "int8"], "Invalid value for '--dtype'"),
        (["show", "--max-memory-gb", "0"], "Invalid value for '--max-memory-gb'"),
        (["show", "--max-memory"], "No such option: --max-memory"),
    ],
)
def test_wrong_options_are_told_in_one_line(run, arguments, line):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: " + line)
    assert "--help" in err
    assert err.count("\n") == 1


def test_shared_options(run):
    assert run("show") == (0, "auto float32 None False\n", "")
    code, out, _ = run(
        "show", "--device", "cpu", "--dtype", "uint16", "--max-memory-gb", "2", "--overwrite"
    )
    assert (code, out) == (0, "cpu uint16 2.0 True\n")


def test_warnings_are_one_line_on_standard_error(run):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run("warn") == (0, "", "warning: mind the gap\n")


def test_version(run):
    assert run("--version") == (0, "program 1.2.3\n", "")


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "Does things." in out
    assert "--install-completion" in out
    assert "Does things." in run()[1]


@pytest.mark.parametrize(("arguments", "told"), [([], True), (["go"], False)])
def test_a_bare_command_tells_the_next_steps(run_here, arguments, told):
    app = cli.new_app("Goes.")

    @app.callback(**cli.BARE)
    def main(context: typer.Context) -> None:
        cli.tell_next(context, "\nfirst: program go\n")

    @app.command()
    def go() -> None:
        """Go."""
        print("went")

    @app.command()
    def come() -> None:
        """Come."""

    expected = "first: program go\n" if told else "went\n"
    assert run_here(lambda: cli.run(app), "program", *arguments) == (0, expected, "")


ARGUMENTS = "a.tif exists: add `overwrite=True`, another `out`, or `max_memory_gb=0.5`"


def test_errors_name_arguments_in_python_and_options_in_commands(run_here):
    assert str(UserError(ARGUMENTS)) == ARGUMENTS
    app = cli.new_app("Fails.")

    @app.command()
    def fail() -> None:
        say(f"warning: {ARGUMENTS}")
        raise UserError(f"b.tif: {UserError(ARGUMENTS)}")

    code, _, err = run_here(lambda: cli.run(app), "fail")
    told = "a.tif exists: add --overwrite, another --out, or --max-memory-gb 0.5"
    assert code == 2
    assert err.splitlines() == [f"warning: {told}", f"error: b.tif: {told}"]
    assert str(UserError(ARGUMENTS)) == ARGUMENTS
