"""The fast recipe: what its windows hold, what it learns, and how it goes on."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.images.files import open_stack, write_volume
from scopekit.training.muon import MuonAdam
from scopekit.training.processes import World
from serenet import load_checkpoint
from serenet.training.build import build_recipe
from serenet.training.run import train_method
from serenet.training.settings import TrainingSettings, load_settings

TINY = {
    "recipe": "fast",
    "method": "serenet",
    "optics": "nnum13",
    "depths": 9,
    "psf_size": 39,
    "data": {"simulated": 2},
    "validation": {"simulated": 1},
    "crop": 12,
    "crop_depths": 8,
    "precision": "float32",
    "epochs": 3,
    "validate_every": 3,
}
WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Views and volumes of two scenes."""
    folder = tmp_path_factory.mktemp("scenes")
    settings = TrainingSettings.model_validate(TINY)
    build_recipe(settings, "tiny", folder, WORLD, resume=False)
    return folder / "simulated" / "training"


def recipe_of(folder, scenes, **changes):
    data = {"views": str(scenes / "views"), "volumes": str(scenes / "volumes")}
    settings = TINY | {"data": data, "validation": data} | changes
    return build_recipe(TrainingSettings.model_validate(settings), "x", folder, WORLD, resume=False)


def run(tmp_path, scenes, name="run", resume=False, minutes=None, **changes):
    data = {"views": str(scenes / "views"), "volumes": str(scenes / "volumes")}
    settings = tmp_path / f"{name}.yaml"
    settings.write_text(yaml.safe_dump(TINY | {"data": data, "validation": data} | changes))
    out = tmp_path / name
    train_method(str(settings), out, minutes=minutes, device="cpu", resume=resume)
    return read_checkpoint(out / "checkpoints" / "last.pt")


def same_weights(a, b):
    return all(torch.equal(a["state"][n], b["state"][n]) for n in a["state"])


def test_windows_are_parts_of_the_field_and_its_volume(tmp_path, scenes):
    recipe = recipe_of(tmp_path, scenes, noise={"variance": 0, "photons": [1e6, 1e6]})
    truth = open_stack(sorted((scenes / "volumes").glob("*.tif"))[0]).read()
    scale = 1e6 / np.percentile(recipe.data.field(0), 99.99)
    window = recipe.sample(0, np.random.default_rng(3))
    assert window.decomposed.shape == (49, 8, 12, 12)
    assert window.targets["volume"].shape == window.weight.shape == (8, 52, 52)
    volume = window.targets["volume"].numpy() / scale
    places = np.lib.stride_tricks.sliding_window_view(truth, volume.shape)
    # Windows begin where view and volume pixels begin together: every 13 volume pixels.
    places = places[:, ::13, ::13].reshape(-1, *volume.shape)
    errors = np.abs(places - volume).max(axis=(1, 2, 3))
    assert errors.min() < 1e-4 * truth.max()


def test_errors_are_shares_of_the_brightness(tmp_path, scenes):
    recipe = recipe_of(tmp_path, scenes)
    window = recipe.sample(0, np.random.default_rng(0))
    empty = torch.zeros_like(window.targets["volume"])
    (found,) = recipe._compare(empty, window).values()
    shown = window.weight.bool()
    expected = window.targets["volume"][shown].square().mean() / window.power
    torch.testing.assert_close(found, expected)
    (perfect,) = recipe._compare(window.targets["volume"], window).values()
    assert perfect == 0


def test_pixels_beside_a_cut_do_not_count(tmp_path, scenes):
    recipe = recipe_of(tmp_path, scenes)
    field = recipe.data.field_size(0)
    inner = recipe._weight(0, (3, 3), slice(1, 9))
    assert not inner[:2].any()
    assert not inner[-1, 0].any()
    assert inner[4, 26, 26] == 1
    assert not inner[4, :13].any()
    corner = recipe._weight(0, (0, 0), slice(0, 8))
    assert corner[0, 0, 0] == 1
    assert not corner[-1].any()
    last = recipe._weight(0, (field[0] - 12, field[1] - 12), slice(1, 9))
    assert last[-1, -1, -1] == 1
    assert not last[0].any()


def test_brightness_spans_the_peaks_that_were_asked_for(tmp_path, scenes):
    recipe = recipe_of(tmp_path, scenes, noise={"variance": 0, "photons": [50, 800]})
    peaks = []
    for seed in range(60):
        views = recipe.sample(0, np.random.default_rng(seed)).decomposed
        peaks.append(float(views.max()))
    assert min(peaks) < 90
    assert max(peaks) > 450
    assert max(peaks) < 1000


def test_a_run_leaves_a_network_in_counts_that_knows_its_optics(tmp_path, scenes):
    last = run(tmp_path, scenes)
    model = load_checkpoint(tmp_path / "run")
    assert model.learned_optics.microscope.depths_um == pytest.approx(
        [0.2 * n for n in range(-4, 5)]
    )
    assert model.learned_optics.shift.shape == (49, 9, 2)
    # In its own units the first kernel would be 64 times larger.
    assert last["state"]["coarse.0.weight"].abs().max() < 0.01


def test_learning_lowers_the_error(tmp_path, scenes):
    recipe = recipe_of(tmp_path, scenes)
    optimizer = MuonAdam(recipe.model.train(), 0.004)
    windows = [recipe.sample(0, np.random.default_rng(5))]
    errors = []
    for _ in range(12):
        optimizer.zero_grad()
        (error,) = recipe.losses(recipe.model, windows).values()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.6 * errors[0]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, scenes):
    whole = run(tmp_path, scenes, "whole")
    last = tmp_path / "killed" / "checkpoints" / "last.pt"
    command = [sys.executable, "-m", "serenet", "train", str(tmp_path / "whole.yaml")]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed"), "--device", "cpu"],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        while not last.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert read_checkpoint(last)["training"]["epoch"] < 3
    train_method(str(tmp_path / "whole.yaml"), tmp_path / "killed", device="cpu", resume=True)
    assert same_weights(whole, read_checkpoint(last))


def test_a_run_of_some_minutes_is_resumed_with_the_epochs_it_chose(tmp_path, scenes, capfd):
    last = run(tmp_path, scenes, minutes=0.1)
    epochs = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())["epochs"]
    assert last["training"]["epoch"] == epochs
    assert re.findall(r"(\d+) epochs? of \d+ samples", capfd.readouterr().err)[-1] == str(epochs)
    with pytest.raises(UserError, match=rf"has its {epochs} epochs?: raise minutes"):
        run(tmp_path, scenes, minutes=0.1, resume=True)


def test_light_fields_alone_are_taught_by_their_deconvolution(tmp_path, scenes):
    alone = {"views": str(scenes / "views")}
    changes = {"data": alone, "validation": alone, "teacher": {"sweeps": 1}}
    run(tmp_path, scenes, **changes)
    volumes = sorted((tmp_path / "run" / "teacher").glob("*.tif"))
    assert len(volumes) == 2
    before = [v.stat().st_mtime_ns for v in volumes]
    run(tmp_path, scenes, resume=True, epochs=4, **changes)
    assert [v.stat().st_mtime_ns for v in volumes] == before
    truth = open_stack(sorted((scenes / "volumes").glob("*.tif"))[0]).read()
    assert np.corrcoef(truth.ravel(), open_stack(volumes[0]).read().ravel())[0, 1] > 0.3


def test_a_missing_or_strange_teacher_is_made_anew(tmp_path, scenes):
    alone = {"views": str(scenes / "views")}
    changes = {"data": alone, "validation": alone, "teacher": {"sweeps": 1}}
    run(tmp_path, scenes, **changes)
    volumes = sorted((tmp_path / "run" / "teacher").glob("*.tif"))
    made = [open_stack(v).read() for v in volumes]
    volumes[0].unlink()
    run(tmp_path, scenes, resume=True, epochs=4, **changes)
    assert np.array_equal(open_stack(volumes[0]).read(), made[0])
    # The same name, other views: what they taught before would be wrong.
    views = tmp_path / "views"
    views.mkdir()
    for file in sorted((scenes / "views").glob("*.tif")):
        write_volume(views / file.name, 2 * open_stack(file).read(), (1, 0.5, 0.5), overwrite=False)
    recipe_of(tmp_path / "run", scenes, **changes | {"data": {"views": str(views)}})
    assert not np.array_equal(open_stack(volumes[1]).read(), made[1])


def test_a_disk_that_fills_up_while_light_fields_are_deconvolved(tmp_path, scenes, monkeypatch):
    alone = {"views": str(scenes / "views")}
    changes = {"data": alone, "validation": alone, "teacher": {"sweeps": 1}}
    asked = []

    def one_file_has_room(folder, n_bytes):
        asked.append(n_bytes)
        if len(asked) > 1:
            raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("scopekit.images.files.require_space", one_file_has_room)
        with pytest.raises(UserError, match="disk is full"):
            run(tmp_path, scenes, **changes)
    folder = tmp_path / "run" / "teacher"
    assert sorted(p.name for p in folder.iterdir()) == ["field00000.tif", "teacher.yaml"]
    kept = (folder / "field00000.tif").stat().st_mtime_ns
    run(tmp_path, scenes, resume=True, **changes)
    assert (folder / "field00000.tif").stat().st_mtime_ns == kept
    assert (folder / "field00001.tif").exists()


@pytest.mark.parametrize("losses", [{"likelihood": 1.0}, {"volume": 1.0, "likelihood": 0.1}])
def test_views_can_be_compared_too(tmp_path, scenes, losses):
    recipe = recipe_of(tmp_path, scenes, losses=losses, crop_depths=None)
    window = recipe.sample(0, np.random.default_rng(0))
    assert window.views.shape == (13, 12, 12)
    terms = recipe._compare(
        window.decomposed.mean(0)
        .repeat_interleave(5, -1)[..., :52]
        .repeat_interleave(5, -2)[..., :52, :],
        window,
    )
    assert sorted(terms) == sorted(losses)
    assert all(torch.isfinite(t) for t in terms.values())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": "vcdnet"}, "recipe: fast is for"),
        ({"noise": {"photons": []}}, "noise.photons"),
        ({"losses": {}}, "all weights are 0"),
        ({"losses": {"likelihood": 1.0}}, "crop_depths"),
        ({"losses": {"teacher": 1.0}}, "nothing compares light fields that have volumes"),
        ({"losses": {"volume": 1.0}, "data": {"views": "v"}}, "data.volumes is missing"),
        ({"data": {"simulated": 1, "scenes": "tiny"}}, "scenes"),
        ({"teacher": {"sweeps": 0}}, "sweeps"),
    ],
)
def test_wrong_settings_are_named(tmp_path, changes, named):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    with pytest.raises(UserError, match=named):
        load_settings(str(path))


def test_another_microscope_takes_the_place_of_the_settings_own():
    assert load_settings("demo", "nnum15").optics == "nnum15"
