"""Signals that end a program let it clean up; whoever ignores them goes on."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from pathlib import Path
import typer
from scopekit.cli import new_app, run
from scopekit.outputs import whole_file

app = new_app("A test.")

@app.command()
def work(out: Path) -> None:
    with whole_file(out, overwrite=False) as partial:
        partial.write_text("half")
        print("began", flush=True)
        time.sleep(30)

run(app)
"""


def reset_signals():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def begun(tmp_path):
    """Start a command that has a file half written; yield it and the file's folder."""
    runs = []

    def start(prefix=()):
        command = [*prefix, sys.executable, "-c", PROGRAM, str(tmp_path / "new" / "result.txt")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A runner in the background may ignore some of them, and hand that on.
        runs.append(subprocess.Popen(command, preexec_fn=reset_signals, **pipes))
        assert runs[-1].stdout.readline() == "began\n"
        assert (tmp_path / "new" / ".result.txt.partial").exists()
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.communicate()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_command_that_is_ended_leaves_nothing(begun, tmp_path, name, code):
    run = begun()
    run.send_signal(getattr(signal, name))
    _, told = run.communicate(timeout=20)
    assert run.returncode == code
    assert "Traceback" not in told
    if name != "SIGINT":
        assert told == f"ended by {name}: nothing half-written is left\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_ignored_stays_ignored(begun, tmp_path):
    run = begun(["sh", "-c", 'trap "" HUP; exec "$@"', "sh"])
    run.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        run.communicate(timeout=0.5)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=20)
    assert run.returncode == 143
    assert os.listdir(tmp_path) == []


def test_a_terminal_that_is_gone_is_no_fault(begun, tmp_path):
    run = begun()
    run.stderr.close()
    run.send_signal(signal.SIGHUP)
    assert run.wait(timeout=20) == 129
    run.stderr = None
    assert os.listdir(tmp_path) == []
