"""``serenet train``: settings, data, recipes, and runs that are killed and resumed."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import NLLMPG, LightFieldOperator, phase_space_psf, presets, psf_shift, sample_views
from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.metrics import correlation
from serenet import __version__, build_model, decompose, load_checkpoint, reconstruct
from serenet.simulation.scenes import tubes_and_bubbles
from serenet.simulation.training_scenes import write_scenes
from serenet.training.crops import TrainingData
from serenet.training.recipe import Crop, Task
from serenet.training.run import train_method
from serenet.training.sections import Data, Schedule, rate_factor
from serenet.training.serenet_family import Projector, SelfSupervised
from serenet.training.settings import TrainingSettings, load_settings, shipped_settings

TINY = {
    "method": "serenet",
    "optics": "nnum13",
    "depths": 7,
    "psf_size": 39,
    "data": {"simulated": 2, "repeat": 2},
    "validation": {"simulated": 1},
    "crop": 9,
    "perceptual": {"weight": 0},
    "learning_rate": 0.001,
    "epochs": 3,
    "validate_every": 2,
    "save_every": 3,
}


def write(path, **changes):
    path.write_text(yaml.safe_dump(TINY | changes))
    return str(path)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Views and volumes of two scenes with 7 planes."""
    microscope = presets["nnum13"].with_middle_depths(7)
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(
        folder, "small", range(1, 3), microscope, phase_space_psf(microscope, size=39), keep=False
    )
    return folder


@pytest.fixture(scope="module")
def projector():
    microscope = presets["nnum13"].with_middle_depths(7)
    psf = phase_space_psf(microscope, size=39)
    return Projector(microscope, LightFieldOperator(psf), psf_shift(psf))


def run(tmp_path, name="run", resume=False, **changes):
    settings = write(tmp_path / f"{name}.yaml", **changes)
    train_method(settings, tmp_path / name, device="cpu", resume=resume, overwrite=False)
    return read_checkpoint(tmp_path / name / "checkpoints" / "last.pt")


def same_weights(a, b):
    return all(torch.equal(a["state"][n], b["state"][n]) for n in a["state"])


@pytest.mark.parametrize("method", ["serenet", "renet"])
def test_a_run_leaves_a_network_that_loads(tmp_path, method):
    run(tmp_path, method=method)
    for name in ("last", "best", "epoch-0003"):
        model = load_checkpoint(tmp_path / "run" / "checkpoints" / f"{name}.pt")
        assert (model.method, model.n_views, model.training) == (method, 49, False)
    settings = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert settings["brightness"] == 0.1
    assert settings["version"] == __version__


def test_fine_tuning_keeps_the_first_six_convolutions(tmp_path):
    run(tmp_path, "start", epochs=2)
    checkpoint = tmp_path / "start" / "checkpoints" / "best.pt"
    after = run(tmp_path, "tuned", method="fserenet", start_from=str(checkpoint))
    best = read_checkpoint(checkpoint)["state"]
    kept = [n for n in after["state"] if n.startswith(("coarse.", "middle."))]
    assert len(kept) == 12
    assert all(torch.equal(after["state"][n], best[n]) for n in kept)
    model = load_checkpoint(tmp_path / "tuned" / "checkpoints" / "last.pt")
    assert model.method == "fserenet"
    assert model(torch.rand(1, 49, 7, 9, 9), 13 / 3).shape == (1, 1, 7, 39, 39)


@pytest.mark.parametrize("method", ["serenet", "renet"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, method):
    whole = run(tmp_path, "whole", method=method)
    command = [sys.executable, "-m", "serenet", "train", str(tmp_path / "whole.yaml")]
    last = tmp_path / "killed" / "checkpoints" / "last.pt"
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed"), "--device", "cpu"],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        while not last.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert read_checkpoint(last)["training"]["epoch"] < 3
    settings = str(tmp_path / "whole.yaml")
    train_method(settings, tmp_path / "killed", device="cpu", resume=True, overwrite=False)
    resumed = read_checkpoint(last)
    assert same_weights(whole, resumed)
    for a, b in zip(whole["training"]["history"], resumed["training"]["history"], strict=True):
        assert {**a, "seconds": 0, "waiting_share": 0} == {**b, "seconds": 0, "waiting_share": 0}


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    # Adam would turn roundings of vanishing gradients into whole steps.
    plain = {"optimizer": "sgd", "clip_norm": 1, "epochs": 2}
    one = run(tmp_path, "one", batch_size=2, **plain)
    settings = write(tmp_path / "two.yaml", **plain)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train = ["-m", "serenet", "train", settings]
    done = subprocess.run(
        [sys.executable, *launch, *train, "--out", str(tmp_path / "two"), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = read_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")
    for name, tensor in one["state"].items():
        torch.testing.assert_close(two["state"][name], tensor, rtol=1e-4, atol=1e-6)
    losses = [r["training"]["history"][-1]["loss"] for r in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_loss_is_that_of_the_paper(scenes, projector):
    settings = TrainingSettings.model_validate(TINY | {"data": {"views": scenes / "views"}})
    data = TrainingData(settings.data, projector.microscope, 9, paired=False)
    torch.manual_seed(0)
    model = build_model("serenet").train()
    recipe = SelfSupervised(model, projector, Task(data, data, settings), perceptual=None)
    crop = recipe.sample(0, np.random.default_rng(1))
    terms = recipe.losses(model, [crop])

    scale = 13 / 3
    decomposed = decompose(crop.inputs, projector.shift / scale)[None]
    volume, enlarged = model(decomposed, scale)
    views = LightFieldOperator(projector.operator.psf[list(crop.projected)]).forward(volume[0, 0])
    projected = torch.nn.functional.interpolate(views[None], size=(9, 9), mode="bilinear")[0]
    peaks = np.quantile(crop.target.flatten(1).numpy(), 0.999, axis=1) + 1
    expected = NLLMPG(0, 9)(projected, crop.target) / peaks.mean()
    torch.testing.assert_close(terms["likelihood"], expected.float(), rtol=1e-4, atol=1e-7)
    negative = (-2 * enlarged.clamp(max=0)).mean()
    torch.testing.assert_close(terms["negativity"], 1000 * negative, rtol=1e-4, atol=1e-9)
    (terms["likelihood"] + terms["negativity"]).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_a_batch_is_the_mean_of_its_crops(scenes, projector):
    settings = TrainingSettings.model_validate(TINY | {"data": {"views": scenes / "views"}})
    data = TrainingData(settings.data, projector.microscope, 9, paired=False)
    model = build_model("serenet").train()
    recipe = SelfSupervised(model, projector, Task(data, data, settings), perceptual=None)
    crops = [recipe.sample(n, np.random.default_rng(n)) for n in range(2)]
    both = recipe.losses(model, crops)
    single = [recipe.losses(model, [crop]) for crop in crops]
    for name in both:
        mean = (single[0][name] + single[1][name]) / 2
        torch.testing.assert_close(both[name], mean, rtol=1e-4, atol=1e-6)


def test_crops_are_what_the_method_asks_for(scenes, projector):
    settings = TrainingSettings.model_validate(
        TINY | {"data": {"views": scenes / "views"}, "central_view": True, "projected_views": 5}
    )
    data = TrainingData(settings.data, projector.microscope, 9, paired=False)
    recipe = SelfSupervised(
        build_model("serenet"), projector, Task(data, data, settings), perceptual=None
    )
    crops = [recipe.sample(0, np.random.default_rng(n)) for n in range(40)]
    assert all(c.inputs.shape == (49, 9, 9) and c.target.shape == (5, 9, 9) for c in crops)
    assert all(c.projected[0] == 0 and len(set(c.projected)) == 5 for c in crops)
    noise = torch.cat([(c.inputs[list(c.projected)] - c.target).flatten() for c in crops])
    assert float(noise.mean()) == pytest.approx(0, abs=0.1)
    assert float(noise.var()) == pytest.approx(9, rel=0.05)
    again = recipe.sample(0, np.random.default_rng(3))
    assert torch.equal(again.inputs, crops[3].inputs)


def test_crops_and_volumes_show_the_same_place(tmp_path, scenes):
    microscope = presets["nnum13"].with_middle_depths(7)
    # Bright where the view pixel is, so that both crops hold the same ramp.
    views = np.broadcast_to(np.arange(36, dtype=np.float32), (49, 36, 36))
    volume = np.broadcast_to(np.arange(156, dtype=np.float32), (5, 156, 156))
    for folder, array in (("views", views), ("volumes", volume)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "ramp.tif", np.ascontiguousarray(array))
    wanted = Data(views=tmp_path / "views", volumes=tmp_path / "volumes")
    data = TrainingData(wanted, microscope, 9, paired=True)
    origins = {data.random_origin(0, np.random.default_rng(n)) for n in range(300)}
    assert {n for origin in origins for n in origin} == set(range(0, 28, 3))
    for origin in origins:
        crop, truth = data.views(0, origin), data.volume(0, origin)
        assert truth.shape == (7, 39, 39)
        assert not truth[0].any()  # a shallower volume gets empty planes on both sides
        assert not truth[-1].any()
        assert truth[1, 0, 0] == round(crop[0, 0, 0] * 13 / 3)
        assert truth[1, 0, -1] == truth[1, 0, 0] + 38


def test_files_that_do_not_fit_the_memory_are_read_crop_by_crop(monkeypatch, scenes):
    microscope = presets["nnum13"].with_middle_depths(7)
    kept = TrainingData(Data(views=scenes / "views"), microscope, 9, paired=False)
    monkeypatch.setattr("serenet.training.crops._SHARE_FOR_FILES", 0)
    read = TrainingData(Data(views=scenes / "views"), microscope, 9, paired=False)
    assert kept._kept
    assert not read._kept
    for origin in ((0, 0), (5, 20)):
        assert np.array_equal(kept.views(1, origin), read.views(1, origin))


def test_one_light_field_is_learnt():
    """The loss falls by nine tenths, and the volume leaves the refocused views behind by 0.03."""
    whole = presets["nnum13"]
    depths_um = tuple(float(z) for z in range(-4, 5))
    microscope = whole.with_depths(depths_um).with_views(whole.views[:13])
    psf = phase_space_psf(microscope, size=75)
    projector = Projector(microscope, LightFieldOperator(psf), psf_shift(psf))
    truth = tubes_and_bubbles(4, microscope)
    scale = microscope.lateral_scale
    views = sample_views(projector.operator.forward(torch.from_numpy(truth)), scale).clamp(min=0)
    refocused = decompose(views, projector.shift / scale).mean(dim=0)[None]
    enlarged = torch.nn.functional.interpolate(refocused, size=(156, 156), mode="bilinear")[0]

    class OneField:
        visits = (0,)

        def __len__(self):
            return 1

    torch.manual_seed(0)
    model = build_model("serenet", inChannels=13).train()
    model.to(memory_format=torch.channels_last_3d)
    settings = TrainingSettings.model_validate(TINY)
    recipe = SelfSupervised(
        model, projector, Task(OneField(), OneField(), settings), perceptual=None
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 40, total_iters=40)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(150):
        row, column = rng.integers(0, 25, 2)
        clean = views[:, row : row + 12, column : column + 12]
        chosen = tuple(rng.permutation(13)[:5].tolist())
        inputs = clean + 3 * torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        terms = recipe.losses(model, [Crop("field", inputs, clean[list(chosen)], chosen)])
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm_up.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.1 * np.mean(losses[:10])
    volume = reconstruct(views, model.eval(), projector.shift, scale).numpy()
    assert correlation(truth, volume) > correlation(truth, enlarged.numpy()) + 0.03


def test_schedules():
    constant = rate_factor(Schedule(), 100)
    assert constant(0) == constant(99) == 1
    steps = rate_factor(Schedule(kind="steps", milestones=(10, 20), gamma=0.1), 100)
    assert [steps(e) for e in (0, 9.9, 10, 25)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = rate_factor(Schedule(kind="cosine", warmup_epochs=2), 100)
    assert cosine(0) < 0.01
    assert cosine(50) == pytest.approx(0.5)
    assert cosine(100) == pytest.approx(0, abs=1e-9)


def test_shipped_presets_are_valid(serenet):
    assert {"serenet_nnum13", "serenet_nnum15", "renet_nnum13", "fserenet_nnum13", "demo"} <= set(
        shipped_settings()
    )
    for name in shipped_settings():
        assert load_settings(name).epochs > 0
    listed = serenet("train", "--list")
    assert listed.code == 0
    for name in shipped_settings():
        assert f"{name}: " in listed.out


def refused(serenet, tmp_path, **changes):
    """Return the one line with which a wrong configuration is refused."""
    settings = write(tmp_path / "wrong.yaml", **changes)
    outcome = serenet("train", settings, "--out", str(tmp_path / "run"), "--device", "cpu")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    return outcome.error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crops": 9}, r"crops: unknown key; known are recipe, method, .*crop"),
        ({"data": {"simulated": 2, "repeats": 1}}, r"data.repeats: unknown key; known are views"),
        ({"crop": "wide"}, r"crop: .*valid integer.*now 'wide'"),
        ({"crop": 3}, r"crop: .*greater than or equal to 8.*now 3"),
        ({"method": "unet"}, r"method: .*'serenet', 'renet', .* or 'twnet'.*now 'unet'"),
        ({"optics": "nnum12"}, r"'nnum12' is neither a preset"),
        ({"learning_rate": -1}, r"learning_rate: .*greater than 0"),
        ({"brightness": 0}, r"brightness: .*greater than 0"),
        ({"epochs": 2.5}, r"epochs: .*valid integer"),
        ({"data": {}}, r"give either views \(a folder\) or simulated"),
        ({"data": {"views": "a", "simulated": 2}}, r"give either views"),
        ({"data": {"views": "nowhere"}}, r"nowhere: no such file or folder"),
        ({"method": "fserenet"}, r"start_from is missing"),
        ({"method": "renet", "data": {"views": "a"}}, r"data.volumes is missing: renet learns"),
        ({"psf": "psf.h5"}, r"psf: the file has its own depths"),
        ({"depths": 300}, r"300 depths: the microscope has 101"),
        ({"start_from": "nowhere.pt"}, r"nowhere.pt: no such file"),
        ({"crop": 99}, r"views of 36 x 36 pixels, the crop is 99: lower crop to 36"),
        ({"perceptual": {"weight": 1, "vgg": "no.pth"}}, r"perceptual\."),
    ],
)
def test_wrong_settings_are_refused(serenet, tmp_path, changes, message):
    assert re.search(message, refused(serenet, tmp_path, **changes))


def test_files_that_do_not_pair_are_refused(serenet, tmp_path, scenes):
    def data(views, volumes):
        return {"method": "renet", "data": {"views": str(views), "volumes": str(volumes)}}

    (tmp_path / "other").mkdir()
    volume = tifffile.imread(scenes / "volumes" / "scene0001.tif")
    tifffile.imwrite(tmp_path / "other" / "cell.tif", volume)
    line = refused(serenet, tmp_path, **data(scenes / "views", tmp_path / "other"))
    assert "no volume of that name" in line
    for name, wrong, message in (
        ("narrow", volume[:, :-1], r"does not pair with"),
        ("deep", np.repeat(volume, 2, axis=0), "14 planes, the optics have 7"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for scene in ("scene0001", "scene0002"):
            tifffile.imwrite(folder / f"{scene}.tif", wrong)
        assert message in refused(serenet, tmp_path, **data(scenes / "views", folder))


def test_views_of_another_microscope_are_refused(serenet, tmp_path):
    (tmp_path / "views").mkdir()
    tifffile.imwrite(tmp_path / "views" / "a.tif", np.ones((225, 20, 20), np.float32))
    line = refused(serenet, tmp_path, data={"views": str(tmp_path / "views")})
    assert "225 views; this microscope has 169" in line


def test_what_is_missing_on_the_command_line(serenet, tmp_path):
    assert "--out is missing" in serenet("train", "demo").error
    assert "name a training YAML" in serenet("train", "--out", str(tmp_path / "run")).error
    wrong = serenet("train", "nothing", "--out", str(tmp_path / "run"))
    assert "neither a preset (demo" in wrong.error
    assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, full_disk):
    run(tmp_path)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    before = last.read_bytes()
    settings = write(tmp_path / "run.yaml", epochs=6)
    with full_disk(1_000_000), pytest.raises(UserError, match="larger than allowed"):
        train_method(settings, tmp_path / "run", device="cpu", resume=True, overwrite=False)
    assert last.read_bytes() == before
