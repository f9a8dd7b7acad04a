"""Kills commands at random moments, and looks at what they leave and what the next run makes of it.

``python -m kills [--kills 50] [--seed 0]`` (``nox -s kills``). Small inputs; SIGKILL and SIGTERM in
turn. Whatever has its final name must be that of an undisturbed run, nothing hidden may stay after
SIGTERM, and the same command, given again, must end with the files of an undisturbed run.

Commands run in forks of one process that has done each of them once, and so has loaded whatever
they need: a start takes no time, and the moments fall into the work.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import yaml

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
# What differs from run to run.
_TIMES = ("seconds", "waiting_share", "input_changed")
_DRAWN = (".png", ".log")


@dataclass(frozen=True)
class Trial:
    """A command on small inputs.

    Attributes
    ----------
    program
        Module whose ``main`` is the program.
    arguments
        Of the command; it works in the folder of its inputs.
    results
        Names of what it makes there: files or folders.
    grows
        Whether what has its final name may be that of less work: checkpoints of a training.
    """

    program: str
    arguments: tuple[str, ...]
    results: tuple[str, ...] = ("out",)
    grows: bool = False

    @property
    def name(self) -> str:
        """Program and command."""
        return f"{self.program.partition('.')[0]} {self.arguments[0]}"


TRIALS = (
    Trial("serenet.cli", ("reconstruct", "lf.tif", "--checkpoint", "demo", "--out", "out")),
    Trial(
        "serenet.cli",
        ("reconstruct", "lf.tif", "--checkpoint", "demo", "--format", "zarr", "--out", "out"),
    ),
    Trial(
        "serenet.cli",
        ("deconvolve", "series.tif", "--microscope", "scope.yaml", "--out", "out"),
    ),
    Trial(
        "tenet.cli.app",
        (
            *("enhance", "stack.tif", "--config", "demo", "--checkpoint", "demo_pretrain"),
            *("--value-range", "0", "1000", "--out", "out"),
        ),
    ),
    Trial(
        "tenet.cli.app",
        (
            *("enhance", "stack.tif", "--config", "demo", "--checkpoint", "demo_pretrain"),
            *("--value-range", "0", "1000", "--format", "zarr", "--out", "out"),
        ),
    ),
    Trial("serenet.cli", ("train", "train.yaml", "--resume", "--out", "out"), grows=True),
    Trial(
        "datagen.cli",
        ("lines", "--angle", "45", "--size", "40", "40", "40", "--number", "3", "--out", "out"),
    ),
)
OPTICS = {
    "magnification": 20,
    "numerical_aperture": 0.5,
    "refractive_index": 1.0,
    "wavelength_um": 0.525,
    "microlens_pitch_um": 100,
    "microlens_focal_length_um": 2500,
    "n_num": 5,
    "depths_um": {"first": -10, "last": 10, "count": 3},
}
TRAINING = {
    "method": "renet",
    "optics": "nnum13",
    "depths": 5,
    "psf_size": 39,
    "data": {"simulated": 1, "repeat": 2},
    "validation": {"simulated": 1},
    "crop": 9,
    "epochs": 2,
    "validate_every": 1,
}


def write_inputs(folder: Path) -> None:
    """Write what the commands read."""
    rng = np.random.default_rng(0)
    light_field = rng.poisson(300, (2, 49, 6, 6)).astype(np.uint16)
    series = rng.poisson(200, (2, 25, 6, 6)).astype(np.uint16)
    for name, views in (("lf.tif", light_field), ("series.tif", series)):
        tifffile.imwrite(folder / name, views, imagej=True, metadata={"axes": "TZYX"})
    stack = rng.integers(90, 900, (2, 16, 16)).astype(np.uint16)
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    (folder / "scope.yaml").write_text(yaml.safe_dump(OPTICS), encoding="utf-8")
    (folder / "train.yaml").write_text(yaml.safe_dump(TRAINING), encoding="utf-8")


def start(trial: Trial, folder: Path) -> int:
    """Run the command in a fork, its output in ``run.log``; return the process."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(folder / "run.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Under a test runner they lead elsewhere.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        code = run_here(trial, folder)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_here(trial: Trial, folder: Path) -> int:
    """Run the command in this process; return its exit code."""
    os.chdir(folder)
    sys.argv = [trial.program, *trial.arguments]
    try:
        import_module(trial.program).main()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    return 0


def finish(pid: int) -> int:
    """Wait for a process; return its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def content(path: Path) -> Any:
    """Return what must be equal of a result; raise an error if it is not whole."""
    kind = path.suffix
    if kind in (".tif", ".tiff"):
        return tifffile.imread(path).tobytes()
    if kind == ".npy":
        return np.load(path).tobytes()
    if kind == ".pt":
        state = torch.load(path, weights_only=True)["state"]
        return {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    if kind == ".csv":
        with path.open(encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        return [{k: v for k, v in row.items() if k not in _TIMES} for row in rows]
    if kind == ".yaml":
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {k: v for k, v in found.items() if k not in _TIMES}
    return path.read_bytes()


def results(folder: Path, trial: Trial) -> dict[str, Path]:
    """Return the files under final names by these, but pictures and the logs of TensorBoard."""
    found = {}
    for name in trial.results:
        for path in sorted((folder / name).rglob("*")):
            parts = path.relative_to(folder).parts
            seen = not any(part.startswith(".") for part in parts) and "tensorboard" not in parts
            if path.is_file() and seen and path.suffix not in _DRAWN:
                found["/".join(parts)] = path
    return found


def hidden(folder: Path) -> list[str]:
    """Return the hidden files and folders, wherever they are."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.startswith(".")
    )


@dataclass
class Reference:
    """What an undisturbed run leaves, and how long it takes."""

    trial: Trial
    inputs: Path
    seconds: float
    contents: dict[str, Any]

    @classmethod
    def of(cls, trial: Trial, inputs: Path, folder: Path) -> "Reference":
        """Run a command undisturbed, once to load what it needs, and once more."""
        warm = folder.with_name(f"{folder.name}_warm")
        before = Path.cwd()
        shutil.copytree(inputs, warm)
        run_here(trial, warm)
        os.chdir(before)
        shutil.copytree(inputs, folder)
        started = time.monotonic()
        code = finish(start(trial, folder))
        assert code == 0, (folder / "run.log").read_text(encoding="utf-8")
        seconds = time.monotonic() - started
        assert not hidden(folder), hidden(folder)
        contents = {name: content(path) for name, path in results(folder, trial).items()}
        return cls(trial, inputs, seconds, contents)

    def kill(self, folder: Path, moment: float, number: signal.Signals) -> tuple[bool, list[str]]:
        """End the command at a moment, then give it again; return whether it was hit, and faults.

        Parameters
        ----------
        folder
            To be made.
        moment
            In parts of the time that an undisturbed run takes.
        number
            Which signal.
        """
        shutil.copytree(self.inputs, folder)
        pid = start(self.trial, folder)
        time.sleep(moment * self.seconds)
        os.kill(pid, number)
        was_hit = finish(pid) != 0
        faults = []
        for name, path in results(folder, self.trial).items():
            try:
                same = content(path) == self.contents.get(name)
            except Exception as fault:
                faults.append(f"{name} is not whole: {fault}")
            else:
                if not same and not self.trial.grows:
                    faults.append(f"{name} differs from that of an undisturbed run")
        # Before the command began nothing is cleaned up, and nothing there.
        kept = [name for name in hidden(folder) if not name.endswith(".state")]
        kept = [name for name in kept if ".state/" not in name and ".zarr.partial" not in name]
        if number == signal.SIGTERM and kept:
            faults.append(f"left after SIGTERM: {kept}")
        code = finish(start(self.trial, folder))
        if was_hit and code != 0:
            log = (folder / "run.log").read_text(encoding="utf-8").splitlines()
            # It may have ended just before the signal came.
            if not any("exist" in line or "has its" in line for line in log[-2:]):
                faults.append(f"the next run: {log[-1:]}")
        found = results(folder, self.trial)
        if set(found) != set(self.contents):
            faults.append(f"other files: {sorted(set(found) ^ set(self.contents))}")
        faults += [
            f"{name} differs after the next run"
            for name, path in found.items()
            if name in self.contents and content(path) != self.contents[name]
        ]
        if code == 0 and hidden(folder):
            faults.append(f"left after the next run: {hidden(folder)}")
        return was_hit, faults


def kill_all(
    trials: tuple[Trial, ...], kills: int, seed: int, tell: Callable[[str], object] = print
) -> tuple[int, list[str]]:
    """Kill commands in turn at random moments; return how many were hit, and all faults."""
    rng = random.Random(seed)
    n_hit, faults = 0, []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "inputs").mkdir()
        write_inputs(root / "inputs")
        references = []
        for number, trial in enumerate(trials):
            reference = Reference.of(trial, root / "inputs", root / f"reference{number}")
            references.append(reference)
            tell(f"{trial.name}: {reference.seconds:.2f} s undisturbed")
        for number in range(kills):
            reference = references[number % len(references)]
            sent = SIGNALS[number // len(references) % len(SIGNALS)]
            moment = rng.random()
            was_hit, found = reference.kill(root / f"kill{number}", moment, sent)
            n_hit += was_hit
            line = f"{number}: {reference.trial.name}, {sent.name} at {moment:.2f}"
            faults += [f"{line}: {fault}" for fault in found]
            tell(f"{line}: {'; '.join(found) or ('well' if was_hit else 'well, too late')}")
            shutil.rmtree(root / f"kill{number}")
    return n_hit, faults


def main() -> None:
    """Kill all commands, and end with exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    n_hit, faults = kill_all(TRIALS, wanted.kills, wanted.seed)
    print(f"{n_hit} of {wanted.kills} were killed before they had ended; {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
