"""The house keeps its order: what may import what, and how large files and folders grow."""

import ast
import graphlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "optics": "shared/optics/src",
    "scopekit": "shared/scopekit/src",
    "serenet": "packages/serenet/src",
    "tenet": "packages/tenet/src",
    "datagen": "data_generation/src",
}
SHARED = ("optics", "scopekit")
MAY_IMPORT = {"optics": (), "scopekit": (), "serenet": SHARED, "tenet": SHARED, "datagen": SHARED}
# The rooms of each package, lowest first: each imports only from those before it. A module that
# lies in no folder is a room of its own.
ROOMS = {
    "optics": "errors plausibility convolution aberrations deconvolution noise two_photon"
    " lightfield __init__",
    "scopekit": "__init__ errors signals progress claims outputs downloads memory cuts metrics"
    " timm_import settings checkpoints images inspection cli inputs preview series training napari",
    "serenet": "options samples views networks results rectification refocusing aberrations motion"
    " virtual_scanning deconvolution simulation reconstruction comparison inspection api training"
    " demo __init__ napari cli __main__",
    "tenet": "array_kinds metrics config alignment data microscope network objects"
    " inspection training enhancement evaluation inference demo __init__ napari cli __main__",
    "datagen": "__init__ folders labels bubtub cli __main__",
}
# What only the rooms of that name may import: others work without a screen, and without its extra.
WINDOW = "napari"
OF_WINDOWS = {"magicgui", "napari", "qtpy"}
FOLDERS = ("shared", "packages", "data_generation", "tools")
MOST_MODULES = 15
MOST_LINES = 400


@dataclass(frozen=True)
class Module:
    """A module by its dotted name, and the modules of this repository that it imports."""

    name: str
    imports: frozenset[str]

    @property
    def package(self) -> str:
        """First part of the name."""
        return self.name.partition(".")[0]

    @property
    def room(self) -> str:
        return room_of(self.name)


def room_of(module: str) -> str:
    """Return the second part of a dotted name, ``__init__`` for a package itself."""
    return [*module.split("."), "__init__"][1]


def read_modules(root: Path) -> dict[str, Module]:
    """Return all modules of the packages by name."""
    files = {}
    for package, source in SOURCES.items():
        for file in sorted((root / source / package).rglob("*.py")):
            parts = file.relative_to(root / source).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {
        name: Module(name, frozenset(imported(name, file, files))) for name, file in files.items()
    }


def imported(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the known modules that a file imports, at its top or anywhere else."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in known)
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                inside = f"{source}.{alias.name}"
                # The version stands above all rooms, and costs no import.
                if inside in known or (source in known and alias.name != "__version__"):
                    yield inside if inside in known else source


def wrong_imports(modules: dict[str, Module]) -> Iterator[str]:
    """Yield the imports between packages or rooms that the tables above do not allow."""
    order = {package: rooms.split() for package, rooms in ROOMS.items()}
    for module in modules.values():
        if module.room not in order[module.package]:
            yield f"{module.name}: its room is not in the table"
            continue
        for name in sorted(module.imports):
            target = modules[name]
            rooms = order[module.package]
            if target.package != module.package:
                if target.package not in MAY_IMPORT[module.package]:
                    yield f"{module.name} imports {name}, another program's"
            elif target.room in rooms and rooms.index(target.room) > rooms.index(module.room):
                yield f"{module.name} imports {name}, up"


def stray_windows(root: Path) -> Iterator[str]:
    """Yield the modules outside the rooms of windows that import napari or Qt."""
    for source in SOURCES.values():
        for file in sorted((root / source).rglob("*.py")):
            if WINDOW in file.relative_to(root / source).parts:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if OF_WINDOWS & {name.partition(".")[0] for name in names}:
                    yield f"{file.relative_to(root)}: only the rooms {WINDOW} may import windows"


def circles(modules: dict[str, Module]) -> Iterator[str]:
    """Yield one import circle, if there are any."""
    graph = {name: module.imports - {name} for name, module in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield "circle: " + " <- ".join(error.args[1])


def empty_rooms(modules: dict[str, Module]) -> Iterator[str]:
    """Yield the rooms of the table that are not there."""
    there = {(module.package, module.room) for module in modules.values()}
    for package, rooms in ROOMS.items():
        yield from (
            f"{package}.{r}: no such room" for r in rooms.split() if (package, r) not in there
        )


def large_ones(root: Path) -> Iterator[str]:
    """Yield the folders with too many modules and the files with too many lines."""
    files = sorted(root.glob("*.py"))
    for folder in FOLDERS:
        files += sorted((root / folder).rglob("*.py"))
    for folder in sorted({file.parent for file in files}):
        count = sum(f.parent == folder and f.name != "__init__.py" for f in files)
        if count > MOST_MODULES:
            yield f"{folder.relative_to(root)}: {count} modules"
    for file in files:
        count = len(file.read_text(encoding="utf-8").splitlines())
        if count > MOST_LINES:
            yield f"{file.relative_to(root)}: {count} lines"


def faults(root: Path) -> list[str]:
    """Return all that is out of order below ``root``, a line for each."""
    modules = read_modules(root)
    return [
        *wrong_imports(modules),
        *stray_windows(root),
        *circles(modules),
        *empty_rooms(modules),
        *large_ones(root),
    ]


def test_this_repository_is_in_order():
    assert "\n".join(faults(ROOT)) == ""


@pytest.fixture
def house(tmp_path):
    """A house of empty rooms."""
    for package, rooms in ROOMS.items():
        for room in rooms.split():
            folder = tmp_path / SOURCES[package] / package
            file = folder / (f"{room}.py" if room.startswith("__") else f"{room}/__init__.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return tmp_path


SERENET = "packages/serenet/src/serenet"
PLANTED = {
    "circle within a room": (
        {
            f"{SERENET}/motion/a.py": "import serenet.motion.b",
            f"{SERENET}/motion/b.py": "def f():\n    from serenet.motion import a",
        },
        "circle: serenet.motion.",
    ),
    "relative circle": (
        {
            f"{SERENET}/motion/a.py": "from . import b",
            f"{SERENET}/motion/b.py": "from .a import x",
        },
        "circle: serenet.motion.",
    ),
    "up": (
        {f"{SERENET}/views/a.py": "from serenet.training import x"},
        "serenet.views.a imports serenet.training, up",
    ),
    "up inside a function": (
        {f"{SERENET}/networks/a.py": "def f():\n    import serenet.cli"},
        "serenet.networks.a imports serenet.cli, up",
    ),
    "up to the package": (
        {f"{SERENET}/views/a.py": "from serenet import reconstruct"},
        "serenet.views.a imports serenet, up",
    ),
    "the other program": (
        {f"{SERENET}/cli/a.py": "from tenet import JNet"},
        "serenet.cli.a imports tenet, another program's",
    ),
    "the other program, back": (
        {"packages/tenet/src/tenet/cli/a.py": "import serenet.views"},
        "tenet.cli.a imports serenet.views, another program's",
    ),
    "shared code imports a program": (
        {"shared/scopekit/src/scopekit/training/a.py": "import serenet"},
        "scopekit.training.a imports serenet, another program's",
    ),
    "optics imports scopekit": (
        {"shared/optics/src/optics/noise/a.py": "from scopekit.errors import UserError"},
        "optics.noise.a imports scopekit.errors, another program's",
    ),
    "room of no floor": (
        {f"{SERENET}/utils.py": ""},
        "serenet.utils: its room is not in the table",
    ),
    "window outside its room": (
        {f"{SERENET}/views/a.py": "def f():\n    from qtpy.QtWidgets import QLabel"},
        f"{SERENET}/views/a.py: only the rooms napari may import windows",
    ),
    "the window imported from below": (
        {f"{SERENET}/demo.py": "from serenet.napari import a", f"{SERENET}/napari/a.py": ""},
        "serenet.demo imports serenet.napari.a, up",
    ),
    "crowded folder": (
        {f"packages/serenet/tests/test_{i}.py": "" for i in range(16)},
        "packages/serenet/tests: 16 modules",
    ),
    "long file": ({"tools/studies/long.py": "x = 0\n" * 401}, "tools/studies/long.py: 401 lines"),
    "long file at the root": ({"noxfile.py": "x = 0\n" * 401}, "noxfile.py: 401 lines"),
}
ALLOWED = {
    "down": {f"{SERENET}/training/a.py": "from serenet.views import x\nimport optics"},
    "window": {f"{SERENET}/napari/a.py": "import napari\nfrom serenet import reconstruct"},
    "version": {f"{SERENET}/views/a.py": "from serenet import __version__"},
    "full folder": {
        f"tools/bench/{name}.py": "x = 0\n" * 400 for name in ["__init__", *"abcdefghijklmno"]
    },
}


def plant(house, files):
    for name, text in files.items():
        file = house / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_found(house, name):
    files, expected = PLANTED[name]
    plant(house, files)
    found = faults(house)
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_no_fault(house, name):
    plant(house, ALLOWED[name])
    assert faults(house) == []


def test_room_that_is_gone_is_found(house):
    (house / SERENET / "comparison" / "__init__.py").unlink()
    assert faults(house) == ["serenet.comparison: no such room"]
