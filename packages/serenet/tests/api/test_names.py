"""What ``import serenet`` offers: the same to Python, to completion and to mypy."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import serenet

PUBLIC = {
    "Comparison",
    "Picture",
    "ScaledArray",
    "build_model",
    "compare",
    "correct_motion",
    "decompose",
    "deconvolve",
    "draw",
    "fit_aberrations",
    "load_checkpoint",
    "load_microscope",
    "load_published_state",
    "predao",
    "read_views",
    "read_volume",
    "reconstruct",
    "rectify",
    "refine",
    "save_checkpoint",
    "subtract_background",
    "virtual_scan",
    "write_volume",
}
FUNCTIONS = sorted(name for name in PUBLIC if name[0].islower())


def seen_by_mypy():
    """Return the names that the package exports to type checkers, and their modules."""
    tree = ast.parse(Path(serenet.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and n.test.id == "TYPE_CHECKING")
    return {alias.name: statement.module for statement in block.body for alias in statement.names}


def test_python_completion_and_mypy_see_the_same_names():
    assert set(serenet.__all__) == PUBLIC
    assert set(dir(serenet)) >= PUBLIC | {"__version__"}
    exports = seen_by_mypy()
    assert set(exports) == PUBLIC
    for name, module in exports.items():
        assert getattr(importlib.import_module(module), name) is getattr(serenet, name)
    with pytest.raises(AttributeError, match="no attribute 'recontruct'"):
        serenet.recontruct  # noqa: B018


def test_importing_is_instant():
    code = "import sys, serenet; dir(serenet); assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_and_docstrings_are_complete(name):
    function = getattr(serenet, name)
    parameters = inspect.signature(function).parameters
    text = inspect.getdoc(function)
    for parameter in parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert parameter.name in text, parameter
    for section in ("Parameters", "Raises", "Examples"):
        assert f"\n{section}\n---" in text, section


@pytest.mark.parametrize("name", sorted(PUBLIC - {"Comparison", "Picture"}))
def test_examples_run_as_printed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = getattr(serenet, name)
    module = vars(importlib.import_module(item.__module__))
    examples = doctest.DocTestFinder(recurse=False).find(item, name, globs=dict(module))
    assert sum(len(test.examples) for test in examples) >= 2
    lines = []
    for test in examples:
        doctest.DocTestRunner().run(test, out=lines.append)
    assert not lines, "".join(lines)
