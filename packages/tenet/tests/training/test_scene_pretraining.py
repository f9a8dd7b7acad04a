"""The fast recipe of pre-training: what it learns by, on what, and that it learns."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.processes import World
from tenet.config.files import load_config
from tenet.config.loops import SceneLosses
from tenet.microscope.bank import section_bank, with_na
from tenet.network.jnet import hill
from tenet.network.weights import load_model
from tenet.training.losses import LIGHT_FLOOR, LIGHT_UNIT, scene_losses
from tenet.training.pretraining import new_model, pretrain
from tenet.training.scene_pretraining import ScenePretraining

CPU = "cpu"
ALONE = World(0, 1, torch.device("cpu"))
SCENES = {"cropsize": [16, 16, 16], "I": 4, "validation": 2}


@pytest.fixture
def config_file(tmp_path, write_config, monkeypatch):
    """Return ``config_file(name, **changes)``: a configuration of the fast recipe."""
    monkeypatch.chdir(tmp_path)

    def make(name="fast", **changes):
        loop = {"recipe": "fast", "batch_size": 2, "n_epochs": 2, "lr": 3e-3}
        return write_config(name, pretrain_loop=loop, scenes=SCENES, **changes)

    return make


@pytest.fixture
def recipe(config_file):
    config = load_config(config_file(pretrain_loop__losses={"light": 0.1}))
    return ScenePretraining(new_model(config, ALONE, 0), config.pretrain_loop, config.scenes)


def test_terms_are_their_definitions():
    generator = torch.Generator().manual_seed(0)
    x, z, found, again = (torch.rand(2, 1, 4, 5, 6, generator=generator) for _ in range(4))
    labelx = (torch.rand(x.shape, generator=generator) > 0.7).float()
    labelz = labelx * torch.rand(x.shape, generator=generator)
    weights = SceneLosses(bce=2, dice=0.3, brightness=0.7, light=0.1)
    terms = scene_losses(x, z, labelx, labelz, (found, again), weights)
    x, z, bx, bz = (v.double().numpy() for v in (x, z, labelx, labelz))
    bce = -(bx * np.log(x) + (1 - bx) * np.log(1 - x)).mean()
    dice = 1 - (2 * (x * bx).sum() + 1) / (x.sum() + bx.sum() + 1)
    brightness = (bx * (z - bz) ** 2).sum() / bx.sum()
    roots = [(v.double().numpy() + LIGHT_FLOOR) ** 0.5 / LIGHT_UNIT for v in (found, again)]
    off = np.abs(roots[0] - roots[1])
    light = np.where(off < 1, off**2 / 2, off - 0.5).mean()
    expected = {"bce": 2 * bce, "dice": 0.3 * dice, "brightness": 0.7 * brightness}
    expected["light"] = 0.1 * float(light)
    assert {n: t.item() for n, t in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_an_empty_crop_has_finite_terms():
    empty = torch.zeros(1, 1, 4, 4, 4)
    terms = scene_losses(empty + 0.1, empty + 0.5, empty, empty, None, SceneLosses())
    assert all(np.isfinite(float(term)) for term in terms.values())
    assert float(terms["brightness"]) == 0
    assert "light" not in terms


def test_images_hold_the_light_from_around_the_crop(recipe):
    crops = [recipe.sample(0, np.random.default_rng(seed)) for seed in range(3)]
    batch = recipe.batch(crops)
    assert batch.image.shape == (3, 1, 4, 16, 16)
    assert batch.labelx.shape == batch.labelz.shape == (3, 1, 16, 16, 16)
    torch.testing.assert_close(batch.shown, hill(batch.image))
    z, y, x = recipe.crops.margin
    for crop, image, section, labelz in zip(
        crops, batch.image, batch.sections, batch.labelz, strict=True
    ):
        whole = recipe.model.image(crop.labelz[None], section)[0]
        expected = whole[:, z // 4 : z // 4 + 4, y:-y, x:-x] + crop.offset
        deviation = crop.a * expected.clamp(min=0) ** crop.power + crop.sigma
        left = ((image - expected) / deviation)[image > 0]  # noise below 0 is cut
        assert float(left.abs().mean()) < 1.2
        torch.testing.assert_close(labelz, crop.labelz[:, z:-z, y:-y, x:-x])


def test_the_same_seeds_make_the_same_images(recipe):
    batches = [recipe.batch([recipe.sample(0, np.random.default_rng(7))]) for _ in range(2)]
    torch.testing.assert_close(batches[0].image, batches[1].image, rtol=0, atol=0)


def test_microscopes_of_a_bank_differ_in_aperture(recipe):
    params = recipe.model.params
    bank = section_bank(params, 0.1)
    assert len(bank) == 9
    widths = [float(section.sum()) for section in bank]
    assert widths == sorted(widths, reverse=True)  # a larger aperture, a smaller focus
    torch.testing.assert_close(bank[4], recipe.model.image.analytic.cpu())
    assert len(section_bank(params, 0.0)) == 1
    assert pytest.approx(1.2 * params.NA) == with_na(params, 1.2).NA


def test_statistics_are_learnt_first_and_stay_as_they_are_then(recipe):
    norms = [m for m in recipe.model.modules() if isinstance(m, nn.BatchNorm3d)]
    samples = [recipe.sample(0, np.random.default_rng(0))]

    def learnt(epoch):
        recipe.begin_epoch(epoch, 10)
        recipe.model.train()
        before = [norm.running_mean.clone() for norm in norms]
        recipe.losses(recipe.model, samples)
        return [not torch.equal(n.running_mean, b) for n, b in zip(norms, before, strict=True)]

    assert all(learnt(0))
    assert all(learnt(6))
    assert not any(learnt(7))
    assert recipe.model.training
    assert not any(norm.training for norm in norms)
    assert all(learnt(1))  # of a run that got more time


def test_the_light_counts_late_but_is_always_judged_by(recipe):
    samples = [recipe.sample(0, np.random.default_rng(0))]
    losses, judged = [], []
    for epoch in (0, 9):
        recipe.begin_epoch(epoch, 10)
        losses.append(recipe.losses(recipe.model.train(), samples))
        if not judged:
            before = {k: v.clone() for k, v in recipe.model.state_dict().items()}
        recipe.model.load_state_dict(before)
        recipe.model.eval()
        with torch.no_grad():
            judged.append(recipe.validate().scores["val_loss"])
    assert "light" not in losses[0]
    assert float(losses[1]["light"].detach()) > 0
    assert judged[0] == judged[1]


def test_brightness_starts_in_the_middle(config_file):
    config = load_config(config_file())
    model = new_model(config, ALONE, 0)
    model.postz[-1].conv.bias.data.fill_(9.0)  # as a prior leaves it: 1 everywhere
    ScenePretraining(model, config.pretrain_loop, config.scenes)
    with torch.no_grad():
        _, brightness = model.enhance(torch.rand(1, 1, 4, 16, 16))
    assert float((brightness - 0.5).abs().max()) < 0.05


def test_it_learns(config_file):
    config = load_config(config_file(pretrain_loop__n_epochs=1))
    recipe = ScenePretraining(new_model(config, ALONE, 0), config.pretrain_loop, config.scenes)
    samples = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    learning = [p for p in recipe.model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=3e-3)
    losses = []
    for _ in range(30):
        loss = torch.stack([*recipe.losses(recipe.model, samples).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_a_run_leaves_weights_and_goes_on(config_file, tmp_path):
    path = pretrain(config_file("whole", pretrain_loop__losses={"light": 0.1}), device=CPU)
    config = load_config(config_file("parts", pretrain_loop__n_epochs=2))
    model = load_model(path)
    assert model.params.NA == config.params.NA
    history = read_checkpoint(tmp_path / "train" / "small" / "checkpoints" / "last.pt")
    rows = history["training"]["history"]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss_bce", "loss_dice", "loss_brightness", "val_loss", "iou"} <= set(rows[-1])
    assert "loss_light" in rows[-1]
    # The cosine: nearly nothing is learnt at the end.
    assert rows[-1]["learning_rate"] < 0.2 * 3e-3


def test_so_many_minutes(config_file, tmp_path, capsys):
    path = pretrain(config_file(), device=CPU, minutes=0.1)
    told = capsys.readouterr().err
    kept = read_checkpoint(tmp_path / "train" / "small" / "checkpoints" / "last.pt")
    epochs = kept["training"]["epoch"]
    assert re.findall(r"(\d+) epochs? of 4 crops", told)[-1] == str(epochs)
    with pytest.raises(UserError, match=rf"has its {epochs} epochs?: raise minutes"):
        pretrain(config_file(), device=CPU, minutes=0.1, resume=True)
    assert path.is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": None}, "the section scenes is missing"),
        ({"scenes": SCENES | {"cropsize": [15, 16, 16]}}, "Z a multiple of scale"),
        (
            {"scenes": SCENES | {"brightness": [0.9, 0.1]}},
            "above 0 and up to 1, the lower first",
        ),
        ({"scenes": SCENES | {"NA_spread": 1.0}}, "NA_spread"),
        ({"pretrain_loop__recipe": "quick"}, "published or fast"),
        ({"pretrain_loop__losses": {"focal": 1}}, "focal"),
    ],
)
def test_mistakes_are_told(config_file, changes, message):
    path = config_file()
    content = json.loads(path.read_text())
    for place, value in changes.items():
        section, _, key = place.partition("__")
        if key:
            content[section][key] = value
        else:
            content[section] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        pretrain(path, device=CPU)
