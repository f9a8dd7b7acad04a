"""Examples of published training YAMLs, beside this file, and what becomes of them."""

from pathlib import Path

import pytest
import yaml

from serenet.training.published.convert import import_config
from serenet.training.settings import load_settings

HERE = Path(__file__).parent


def example(name, *changes):
    """Return an example with values set: ``a.b.c: value``; ``null`` is as good as no line."""
    content = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    for change in changes:
        ((place, value),) = yaml.safe_load(change).items()
        *path, last = place.split(".")
        part = content
        for key in path:
            part[key] = part.get(key) or {}
            part = part[key]
        part[last] = value
    return yaml.safe_dump(content, sort_keys=False)


@pytest.fixture(name="example")
def example_fixture():
    """Make the text of an example."""
    return example


@pytest.fixture
def imported(tmp_path, capsys):
    """Import an example; return our settings and the notes, told by both file and screen."""

    def call(name, *changes):
        published, out = tmp_path / "published.yaml", tmp_path / "ours.yaml"
        published.write_text(example(name, *changes))
        capsys.readouterr()
        import_config(published, out, overwrite=True)
        said = capsys.readouterr()
        assert said.out == ""
        title, *comments = [line for line in out.read_text().splitlines() if line[:1] == "#"]
        assert title.endswith(str(published))
        assert ["# " + line for line in said.err.splitlines()] == comments
        assert all(line.startswith("# not taken over: ") for line in comments)
        notes = [line.removeprefix("# not taken over: ") for line in comments]
        return load_settings(str(out)), notes

    return call


@pytest.fixture
def refused(serenet, tmp_path, contents):
    """Import an example that must be refused, by the command; return the line after its name."""

    def call(name="serenet", *changes, text=None):
        published = tmp_path / "published.yaml"
        published.write_text(example(name, *changes) if text is None else text)
        before = contents(tmp_path)
        outcome = serenet("train", "--import-published", published, "--out", tmp_path / "ours.yaml")
        assert outcome.code == 2
        assert outcome.err == outcome.error + "\n"
        assert contents(tmp_path) == before
        prefix = f"error: {published}: "
        assert outcome.error.startswith(prefix)
        return outcome.error.removeprefix(prefix)

    return call
