"""Every public name has one description and an example that runs as printed."""

import doctest
import importlib
import inspect

import pytest

import optics

# What only carries results or stands for others is shown with the functions that use it.
WITHOUT_EXAMPLE = {"NeuralFit", "Operator", "OpticsError", "PSFFile", "presets"}


@pytest.mark.parametrize("name", sorted(set(optics.__all__) - WITHOUT_EXAMPLE))
def test_examples_run_as_printed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = getattr(optics, name)
    module = dict(vars(importlib.import_module(item.__module__)))
    examples = doctest.DocTestFinder(recurse=False).find(item, name, globs=module)
    assert sum(len(test.examples) for test in examples) >= 2
    lines = []
    for test in examples:
        doctest.DocTestRunner().run(test, out=lines.append)
    assert not lines, "".join(lines)


def test_every_argument_is_described():
    for name in set(optics.__all__) - {"OpticsError", "Operator", "presets"}:
        item = getattr(optics, name)
        text = inspect.getdoc(item)
        for parameter in inspect.signature(item).parameters.values():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                assert parameter.name in text, (name, parameter.name)
                assert parameter.annotation is not parameter.empty, (name, parameter.name)


def test_no_thing_has_two_names():
    items = [id(getattr(optics, name)) for name in optics.__all__]
    assert len(set(items)) == len(items)
