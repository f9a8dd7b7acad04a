"""The fast recipe of fine-tuning: the microscope first, scenes beside recordings, never worse."""

import numpy as np
import pytest
import torch

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.processes import World
from tenet.config.files import load_config
from tenet.microscope.bank import sections_at
from tenet.network.microscope_fit import FoundMicroscope, Noise
from tenet.network.weights import load_model
from tenet.training import scene_finetuning
from tenet.training.finetune_options import FinetuneOptions
from tenet.training.finetuning import finetune
from tenet.training.losses import LIGHT_FLOOR, LIGHT_UNIT
from tenet.training.pretraining import new_model
from tenet.training.scene_finetuning import scene_recipe
from tenet.training.scenes import scene_batch

CPU = "cpu"
ALONE = World(0, 1, torch.device("cpu"))
SCENES = {"cropsize": [16, 16, 16], "I": 4, "validation": 2}
LOOP = {"recipe": "fast", "batch_size": 2, "n_epochs": 2, "lr": 1e-3}


@pytest.fixture
def config_file(tmp_path, small_data, write_config, monkeypatch):
    """Return ``config_file(**changes)``: a configuration of the fast recipe, with weights."""
    monkeypatch.chdir(tmp_path)

    def make(name="tuned", **changes):
        path = write_config(name, train_loop=LOOP, scenes=SCENES, **changes)
        model = new_model(load_config(path), ALONE, 0)
        (tmp_path / "model").mkdir(exist_ok=True)
        torch.save(model.state_dict(), tmp_path / "model" / "small.pt")
        return path

    (tmp_path / "stacks").symlink_to(small_data / "stacks")
    return make


def recipe_of(config_file, tmp_path, **changes):
    config = load_config(config_file(**changes))
    start = tmp_path / "model" / "small.pt"
    return scene_recipe(config, FinetuneOptions(), start, 0, ALONE)


def test_a_run_leaves_weights_with_the_microscope_that_was_found(
    config_file, tmp_path, capsys, monkeypatch
):
    found = FoundMicroscope(0.85, 0.9, Noise(0.05, 0.02), is_certain=True)
    monkeypatch.setattr(scene_finetuning, "find_microscope", lambda *_: found)
    path = finetune(config_file(), device=CPU)
    told = capsys.readouterr().err
    assert "numerical aperture" in told
    assert "misfit of held-out recordings" in told or "stays as it was" in told
    model = load_model(path)
    start = load_model(tmp_path / "model" / "small.pt", model.params)
    (true,) = sections_at(model.params, [0.85])
    own, believed = (
        float((m.image.section() - true).square().mean().detach()) for m in (model, start)
    )
    assert own < 2e-3 < believed
    assert float(torch.sigmoid(model.sigma).detach()) == pytest.approx(0.02, rel=1e-3)
    history = read_checkpoint(tmp_path / "train" / "tuned" / "checkpoints" / "last.pt")
    rows = history["training"]["history"]
    assert {"loss_bce", "loss_recordings", "val_misfit"} <= set(rows[-1])


def test_terms_are_their_definitions(config_file, tmp_path):
    recipe = recipe_of(config_file, tmp_path, train_loop__recordings_weight=0.3)
    pairs = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    with torch.no_grad():
        terms = recipe.losses(recipe.model, pairs)
        images = torch.stack([pair.recording.image for pair in pairs])
        shown = 2 * images**0.5 / (1 + images**0.5)
        x, z = recipe.model.enhance(shown)
        (section,) = sections_at(recipe.model.params, [recipe.found.factor])
        again = recipe.model.image(x * z, section).clamp(0, 1)
    noise = recipe.found.noise
    expected = (((again - images) / (noise.a * again + noise.sigma)) ** 2).mean()
    assert float(terms["recordings"]) == pytest.approx(0.3 * float(expected), rel=1e-4)
    assert {"bce", "dice", "brightness", "light", "recordings"} == set(terms)


def test_the_light_of_scenes_is_that_of_the_microscope_found(config_file, tmp_path):
    recipe = recipe_of(config_file, tmp_path)
    pairs = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    with torch.no_grad():
        terms = recipe.losses(recipe.model, pairs)
        batch = scene_batch(
            [pair.scene for pair in pairs],
            recipe.model.image,
            recipe._bank,
            recipe._scenes.margin,
            with_clean=True,
        )
        x, z = recipe.model.enhance(batch.shown)
        seen = [
            recipe.model.image(b[None], s)[0] for b, s in zip(x * z, batch.sections, strict=True)
        ]
        roots = [(v.clamp(min=0) + LIGHT_FLOOR).sqrt() for v in (torch.stack(seen), batch.clean)]
    off = (roots[0] - roots[1]).abs() / LIGHT_UNIT
    light = torch.where(off < 1, off.square() / 2, off - 0.5).mean()
    assert float(terms["light"]) == pytest.approx(0.3 * float(light), rel=1e-4)


def test_recordings_teach_the_network_alone(config_file, tmp_path):
    recipe = recipe_of(config_file, tmp_path)
    pairs = [recipe.sample(0, np.random.default_rng(n)) for n in range(2)]
    recipe.losses(recipe.model, pairs)["recordings"].backward()
    gradients = {n: p.grad for n, p in recipe.model.named_parameters() if p.grad is not None}
    assert float(gradients["postx.1.conv.weight"].abs().max()) > 0
    assert not any(name.startswith(("image.", "a", "sigma")) for name in gradients)


def test_scenes_are_like_the_recordings(config_file, tmp_path):
    recipe = recipe_of(config_file, tmp_path)
    drawn = [recipe.sample(0, np.random.default_rng(n)).scene for n in range(20)]
    sigma = min(max(recipe.found.noise.sigma, 1e-3), 0.5)
    assert all(sigma / 2 <= scene.sigma <= min(2 * sigma, 1) for scene in drawn)
    assert drawn[0].labelx.shape[1:] == tuple(
        n + 2 * m for n, m in zip((16, 16, 16), recipe._scenes.margin, strict=True)
    )


def test_crops_are_no_larger_than_the_stacks(config_file, tmp_path):
    sizes = {"size": [96, 64, 64], "cropsize": [64, 40, 40]}
    changes = {f"train_dataset__{key}": size for key, size in sizes.items()}
    recipe = recipe_of(config_file, tmp_path, **changes)
    pair = recipe.sample(0, np.random.default_rng(0))
    assert pair.recording.image.shape == (1, 6, 20, 20)
    inner = tuple(
        n - 2 * m for n, m in zip(pair.scene.labelx.shape[1:], recipe._scenes.margin, strict=True)
    )
    assert inner == (24, 20, 20)
    recipe.losses(recipe.model, [pair])


def test_what_fits_worse_is_not_kept(config_file, tmp_path, capsys):
    recipe = recipe_of(config_file, tmp_path)
    start = {n: v.clone() for n, v in recipe.model.state_dict().items()}
    recipe.model.postx[1].conv.bias.data -= 9  # structure nowhere
    kept = recipe.settle()
    assert all(torch.equal(kept[name], value) for name, value in start.items())
    assert "fit no better than before" in capsys.readouterr().err


def test_what_fits_better_is_kept(config_file, tmp_path, capsys):
    recipe = recipe_of(config_file, tmp_path)
    better = {n: v.clone() for n, v in recipe.model.state_dict().items()}
    recipe._start["postx.1.conv.bias"] -= 9
    kept = recipe.settle()
    assert torch.equal(kept["postx.1.conv.bias"], better["postx.1.conv.bias"])
    assert "misfit of held-out recordings" in capsys.readouterr().err


def test_a_folder_of_stacks_may_be_named(config_file, tmp_path, small_data):
    path = config_file(train_dataset__folderpath="gone", val_dataset__folderpath="gone")
    with pytest.raises(UserError, match="gone: no such folder"):
        finetune(path, device=CPU)
    tuned = finetune(path, device=CPU, stacks=small_data / "stacks")
    assert tuned.is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"simulation": True}, "`simulation`: not with the fast recipe"),
        ({"mode": "decoder"}, "`mode=decoder`: not with the fast recipe"),
        ({"stored_ewc": True}, "`stored_ewc`: not with the fast recipe"),
    ],
)
def test_what_the_fast_recipe_does_not_do(config_file, options, told):
    with pytest.raises(UserError, match=told):
        finetune(config_file(), device=CPU, **options)
