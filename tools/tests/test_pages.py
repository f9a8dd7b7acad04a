"""The documentation names commands, options and pages that are there."""

import json
import re
import shlex
import warnings
from pathlib import Path

import pytest
import typer.main
import yaml

import serenet
import tenet
from datagen.cli import app as datagen_app
from pages import resolution_curve
from pages.gallery import cells, example_page, example_scripts, gallery, notebook
from pages.reference import PACKAGES, ROOT, api_page, command_page, homes_of
from scopekit.errors import Page
from serenet.cli import app as serenet_app
from serenet.simulation.psf_files import expected_detail
from tenet.cli.app import app as tenet_app

APPS = {"serenet": serenet_app, "tenet": tenet_app, "datagen": datagen_app}
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_PROGRAMS = "|".join(APPS)


def commands_of(page):
    """Yield the commands of a page: lines of its blocks, and whole ones within the text."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from (line for line in block.splitlines() if re.match(rf"({_PROGRAMS}) ", line))
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in re.findall(rf"`((?:{_PROGRAMS}) [a-z-]+ [^`]*)`", outside):
        # Their output is needed for them to be whole.
        if "..." not in line and ("--out" in line or " check " in line):
            yield line


LINES = sorted({(page.name, line) for page in PAGES for line in commands_of(page)})


@pytest.mark.parametrize(("page", "line"), LINES)
def test_commands_of_the_pages_are_understood(page, line):
    for part in line.split("&&"):
        program, *words = shlex.split(part.replace("<", ""), comments=True)
        if program not in APPS:
            continue
        command = typer.main.get_command(APPS[program])
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_text_is_not_taken_for_markup(page):
    """A number that begins a line opens a list, words in braces are taken for attributes."""
    text = re.sub(
        r"```.*?```|`[^`]*`|\$+[^$]*\$+", "", page.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert not re.findall(r"^[ ]+(?:\d+\.|\|) .*|\{.*?\}", text, re.MULTILINE)


def test_there_are_commands_to_check():
    assert len(LINES) > 60


def tree_of(command, path):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from tree_of(inner, f"{path} {name}")


@pytest.mark.parametrize("name", APPS)
def test_the_reference_holds_every_command_and_option(name):
    page = command_page(name, APPS[name])
    for path, command in tree_of(typer.main.get_command(APPS[name]), name):
        assert f"`{path}`" in page
        if path != name:
            assert all(
                option in page for p in command.params for option in p.opts if "--" in option
            )
    assert "**" + name not in page


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_holds_every_public_name(package):
    page = api_page(package)
    assert all(f"::: {home}.{name}" in page for name, home in homes_of(package).items())
    assert len(homes_of(package)) > 15


@pytest.mark.parametrize("package", [serenet, tenet], ids=["serenet", "tenet"])
def test_places_in_the_reference_are_those_of_the_names(package):
    for name, home in homes_of(package.__name__).items():
        assert getattr(package, name).__name__ == name
        assert home.startswith(package.__name__)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/]+\.md", json.dumps(yaml.safe_load(text)["nav"])))
    assert {page.name for page in PAGES} <= listed


def test_examples_are_whole():
    scripts = example_scripts()
    assert len(scripts) >= 8
    for script in scripts:
        assert cells(script)[0][0]
        assert script.with_suffix(".png").stat().st_size > 2000
        assert script.with_suffix(".txt").stat().st_size > 10
        assert f"({script.stem}.md)" in gallery()
        page = example_page(script)
        assert page.startswith("# ")
        assert f"({script.stem}.png)" in page
        assert "noqa" not in page


def test_examples_are_notebooks_too():
    script = example_scripts()[0]
    content = json.loads(notebook(script))["cells"]
    assert [cell["cell_type"] == "markdown" for cell in content] == [c[0] for c in cells(script)]
    code = "\n".join(cell["source"] for cell in content if cell["cell_type"] == "code")
    compile(code, script.name, "exec")
    assert not re.search(r"^# %%", code, re.MULTILINE)


def test_curves_of_resolution_are_what_the_command_prints(monkeypatch):
    monkeypatch.setattr(resolution_curve, "STEPS", 3)
    scanned, once, _ = resolution_curve.microscopes().values()
    assert (scanned.scanning, once.scanning) == (3, 1)
    depths, periods = resolution_curve.curve(scanned)
    assert depths == [-10, 0, 10]
    printed = expected_detail(scanned.with_depths(depths))
    assert printed == f"{periods[1]:.2g} at 0, {periods[0]:.2g} at 10"
    assert periods[1] < 0.6 * resolution_curve.curve(once)[1][1]


def test_links_between_pages_lead_somewhere():
    made = {f"reference/{name}.md" for name in APPS} | {f"api/{name}.md" for name in PACKAGES}
    made |= {"examples/index.md"}  # to examples themselves links lead by their scripts
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert link in made or (DOCS / link).exists(), f"{page.name}: {link}"


def test_pages_that_messages_name_are_there():
    for place in Page:
        name, _, anchor = place.partition("#")
        text = (DOCS / name).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
        # As Markdown makes them.
        anchors = {
            re.sub(r"[^\w\s-]", "", one).strip().lower().replace(" ", "-") for one in headings
        }
        assert anchor in {"", *anchors}, place


@pytest.mark.parametrize("place", Page)
def test_pages_are_named_by_messages(place):
    source = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("shared", "packages")
        for path in Path(ROOT / folder).rglob("src/**/*.py")
    )
    assert f"Page.{place.name}" in source


def test_troubleshooting_quotes_messages_that_are_told():
    """Each message of the first table stands in the code, as far as it is fixed."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("shared", "packages")
        for path in Path(ROOT / folder).rglob("src/**/*.py")
    )
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    table = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").split("\n## ")[1]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(quoted) > 6
    for message in quoted:
        parts = [
            p.strip() for p in re.split(r"time points|\.\.\.|\bN\b|\bM\b|;|,|channels?", message)
        ]
        assert all(part in source for part in parts if len(part) > 6), message
