"""What tells others how to use the repository names what is in it."""

import re
import shlex
import tomllib

import pytest
import yaml

from pages.reference import ROOT

PROJECTS = sorted(ROOT.glob("*/pyproject.toml")) + sorted(ROOT.glob("*/*/pyproject.toml"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def versions():
    return {tomllib.loads(p.read_text(encoding="utf-8"))["project"]["version"] for p in PROJECTS}


def test_all_packages_have_one_version_which_is_cited():
    assert len(PROJECTS) == 5
    assert versions() == {str(read("CITATION.cff")["version"])}


def test_all_packages_have_the_licence_of_the_repository():
    assert read("CITATION.cff")["license"] == "BSD-3-Clause"
    assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    for path in PROJECTS:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        assert project["license"] == "BSD-3-Clause"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_sessions_that_are_there(workflow):
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    steps = [step for job in read(workflow)["jobs"].values() for step in job["steps"]]
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    called = [shlex.split(line)[2:] for line in lines if line.startswith("nox -s")]
    assert called
    assert {name for names in called for name in names} <= sessions


def test_the_matrix_has_every_system_and_python():
    matrix = read(".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    for path in PROJECTS:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        assert project["requires-python"] == f">={matrix['python'][0]}"


def test_forms_for_issues_are_complete():
    forms = [p for p in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config"]
    assert len(forms) >= 2
    for form in forms:
        content = read(form)
        assert content["name"]
        assert content["description"]
        ids = [part["id"] for part in content["body"]]
        assert len(ids) == len(set(ids)) > 0


def test_container_and_environment_install_folders_that_are_there():
    container = (ROOT / "Containerfile").read_text(encoding="utf-8")
    folders = re.findall(r"/source/((?:packages/)?\w+)(?=[\s/]|$)", container)
    dependencies = read("environment.yml")["dependencies"]
    (pip,) = (part["pip"] for part in dependencies if isinstance(part, dict))
    folders += [line.removeprefix("./") for line in pip if line.startswith("./")]
    for name in ("packages/serenet", "packages/tenet", "data_generation"):
        assert folders.count(name) == 2
        assert (ROOT / name / "pyproject.toml").is_file()
    assert "--constraint constraints.txt" in pip
