"""``tenet pretrain``: what it learns from, what it leaves, and runs that are killed and resumed."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.processes import World
from tenet.config.files import load_config
from tenet.data.crops import label_crops
from tenet.network.jnet import hill
from tenet.network.weights import load_model, read_moments
from tenet.training.batches import label_batch
from tenet.training.losses import labelled_luminance_loss
from tenet.training.pretraining import Pretraining, new_model, pretrain

CPU = "cpu"
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def config_file(tmp_path, small_data, write_config):
    """Return ``config_file(name, **changes)``: a configuration with labels to learn from."""
    folder = small_data / "labels"

    def make(name="small", **changes):
        places = {
            "pretrain_dataset__folderpath": str(folder),
            "pretrain_val_dataset__folderpath": str(folder),
            "pretrain_loop__path": str(tmp_path / name / "model"),
            "pretrain_loop__savefig_path": str(tmp_path / name / "train"),
        }
        return write_config(name, **places | changes)

    return make


def history(folder):
    return read_checkpoint(folder / "checkpoints" / "last.pt")["training"]["history"]


def untimed(rows):
    return [{**row, "seconds": 0, "waiting_share": 0} for row in rows]


def test_a_run_leaves_weights_that_load(config_file, tmp_path):
    config = load_config(config_file())
    path = pretrain(config, device=CPU)
    assert path == tmp_path / "small" / "model" / "small.pt"
    state = torch.load(path, weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    model = load_model(path, config.params)
    assert not model.training
    moments = read_moments(path.with_name("small_optim.pt"))
    assert set(moments) <= {name for name, _ in model.named_parameters()}
    assert moments["prev0.conv.weight"]["exp_avg_sq"].shape == (4, 1, 7, 7, 7)
    run = tmp_path / "small" / "train" / "small"
    with (run / "log.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        parts = float(row["loss_structure"]) + float(row["loss_luminance"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)
        assert 0 <= float(row["iou"]) <= 1
    assert (run / "loss.png").exists()
    assert len(list((run / "pictures").glob("*.png"))) == 3
    assert list((run / "tensorboard").iterdir())


def test_the_best_weights_are_kept(config_file, tmp_path):
    path = pretrain(load_config(config_file()), device=CPU)
    rows = history(tmp_path / "small" / "train" / "small")
    best = read_checkpoint(tmp_path / "small" / "train" / "small" / "checkpoints" / "best.pt")
    losses = [row["val_loss"] for row in rows]
    assert best["training"]["epoch"] == 1 + int(np.argmin(losses))
    state = torch.load(path, weights_only=True)
    assert all(torch.equal(tensor, best["state"][name]) for name, tensor in state.items())


def test_a_killed_run_goes_on_as_if_nothing_had_happened(config_file, tmp_path):
    changes = {
        "pretrain_loop__n_epochs": 3,
        "pretrain_loop__is_vibrate": True,
        "vibration": {"max_step": 2, "amp_alpha": {"min": 0, "max": 2}},
    }
    pretrain(load_config(config_file("whole", **changes, pretrained_model="whole")), device=CPU)
    killed = config_file("killed", **changes, pretrained_model="killed")
    folder = tmp_path / "killed" / "train" / "killed"
    last = folder / "checkpoints" / "last.pt"
    with subprocess.Popen(
        [sys.executable, "-m", "tenet", "pretrain", str(killed), "--device", "cpu"],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        while not last.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert read_checkpoint(last)["training"]["epoch"] < 3
    path = pretrain(killed, device=CPU, resume=True)
    whole = tmp_path / "whole" / "model" / "whole.pt"
    for suffix in ("", "_optim"):
        a, b = (read_checkpoint(p.with_name(f"{p.stem}{suffix}.pt")) for p in (path, whole))
        assert same(a, b)
    assert untimed(history(folder)) == untimed(history(tmp_path / "whole" / "train" / "whole"))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if not isinstance(a, dict):
        return a == b
    return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)


def test_existing_weights_are_left_alone(config_file, tmp_path):
    config = load_config(config_file(pretrain_loop__n_epochs=1))
    path = pretrain(config, device=CPU)
    with pytest.raises(UserError, match=r"small.pt exists.*choose another pretrain_loop\.path$"):
        pretrain(config, device=CPU)
    path.unlink()
    path.with_name("small_optim.pt").unlink()
    with pytest.raises(UserError, match=r"`resume=True`.*another pretrain_loop\.savefig_path$"):
        pretrain(config, device=CPU)
    with pytest.raises(UserError, match=r"1 epoch: raise pretrain_loop\.n_epochs in small\.json"):
        pretrain(config, device=CPU, resume=True)
    assert pretrain(config, device=CPU, overwrite=True).exists()


def test_without_axial_refinement_images_have_the_planes_of_the_labels(config_file):
    config = load_config(config_file(params__superres=False))
    assert config.params.scale == 4
    model = load_model(pretrain(config, device=CPU), config)
    training, _ = label_crops(config, vibrate=False)
    crop = training.draw(np.random.default_rng(0))
    assert crop.mask.shape == crop.labelz.shape == (1, 16, 16, 16)
    batch = label_batch([crop], CPU, model.microscope())
    assert batch.shown.shape == (1, 1, 16, 16, 16)
    assert model(batch.shown)["enhanced_image"].shape == batch.labelx.shape


def test_what_is_missing_is_told_before_anything_is_written(config_file, tmp_path):
    config = load_config(config_file(pretrain_dataset__high=9))
    with pytest.raises(UserError, match=r"0003_labelx.npy: no such file"):
        pretrain(config, device=CPU)
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("key", ["path", "savefig_path"])
def test_where_nothing_can_be_written_is_told_before_training(config_file, tmp_path, key):
    (tmp_path / "file").write_text("")
    config = load_config(config_file(**{f"pretrain_loop__{key}": str(tmp_path / "file" / "new")}))
    with pytest.raises(UserError, match=r"cannot write .*: a part of that path is a file"):
        pretrain(config, device=CPU)
    assert not (tmp_path / "small").exists()


@pytest.fixture
def recipe(config_file):
    config = load_config(config_file(pretrain_loop__weight_z=2.0, pretrain_loop__weight_x=3.0))
    training, validation = label_crops(config, vibrate=False)
    model = new_model(config, ALONE, 0)
    return Pretraining(model, config.pretrain_loop, training, validation)


def test_the_loss_is_its_definition(recipe):
    crops = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    recipe.model.eval()
    found = recipe.losses(recipe.model, crops)
    batch = recipe.batch(crops)
    structure, brightness = recipe.model.enhance(batch.shown)
    expected = 3 * F.binary_cross_entropy(structure, torch.stack([c.labelx for c in crops]))
    torch.testing.assert_close(found["structure"], expected)
    labels = [torch.stack([getattr(c, n) for c in crops]) for n in ("labelx", "labelz")]
    torch.testing.assert_close(found["luminance"], 2 * labelled_luminance_loss(brightness, *labels))


def test_it_learns(recipe):
    crops = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    optimizer = torch.optim.Adam(recipe.model.network_parameters().values(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.stack([*recipe.losses(recipe.model, crops).values()]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_images_are_blurred_noisy_within_0_and_1_and_masked(recipe):
    crops = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    batch = recipe.batch(crops)
    assert batch.image.shape == batch.shown.shape == (2, 1, 4, 16, 16)
    assert 0 <= float(batch.image.min()) <= float(batch.image.max()) <= 1
    masks = torch.stack([crop.mask for crop in crops])
    assert torch.equal(batch.shown, hill(batch.image) * masks)
    silent = recipe.model.microscope(noisy=False)
    clean = label_batch(crops, recipe.device, silent).image
    labelz = torch.stack([crop.labelz for crop in crops])
    with torch.no_grad():
        expected = recipe.model.image(labelz, recipe.model.image.eval().section())
    torch.testing.assert_close(clean, expected.clamp(0, 1))
    noise = batch.image - clean
    assert 0 < float(noise.std()) < 0.01
    again = recipe.batch(crops).image
    assert torch.equal(batch.image, again)


def test_the_microscope_stays_as_it_was(config_file, tmp_path):
    config = load_config(config_file(pretrain_loop__n_epochs=1))
    before = {n: t.clone() for n, t in new_model(config, ALONE, 0).state_dict().items()}
    after = torch.load(pretrain(config, device=CPU), weights_only=True)
    imaging = [n for n in before if n.startswith("image.") or n in ("a", "sigma")]
    learnt = {n for n in imaging if "weight" in n or "bias" in n or n in ("a", "sigma")}
    assert all(torch.equal(before[n], after[n]) for n in learnt)
    assert not torch.equal(before["prev0.conv.weight"], after["prev0.conv.weight"])


def test_two_processes_share_the_work(config_file, tmp_path):
    config = config_file(pretrain_loop__n_epochs=2, pretrain_loop__batch_size=1)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "tenet", "pretrain", str(config), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = history(tmp_path / "small" / "train" / "small")
    assert [row["step"] for row in rows] == [2, 4]  # two crops a step
    assert (tmp_path / "small" / "model" / "small.pt").exists()
