import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import typer.main
import yaml

import serenet
from optics import LightFieldMicroscope
from scopekit.images.files import open_stack
from serenet.cli import app
from serenet.demo import make_light_field
from serenet.training.settings import TrainingSettings

TOP = Path(__file__).resolve().parents[4]
README = TOP / "packages/serenet/README.md"
DOCS = TOP / "docs"
READMES = [TOP / "README.md", README, *sorted(DOCS.glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def command_lines() -> list[str]:
    lines = "\n".join(block for path in READMES for block in blocks(path, "sh")).splitlines()
    return [line for line in lines if line.startswith("serenet ")]


@pytest.mark.parametrize("line", command_lines())
def test_commands_of_the_readmes_are_understood(line: str) -> None:
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "serenet"
    command = typer.main.get_command(app).commands[name]
    if arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]
    with command.make_context(name, arguments) as context:
        shows = {"check", "weights", "samples"}
        assert name in shows or context.params["out"] or "--list" in line


def test_microscope_of_the_readme_is_valid() -> None:
    (text,) = [
        text for text in blocks(DOCS / "my_microscope.md", "yaml") if "magnification" in text
    ]
    microscope = LightFieldMicroscope.model_validate(yaml.safe_load(text))
    assert 0.0 in microscope.depths_um


def test_training_settings_of_the_readme_are_valid() -> None:
    (text,) = [text for text in blocks(DOCS / "training.md", "yaml") if "method" in text]
    assert TrainingSettings.model_validate(yaml.safe_load(text)).crop == 99


def test_notebook_of_the_readme_runs_as_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (code,) = blocks(README, "python")
    assert len(code.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    make_light_field(Path("serenet_demo"), torch.device("cpu"), seed=0, overwrite=False)
    names: dict[str, object] = {}
    exec(code, names)
    volume, refined = names["volume"], names["refined"]
    assert isinstance(refined, serenet.ScaledArray)
    truth = open_stack(Path("serenet_demo/truth.tif"))
    assert refined.shape == volume.shape == truth.shape
    assert refined.voxel_um == pytest.approx(truth.voxel_um, rel=1e-4)
    assert open_stack(Path("refined.tif")).voxel_um == pytest.approx(refined.voxel_um, rel=1e-4)
    values = truth.read()
    before, after = (np.corrcoef(values.ravel(), np.ravel(v))[0, 1] for v in (volume, refined))
    assert after > before > 0.5
    picture = eval(code.splitlines()[-1].partition("  #")[0], names)
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_our_volumes_are_laid_on_published_ones_as_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (code,) = blocks(DOCS / "coming_from_the_published_code.md", "python")
    monkeypatch.chdir(tmp_path)
    volume = np.zeros((101, 110, 120), np.float32)
    volume[20, 50, 50] = 3
    serenet.write_volume("results/cell_serenet.tif", volume, voxel_um=(0.2, 0.1, 0.1))
    names: dict[str, object] = {}
    exec(code, names)
    alike = np.asarray(names["alike"])
    assert alike.shape == (61, 10, 20)
    assert alike[0, 0, 0] == alike.max() == 300


INLINE = [
    command
    for line in (DOCS / "coming_from_the_published_code.md")
    .read_text(encoding="utf-8")
    .splitlines()
    for command in re.findall(r"`(serenet [a-z-]+ [^`]*)`", line)
    if "..." not in command
]


@pytest.mark.parametrize("line", INLINE)
def test_commands_of_the_table_are_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    with command.make_context(name, arguments) as context:
        assert context.params["out"]


def test_python_of_the_guide_to_series_writes_a_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("zarr", reason="OME-Zarr is an extra: pip install zarr")
    (code,) = [code for code in blocks(DOCS / "scale.md", "python") if "create_group" in code]
    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    frames = np.arange(2 * 3 * 5 * 4, dtype=np.uint16).reshape(2, 3, 5, 4)
    frames[1] = 0  # a dark one is not taken for a missing one
    for number, frame in enumerate(frames):
        tifffile.imwrite(f"frames/t{number}.tif", frame)
    exec(code, {})
    stack = open_stack(Path("series.ome.zarr"))
    assert (stack.steps.y_um, stack.steps.x_um) == (0.37, 0.37)
    assert np.array_equal([stack.read(0), stack.read(1)], frames)
