"""Every check of the repository: ``nox --list`` names them, ``nox -s NAME`` runs one."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
# Compiling all of PyTorch to bytecode takes longer than downloading it.
PIP_OPTIONS = ("--no-compile", "-c", str(ROOT / "constraints.txt"))
FOLDERS = {
    "optics": "./shared/optics",
    "scopekit": "./shared/scopekit",
    "serenet": "./packages/serenet",
    "tenet": "./packages/tenet",
    "data_generation": "./data_generation",
}
# What only some users need.
EXTRAS = {"scopekit": "[zarr]", "serenet": "[dask]", "tenet": "[zarr]"}
WITH_EXTRAS = [folder + EXTRAS.get(name, "") for name, folder in FOLDERS.items()]
COMMANDS = {
    "serenet": "packages/serenet",
    "tenet": "packages/tenet",
    "datagen": "data_generation",
}
WITH_DEMO = ("serenet", "tenet")
# Those with a window in napari, and the name of its manifest.
WITH_WINDOWS = {"serenet": "serenet", "tenet": "tenet-microscopy"}
# Most tests are too small for several threads: a process for every core is faster.
IN_PARALLEL = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")

# The installed packages are checked, not the folders they came from.
os.environ.pop("PYTHONPATH", None)


def install(session: nox.Session, *requirements: str) -> None:
    session.install(*PIP_OPTIONS, *requirements)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, then the installation check; arguments after -- go to pytest alone."""
    install(session, *WITH_EXTRAS, "pytest", "pytest-xdist", "hypothesis")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", *IN_PARALLEL, env={"OMP_NUM_THREADS": "1"})
    session.notify("install")


@nox.session
def napari(session: nox.Session) -> None:
    """Run the tests of the windows in napari, in real viewers; no screen is needed."""
    windows = [f"{FOLDERS[name]}[napari,zarr]" for name in WITH_WINDOWS]
    install(session, *windows, "pytest", "pytest-qt", "pytest-xdist", "hypothesis")
    for manifest in WITH_WINDOWS.values():
        session.run("npe2", "validate", manifest)
    rooms = [f"{FOLDERS[name]}/tests/napari" for name in ("scopekit", *WITH_WINDOWS)]
    with screen(session) as environment:
        chosen = session.posargs or (*rooms, *IN_PARALLEL)
        session.run("pytest", *chosen, env={"OMP_NUM_THREADS": "1", **environment})


@nox.session
def napari_pictures(session: nox.Session) -> None:
    """Take the pictures of docs/napari.md anew, or those that are named after --."""
    install(session, *(f"{FOLDERS[name]}[napari]" for name in WITH_WINDOWS))
    with screen(session) as environment:
        environment |= {"PYTHONPATH": str(ROOT / "tools"), "OMP_NUM_THREADS": "1"}
        session.run("python", "-m", "pages.napari_pictures", *session.posargs, env=environment)


@contextmanager
def screen(session: nox.Session) -> Iterator[dict[str, str]]:
    """Yield the environment in which windows open on a screen that nobody sees (Linux)."""
    server = shutil.which("Xvfb")
    if sys.platform != "linux" or (server is None and "DISPLAY" in os.environ):
        yield {}
        return
    if server is None:
        session.error("no screen, and no Xvfb to stand for one: CONTRIBUTING.md tells what to do")
    # Qt's own "offscreen" has no OpenGL: napari would draw nothing.
    arguments = ("-displayfd", "1", "-screen", "0", "1600x1200x24", "-nolisten", "tcp")
    with subprocess.Popen(
        [server, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            number = process.stdout.readline().strip()
            if not number:
                session.error("Xvfb did not start: run it by hand to see why")
            yield {"DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
        finally:
            process.terminate()


@nox.session
def newest(session: nox.Session) -> None:
    """Run all tests with the newest versions there are, instead of those in constraints.txt."""
    session.install(
        "--no-compile", "--upgrade", *WITH_EXTRAS, "pytest", "pytest-xdist", "hypothesis"
    )
    session.run("pytest", *(session.posargs or IN_PARALLEL), env={"OMP_NUM_THREADS": "1"})


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in FOLDERS])
def tests_package(session: nox.Session, package: str) -> None:
    """Run the tests of one package, with only what it asks for installed."""
    install(session, FOLDERS[package], "pytest", "hypothesis")
    session.run("pytest", FOLDERS[package], *session.posargs)


@nox.session(name="install", venv_backend="none")
def check_installation(session: nox.Session) -> None:
    """Install every command from a fresh clone: each alone, then with the others after it."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        session.run("git", "clone", "--quiet", ROOT.as_uri(), str(clone), external=True)

        def install_first(first: str) -> None:
            environment = Path(folder) / first
            session.run(sys.executable, "-m", "venv", str(environment), external=True)
            programs = environment / ("Scripts" if os.name == "nt" else "bin")
            others = [name for name in COMMANDS if name != first]
            for name in (first, *others):
                pip_install = [str(programs / "pip"), "install", "-qq", *PIP_OPTIONS]
                session.run(*pip_install, str(clone / COMMANDS[name]), external=True)
                session.run(str(programs / name), "--help", external=True, silent=True)

        with ThreadPoolExecutor() as at_once:
            list(at_once.map(install_first, COMMANDS))


@nox.session
def demo(session: nox.Session) -> None:
    """Run every demo and say where its pictures are."""
    install(session, *(FOLDERS[name] for name in WITH_DEMO))
    for name in WITH_DEMO:
        out = ROOT / "demo_output" / name
        shutil.rmtree(out, ignore_errors=True)
        session.run(name, "demo", "--out", str(out))
        for picture in sorted(out.rglob("*.png")):
            session.log(f"picture: {picture}")


@nox.session
def release(session: nox.Session) -> None:
    """Build sdists and wheels of the last commit into dist/, install them afresh, run the demos."""
    install(session, "build")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    names = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        session.run("git", "clone", "--quiet", ROOT.as_uri(), str(clone), external=True)
        for source in FOLDERS.values():
            names.append(ask_for_versions(clone / source))
            shutil.copy(clone / "LICENSE", clone / source)
            session.run("python", "-m", "build", "--outdir", str(dist), str(clone / source))
    with tempfile.TemporaryDirectory() as folder:
        session.run(sys.executable, "-m", "venv", folder, external=True)
        programs = Path(folder) / ("Scripts" if os.name == "nt" else "bin")
        pip_install = [str(programs / "pip"), "install", "-qq", *PIP_OPTIONS]
        session.run(*pip_install, "--find-links", str(dist), *names, external=True)
        for name in COMMANDS:
            session.run(str(programs / name), "--help", external=True, silent=True)
        for name in WITH_DEMO:
            out = Path(folder) / name
            session.run(str(programs / name), "demo", "--out", str(out), external=True)


def ask_for_versions(folder: Path) -> str:
    """Let a package require its siblings by version instead of folder; return name and version."""
    file = folder / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    # All packages share one version, and use each other's inner parts.
    requirement = f"=={project['version']}"
    file.write_text(re.sub(r" @ \{root:[^\"]*", requirement, text), encoding="utf-8")
    return f"{project['name']}{requirement}"


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed every reader with spoilt files, 20000 of each format, or as many as -- N says."""
    install(session, *WITH_EXTRAS, "pytest", "pytest-xdist", "hypothesis")
    (number,) = session.posargs or ("20000",)
    session.run("pytest", "tools/tests/test_fuzz.py", *IN_PARALLEL, env={"FUZZ_EXAMPLES": number})


@nox.session
def kills(session: nox.Session) -> None:
    """Kill commands at 50 random moments, or as many as -- N says, and look at what they leave."""
    install(session, *WITH_EXTRAS)
    (number,) = session.posargs or ("50",)
    environment = {"PYTHONPATH": str(ROOT / "tools"), "OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "kills", "--kills", number, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    # What the tools, this file and conftest.py import besides.
    checked = ("distributed", "hypothesis", "nox", "pytest", "zarr")
    install(session, *FOLDERS.values(), *checked, "mypy", "types-PyYAML", "types-psutil")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory."""
    install(session, *FOLDERS.values())
    session.run("python", "-m", "bench", *session.posargs, env={"PYTHONPATH": str(ROOT / "tools")})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/site; a warning is an error."""
    install(session, "mkdocs-material", "mkdocstrings[python]", "latex2mathml", "ruff", "typer")
    # Their commands are read, nothing is run.
    session.install("--no-deps", *FOLDERS.values())
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def examples(session: nox.Session) -> None:
    """Run the examples of the documentation; their pictures are replaced with -- --keep."""
    install(session, *(FOLDERS[name] for name in WITH_DEMO))
    keep = "--keep" in session.posargs
    names = [argument for argument in session.posargs if argument != "--keep"]
    arguments = names if keep else [*names, "--check"]
    environment = {"PYTHONPATH": str(ROOT / "tools"), "OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "pages.run_examples", *arguments, env=environment)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run the tests that need a CUDA device, where there is one."""
    install(session, *WITH_EXTRAS, "pytest", "hypothesis")
    found = session.run(
        "python", "-c", "import torch; print(torch.cuda.is_available())", silent=True
    )
    if "True" not in str(found):
        session.skip("PyTorch finds no CUDA device here")
    session.run("pytest", "-m", "gpu", *session.posargs)
