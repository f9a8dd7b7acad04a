"""``tenet finetune``: modes, folds, simulation, losses, and runs that are killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from optics import TwoPhotonNLL
from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.processes import World
from tenet.alignment.shifts import align, load_alignment
from tenet.config.files import load_config
from tenet.data.recordings import fold_folder
from tenet.network.weights import load_model
from tenet.training.finetuning import FinetuneOptions, finetune, make_recipe
from tenet.training.losses import luminance_loss
from tenet.training.modes import Mode
from tenet.training.pretraining import new_model, pretrain
from tenet.training.random_field import mrf_loss

CPU = "cpu"
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory, small_data):
    """Labels, and recordings of others, also as the second fold."""
    folder = shutil.copytree(small_data, tmp_path_factory.mktemp("folds"), dirs_exist_ok=True)
    shutil.copytree(small_data / "stacks", folder / "stacks2")
    return folder


@pytest.fixture
def config_file(tmp_path, data, write_config):
    def make(name="tuned", **changes):
        places = {f"{s}__folderpath": str(data / "labels") for s in SECTIONS[:2]}
        places |= {f"{s}__folderpath": str(data / "stacks") for s in SECTIONS[2:]}
        for loop in ("pretrain_loop", "train_loop"):
            places |= {f"{loop}__path": str(tmp_path / "model")}
            places |= {f"{loop}__savefig_path": str(tmp_path / "train")}
        places["pretrain_loop__n_epochs"] = 1
        return write_config(name, **places | changes)

    return make


SECTIONS = ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset")


@pytest.fixture
def pretrained(config_file):
    """Pre-train the small network once for a test."""
    return pretrain(load_config(config_file("first")), device=CPU)


def last_of(tmp_path, name="tuned"):
    return read_checkpoint(tmp_path / "train" / name / "checkpoints" / "last.pt")


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_learns_what_it_says(config_file, tmp_path, pretrained, mode):
    config = load_config(config_file(train_loop__n_epochs=1))
    before = load_model(pretrained, config.params)
    path = finetune(config, mode=mode, device=CPU)
    assert path == tmp_path / "model" / "tuned.pt"
    after = load_model(path, config.params)
    refitted = new_model(config, ALONE, 0)  # fine-tuning fits the neural PSF anew
    network = before.network_parameters()
    changed = {
        name: not torch.equal(p, (before if name in network else refitted).get_parameter(name))
        for name, p in after.named_parameters()
        if name != "image.log_ez0"
    }
    assert changed["prev0.conv.weight"] is (mode is not Mode.decoder)
    assert changed["image.blur.neuripsf.layers.1.weight"] is (mode is not Mode.encoder)
    part = {name: change for name, change in changed.items() if name in network}
    assert any(part.values()) is (mode is not Mode.decoder)


def test_the_old_mode_goes_on_with_the_moments(config_file, tmp_path, pretrained):
    steps = {}
    for mode in (Mode.all, Mode.old):
        config = load_config(config_file(f"m_{mode.value}", train_loop__n_epochs=1))
        finetune(config, mode=mode, device=CPU)
        states = last_of(tmp_path, f"m_{mode.value}")["training"]["optimizer"]["state"]
        steps[mode] = {float(state["step"]) for state in states.values()}
    assert steps[Mode.all] == {4}
    assert steps[Mode.old] == {4, 6}  # two of pre-training; the microscope was not learnt there


def test_a_fold_has_its_own_data_and_name(config_file, tmp_path, pretrained):
    config = load_config(config_file(train_loop__n_epochs=1))
    path = finetune(config, fold="2", device=CPU)
    assert path.name == "tuned_cv_2.pt"
    assert (tmp_path / "train" / "tuned_cv_2" / "log.csv").exists()
    with pytest.raises(UserError, match="stacks3: no such folder"):
        finetune(config, fold="3", device=CPU)


def test_folders_of_folds_as_they_once_were_are_found(tmp_path):
    (tmp_path / "stacks_cv_2").mkdir()
    assert fold_folder(tmp_path / "stacks", "2").name == "stacks_cv_2"
    (tmp_path / "stacks2").mkdir()
    assert fold_folder(tmp_path / "stacks", "2").name == "stacks2"
    assert fold_folder(tmp_path / "stacks", None).name == "stacks"


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "encoder", "-cv", "2", "--train_with_align", "--just_wanna_see_loss"),
        ("--train_mode", "encoder", "--cross_validation", "2", "--align", "--loss-only"),
        ("--mode", "encoder", "--fold", "2", "--align", "--loss-only"),
    ],
)
def test_options_by_their_published_names(tenet, config_file, pretrained, monkeypatch, options):
    asked = []

    def told(config, wanted, **_):
        asked.append(wanted)
        return pretrained, {"val_loss": 1.0}

    monkeypatch.setattr("tenet.training.finetuning.evaluate_losses", told)
    shown = tenet("finetune", config_file(), *options)
    assert shown.returncode == 0, shown.stderr
    assert asked == [FinetuneOptions(Mode.encoder, "2", align=True)]


def published_finetuned(path, model, separator="__"):
    """Write weights as published fine-tuning with EWC leaves them; return what it added."""
    generator = torch.Generator().manual_seed(1)
    added = {}
    for name, parameter in model.named_parameters():
        place = name.replace(".", separator)
        mean = parameter.detach() + 0.01
        added[f"{place}_estimated_mean"] = mean
        added[f"{place}_estimated_fisher"] = torch.rand(parameter.shape, generator=generator)
    torch.save(model.state_dict() | added, path)
    return added


@pytest.mark.parametrize("separator", ["__", "_", "."])
def test_going_on_with_the_ewc_of_a_published_checkpoint(config_file, pretrained, separator):
    model = load_model(pretrained, load_config(config_file()).params)
    added = published_finetuned(pretrained, model, separator)
    wanted = FinetuneOptions(Mode.all, stored_ewc=True)
    # No label is needed.
    changes = {"pretrain_dataset__folderpath": "nowhere", "train_loop__ewc_weight": 3.0}
    recipe = recipe_of(config_file, pretrained, wanted, **changes)
    named = recipe.model.network_parameters()
    number = sum(parameter.numel() for parameter in named.values())
    sums = [
        (added[f"{name.replace('.', separator)}_estimated_fisher"] * 0.01**2).sum()
        for name in named
    ]
    crops = [recipe.sample(0, np.random.default_rng(0))]
    found = recipe.losses(recipe.model, crops)["ewc"]
    torch.testing.assert_close(found, 3.0 / 2 * sum(sums) / number, rtol=1e-3, atol=0)


def test_ewc_that_is_not_stored_is_told(config_file, pretrained, monkeypatch):
    monkeypatch.setattr("tenet.training.finetuning.fit_psf", None)  # told before that
    wanted = FinetuneOptions(Mode.all, stored_ewc=True)
    with pytest.raises(UserError, match="keeps nothing for EWC; leave"):
        recipe_of(config_file, pretrained, wanted)
    with pytest.raises(UserError, match=r"nothing is held by EWC; set train_loop\.ewc"):
        recipe_of(config_file, pretrained, wanted, train_loop__ewc=None)


@pytest.mark.parametrize("told", [False, True])
def test_fine_tuning_quantises_whatever_the_file_says(config_file, pretrained, capsys, told):
    """As published: the microscope images what is at or above the threshold, not the structure."""
    changes = {"params__apply_vq": told, "params__use_x_quantized": told}
    recipe = recipe_of(config_file, pretrained, **changes, train_loop__qloss_weight=0.0)
    assert capsys.readouterr().err.count("apply_vq and use_x_quantized count as true") == 1 - told
    model = recipe.model.eval()
    batch = recipe.batch([recipe.sample(0, np.random.default_rng(0))])
    with torch.no_grad():
        structure, brightness = model.enhance(batch.shown)
        binary = (structure >= model.params.threshold).float()
        imaged = model.image(binary * brightness).clamp(0, 1)
        out = model(batch.shown)
        continuous = model.image(structure * brightness).clamp(0, 1)
    torch.testing.assert_close(out["reconstruction"], imaged)
    assert not torch.allclose(imaged, continuous, atol=0.01)


@pytest.mark.parametrize("section", ["train_dataset", "pretrain_dataset"])
def test_what_is_missing_is_told_before_anything_is_computed(
    config_file, pretrained, monkeypatch, section
):
    monkeypatch.setattr("tenet.training.finetuning.fit_psf", None)
    missing = {f"{section}__folderpath": "nowhere", "train_loop__ewc": True}
    with pytest.raises(UserError, match="nowhere: no such folder"):
        recipe_of(config_file, pretrained, **missing)


def recipe_of(config_file, pretrained, wanted=None, **changes):
    config = load_config(config_file(**changes))
    return make_recipe(config, wanted or FinetuneOptions(Mode.all), pretrained, 0, ALONE)


def test_the_loss_is_its_definition(config_file, pretrained):
    weights = {"l_00": 0.1, "l_01": 0.2, "l_10": 0.3, "l_11": 0.4}
    changes = {"mrfloss_weights": weights, "zloss_weight": 2.0, "qloss_weight": 3.0}
    changes |= {"ploss_weight": 4.0, "ewc": True, "ewc_weight": 1e3}
    recipe = recipe_of(
        config_file, pretrained, **{f"train_loop__{name}": v for name, v in changes.items()}
    )
    recipe.model.eval()
    with torch.no_grad():
        recipe.model.prev0.conv.weight.add_(0.01)
    crops = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    found = recipe.losses(recipe.model, crops)
    batch = recipe.batch(crops)
    out = recipe.model(batch.shown)
    noise = out["poisson_weight"], out["gaussian_sigma"]
    section = recipe.model.image.section()
    expected = {
        "reconstruction": TwoPhotonNLL()(out["reconstruction"], batch.image, *noise),
        "luminance": 2 * luminance_loss(out["estim_luminance"]),
        "quantisation": 3 * out["quantized_loss"],
        "psf": 4 * (section - recipe.model.image.analytic).square().mean(),
        "mrf": mrf_loss(out["enhanced_image"], **weights),
    }
    assert set(found) == {*expected, "ewc"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert found["ewc"].item() > 0
    assert out["reconstruction"].shape == batch.image.shape
    assert torch.equal(torch.stack([crop.image for crop in crops]), batch.image)


def test_the_first_step_is_free_of_ewc(config_file, tmp_path, pretrained):
    config = load_config(config_file(train_loop__n_epochs=1, train_dataset__I=1))
    finetune(config, mode="all", device=CPU)
    row = last_of(tmp_path)["training"]["history"][0]
    assert row["loss_ewc"] == 0
    assert row["val_ewc"] > 0


def test_brightness_is_adjusted_if_asked_for(config_file, pretrained):
    recipe = recipe_of(config_file, pretrained, train_loop__adjust_luminance=True)
    recipe.model.eval()
    crops = [recipe.sample(0, np.random.default_rng(0))]
    batch = recipe.batch(crops)
    out = recipe.model(batch.shown)
    found, wanted = (v.detach().flatten() for v in (out["reconstruction"], batch.image))
    columns = torch.stack([found, torch.ones_like(found)], dim=1)
    gain, offset = torch.linalg.lstsq(columns, wanted).solution
    assert 0 < gain < 30
    assert offset.abs() > 1e-3  # a gain alone would not do
    adjusted = gain * out["reconstruction"] + offset
    noise = out["poisson_weight"], out["gaussian_sigma"]
    expected = TwoPhotonNLL()(adjusted, batch.image, *noise)
    torch.testing.assert_close(recipe.terms(out, batch)["reconstruction"], expected)


def test_simulated_images_come_from_the_pretrained_microscope(config_file, pretrained):
    wanted = FinetuneOptions(Mode.all, simulation=True)
    recipe = recipe_of(config_file, pretrained, wanted)
    crops = [recipe.sample(0, np.random.default_rng(0))]
    assert crops[0].labelz is not None
    with torch.no_grad():  # what is being learnt does not matter
        for parameter in recipe.model.imaging_parameters():
            parameter.mul_(0.5)
    image = recipe.batch(crops).image
    fresh = recipe_of(config_file, pretrained, wanted)
    assert torch.equal(image, fresh.batch(crops).image)
    assert recipe.losses(recipe.model, crops)["reconstruction"].requires_grad


def test_what_is_simulated_is_aligned_if_asked_for(config_file, pretrained):
    """As published: ``finetuning_with_simulation.py NAME --train_with_align``."""
    limits = {"min": 0, "max": 2}
    changes = {"vibration": {"max_step": 1, "amp_alpha": limits}, "train_loop__is_vibrate": True}
    changes |= {"train_loop__ewc": None, "pretrain_dataset__mask": False}
    plain, aligned = (
        recipe_of(
            config_file,
            pretrained,
            FinetuneOptions(Mode.all, simulation=True, align=wanted),
            **changes,
        )
        for wanted in (False, True)
    )
    batches = []
    for recipe in (plain, aligned):
        recipe.crops.begin_epoch(1)
        batches.append(recipe.batch([recipe.sample(0, np.random.default_rng(1))]))
    assert torch.equal(batches[0].image, batches[1].image)
    expected, shifts = align(batches[0].shown, load_alignment())
    assert shifts.abs().max() > 0.1
    torch.testing.assert_close(batches[1].shown, expected)


def test_simulation_tells_the_overlap_too(config_file, tmp_path, pretrained):
    config = load_config(config_file(train_loop__n_epochs=1))
    finetune(config, simulation=True, device=CPU)
    assert 0 <= last_of(tmp_path)["training"]["history"][0]["iou"] <= 1


def test_slices_are_aligned_if_asked_for(config_file, tmp_path, pretrained):
    plain = recipe_of(config_file, pretrained)
    aligned = recipe_of(config_file, pretrained, FinetuneOptions(Mode.all, align=True))
    a, b = (r.crops.stacks[0].volume for r in (plain, aligned))
    assert a.shape == b.shape
    assert not np.array_equal(a, b)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(config_file, tmp_path, pretrained):
    changes = {"train_loop__n_epochs": 4}
    whole = finetune(config_file("whole", **changes), device=CPU)
    killed = config_file("killed", **changes)
    last = tmp_path / "train" / "killed" / "checkpoints" / "last.pt"
    with subprocess.Popen(
        [sys.executable, "-m", "tenet", "finetune", str(killed), "--device", "cpu"],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        while not last.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert read_checkpoint(last)["training"]["epoch"] < 4
    path = finetune(killed, device=CPU, resume=True)
    a, b = (torch.load(p, weights_only=True) for p in (path, whole))
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())
    rows = [last_of(tmp_path, name)["training"]["history"] for name in ("killed", "whole")]
    for one, other in zip(*rows, strict=True):
        timeless = {"seconds": 0, "waiting_share": 0}
        assert one | timeless == other | timeless


def test_a_run_of_another_mode_is_not_resumed(config_file, pretrained):
    config = load_config(config_file(train_loop__n_epochs=1))
    finetune(config, mode="all", device=CPU)
    with pytest.raises(UserError, match="mode was all, is encoder"):
        finetune(config, mode="encoder", device=CPU, resume=True)


def test_losses_can_be_printed_without_training(tenet, config_file, tmp_path, pretrained):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    shown = tenet("finetune", config_file(), "--loss-only", "--device", "cpu")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == f"{pretrained}:"
    terms = {line.split(":")[0].strip(): float(line.split(":")[1]) for line in lines[1:]}
    assert list(terms) == ["loss", "reconstruction", "luminance", "quantisation", "psf", "ewc"]
    assert terms["loss"] == pytest.approx(sum(terms.values()) - terms["loss"], rel=1e-4)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}


@pytest.mark.parametrize("wrong", ["missing", "damaged", "another network"])
def test_pretrained_weights_that_are_no_use_are_told(tenet, config_file, tmp_path, wrong):
    path = tmp_path / "model" / "small.pt"
    path.parent.mkdir()
    message = "no such file; run tenet pretrain first"
    if wrong == "damaged":
        path.write_bytes(b"nothing")
        message = "not a PyTorch file, or damaged"
    if wrong == "another network":
        torch.save({"weight": torch.ones(2)}, path)
        message = "the checkpoint is of another network"
    refused = tenet("finetune", config_file(), "--device", "cpu")
    assert refused.returncode == 2
    assert f"error: {path}: {message}" in refused.stderr
    assert refused.stderr.count("error") == 1
    assert not (tmp_path / "train" / "tuned").exists()


def test_the_name_must_not_be_that_of_the_pretrained_model(config_file):
    with pytest.raises(UserError, match="rename the file"):
        finetune(config_file("small"), device=CPU)


def test_a_wrong_configuration_ends_in_one_line(tenet, config_file):
    path = config_file()
    content = json.loads(path.read_text())
    content["train_loop"]["lr"] = "fast"
    path.write_text(json.dumps(content))
    refused = tenet("finetune", path)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: {path}: train_loop.lr: allowed: a number above 0 (now 'fast') "
        "(see docs/configuration.md)\n"
    )
