"""From settings to what is trained."""

from typing import get_args

import numpy as np
import pytest
import torch
import yaml

from scopekit.errors import UserError
from scopekit.training.processes import World
from serenet.training.build import _BUILDERS, build_recipe
from serenet.training.settings import Method, TrainingSettings, load_settings


def test_every_method_can_be_built():
    assert set(_BUILDERS) == set(get_args(Method))


def test_the_microscope_may_be_called_optics_or_microscope(tmp_path):
    named = {"method": "serenet", "microscope": "nnum15", "data": {"simulated": 1}}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(named))
    assert load_settings(str(path)).model_dump()["optics"] == "nnum15"
    path.write_text(yaml.safe_dump({**named, "optics": "nnum13"}))
    with pytest.raises(UserError, match="microscope: unknown key"):
        load_settings(str(path))


SMALL = {
    "optics": "nnum13",
    "depths": 3,
    "psf_size": 9,
    "crop": 9,
    "perceptual": {"weight": 0},
    "data": {"simulated": 2, "repeat": 3},
    "validation": {"simulated": 1},
}
MINE = {
    "magnification": 20,
    "numerical_aperture": 0.5,
    "refractive_index": 1,
    "wavelength_um": 0.525,
    "microlens_pitch_um": 125,
    "microlens_focal_length_um": 2500,
    "n_num": 5,
}
ALONE = World(0, 1, torch.device("cpu"))


def build(tmp_path, method, **changes):
    settings = TrainingSettings.model_validate({"method": method, **SMALL, **changes})
    return build_recipe(settings, "my.yaml", tmp_path, ALONE, resume=False)


def test_scenes_to_judge_by_are_others_than_those_to_learn_from(tmp_path):
    recipe = build(tmp_path, "renet")
    assert (len(recipe.data), len(recipe.validation), recipe.n_samples) == (2, 1, 6)
    names = {
        part: sorted(p.name for p in (tmp_path / "simulated" / part / "volumes").iterdir())
        for part in ("training", "validation")
    }
    assert names == {
        "training": ["scene0001.tif", "scene0002.tif"],
        "validation": ["scene10001.tif"],
    }


@pytest.mark.parametrize(
    ("method", "n_views", "taught", "judged"),
    [
        ("serenet", 49, False, True),
        ("renet", 49, True, True),
        ("hylfmnet", 169, True, True),
        ("rlnet", 49, True, True),
        ("vsnet", 169, False, False),
    ],
)
def test_each_method_gets_its_views_and_volumes(tmp_path, method, n_views, taught, judged):
    small = {"vsnet": {"K": 1, "n_block": 1, "channels": 4}}
    recipe = build(tmp_path, method, network=small.get(method, {}))
    assert len(recipe.microscope.views) == n_views
    assert recipe.data.views(0, (0, 0)).shape == (n_views, 9, 9)
    assert (recipe.data.paired, recipe.validation.paired) == (taught, judged)
    assert len(recipe.microscope.depths_um) == 3


def test_motion_is_learnt_from_the_central_view(tmp_path):
    recipe = build(tmp_path, "twnet", network={"channels": [4, 4, 8]})
    assert recipe.n_samples == 6
    assert recipe.sample(0, np.random.default_rng(0)).view.shape == (9, 9)
    with pytest.raises(UserError, match="crop 10: twnet needs a multiple of 3"):
        build(tmp_path, "twnet", network={"channels": [4, 4, 8]}, crop=10)


def test_a_microscope_is_the_same_wherever_it_is_named_from(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINE))
    monkeypatch.chdir(tmp_path)
    relative, absolute = (
        load_settings("my_microscope", name) for name in ("mine.yaml", str(tmp_path / "mine.yaml"))
    )
    assert relative == absolute
    assert load_settings("my_microscope", "nnum15").optics == "nnum15"


@pytest.mark.parametrize("scanning", [1, 3])
def test_the_preset_for_any_microscope_fits_scanned_ones_and_others(tmp_path, scanning):
    optics = tmp_path / "mine.yaml"
    depths = {"first": -8, "last": 8, "count": 9}
    mine = {**MINE, "scanning": scanning, "depths_um": depths}
    optics.write_text(yaml.safe_dump(mine))
    settings = load_settings("my_microscope", str(optics))
    few = [
        data.model_copy(update={"simulated": 1}) for data in (settings.data, settings.validation)
    ]
    settings = settings.model_copy(update={"data": few[0], "validation": few[1]})
    recipe = build_recipe(settings, "my_microscope", tmp_path, ALONE)
    window = recipe.sample(0, np.random.default_rng(0))
    (loss,) = recipe.losses(recipe.model, [window]).values()
    assert 0 < loss.item() < 10


def test_a_network_begins_by_the_seed_of_the_run(tmp_path):
    first, same, other = (
        next(build(tmp_path, "renet", seed=seed).model.parameters()) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_fault_of_the_network_names_the_settings(tmp_path):
    with pytest.raises(UserError, match=r"^my\.yaml: network: "):
        build(tmp_path, "vsnet", network={"K": 0})
