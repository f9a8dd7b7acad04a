"""Configurations: published files, comments, names, and what is said of wrong ones."""

import json

import pytest

from scopekit.errors import UserError
from scopekit.settings import shipped_configs
from tenet.config.files import load_config
from tenet.config.loops import PretrainLoop, TrainLoop


def test_published_keys_of_the_aligner_are_accepted(write_config):
    keys = {"align_model": "JNet_align", "align_params": {"hidden_channels_list": [8, 16]}}
    assert load_config(write_config(**keys)).align_model == "JNet_align"
    assert load_config(write_config(align_model=None, align_params=None)).align_model is None


def test_the_published_file_loads_unchanged(reference):
    config = load_config(reference / "data" / "published" / "JNet_beads.json")
    assert config.name == "JNet_beads"
    assert config.pretrained_model == "JNet_pretrain"
    assert config.params.hidden_channels_list == (16, 32, 64, 128, 256)
    assert (config.params.NA, config.params.ti0, config.params.photons) == (0.7, 150, 1)
    assert config.section("train_loop", TrainLoop).ewc
    assert not config.section("pretrain_loop", PretrainLoop).ewc
    assert config.pretrain_val_dataset.mask_num == 0  # false there
    assert config.train_dataset.image_crop == (24, 112, 112)
    assert config.vibration.noise_inv_var_alpha.max == 10


def test_keys_with_a_dollar_are_comments(write_config):
    path = write_config(
        params__note="x", **{"$explanation": 3, "pre$train": [1], "params__$scale": 1}
    )
    content = json.loads(path.read_text())
    del content["params"]["note"]
    path.write_text(json.dumps(content))
    assert load_config(path).params.scale == 4


def test_a_name_is_looked_up(write_config, tmp_path, monkeypatch):
    folder = tmp_path / "experiments" / "configs"
    folder.mkdir(parents=True)
    write_config("mine").rename(folder / "mine.json")
    monkeypatch.chdir(tmp_path)
    assert load_config("mine").name == "mine"
    with pytest.raises(UserError, match=r"yours: no such file, nor experiments.configs.yours.json"):
        load_config("yours")
    with pytest.raises(UserError, match=r"some/where: no such file; give the path"):
        load_config("some/where")


@pytest.mark.parametrize("name", shipped_configs("tenet"))
def test_what_ships_loads(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name).name == name


def test_the_demo_needs_no_files_to_pretrain():
    config = load_config("demo")
    assert config.scenes is not None
    assert config.pretrain_loop.recipe == config.train_loop.recipe == "fast"
    assert config.params.any_scale
    made = config.simulation_data_generation
    labels = (config.pretrain_dataset, config.pretrain_val_dataset)
    assert {data.folderpath for data in labels} == {made.dataset_name}
    assert [(data.low, data.high) for data in labels] == [(0, 12), (12, 16)]
    assert (made.train_num, made.valid_num) == (12, 4)


def test_losses_are_names_with_or_without_their_module(write_config):
    config = load_config(write_config(pretrain_loop__loss_fnx="torch.nn.MSELoss( )"))
    assert config.pretrain_loop.loss_fnx == "nn.MSELoss()"


WRONG = {
    "an unknown section": ({"trian_loop": {}}, "trian_loop: unknown key; known are name, expl"),
    "an unknown key": ({"params__scales": 4}, "params.scales: unknown key; known are hidden_ch"),
    "a section that is none": ({"params": 3}, r"params: expected 'name: value' lines \(now 3\)"),
    "a whole number": (
        {"params__scale": 0},
        r"params.scale: allowed: a whole number, 1 or more \(now 0\)",
    ),
    "a text for a number": (
        {"params__scale": "4"},
        r"params.scale: allowed: a whole number, 1 or more \(now '4'\)",
    ),
    "true for a number": (
        {"params__nblocks": True},
        r"params.nblocks: allowed: a whole number, 1 or more \(now True\)",
    ),
    "a number for true": (
        {"params__superres": 1},
        r"params.superres: allowed: true or false \(now 1\)",
    ),
    "a probability": (
        {"params__dropout": 1.0},
        r"params.dropout: allowed: a number from 0 to below 1 \(now 1.0\)",
    ),
    "a kind of PSF": (
        {"params__blur_mode": "airy"},
        r"params.blur_mode: allowed: gibsonlanni or gaussian \(now 'airy'\)",
    ),
    "photons": ({"params__photons": 3}, r"params.photons: allowed: 1 or 2 \(now 3\)"),
    "code for a loss": (
        {"pretrain_loop__loss_fnx": "__import__('os').system('true')"},
        r"pretrain_loop.loss_fnx: allowed: nn.BCELoss\(\) or nn.MSELoss\(\).*\(now .__import__",
    ),
    "an activation": (
        {"params__activation": "nn.Tanh()"},
        r"params.activation: allowed: nn.ReLU\(inplace=True\) or nn.ReLU\(\) \(now 'nn.Tanh",
    ),
    "a number that is none": (
        {"pretrain_loop__lr": float("nan")},
        r"pretrain_loop.lr: allowed: a number above 0 \(now nan\)",
    ),
    "a size": (
        {"train_dataset__size": [10, 20]},
        r"train_dataset.size: allowed: three whole numbers \[Z, Y, X\], each 1 or more",
    ),
    "a negative side": (
        {"train_dataset__mask_size": [1, -3, 3]},
        r"train_dataset.mask_size: allowed: three whole numbers \[Z, Y, X\]",
    ),
    "a crop beyond the volume": (
        {"train_dataset__cropsize": [16, 21, 16]},
        r"train_dataset: cropsize is \[16, 21, 16\]; allowed: Y up to that of size \(20\)",
    ),
    "a crop that scale does not divide": (
        {"train_dataset__cropsize": [18, 16, 16]},
        r"train_dataset: cropsize is \[18, 16, 16\]; allowed: Z a multiple of scale \(4\)",
    ),
    "an empty range": (
        {"pretrain_dataset__low": 2},
        r"pretrain_dataset: low is 2; allowed: a whole number below high \(2\)",
    ),
    "a missing key": (
        {"train_loop": {"lr": 1.0}},
        r"train_loop.n_epochs: missing; allowed: a whole number, 1 or more",
    ),
    "a model in a folder": (
        {"pretrained_model": "a/b"},
        r"pretrained_model: allowed: a file's stem, without a folder \(now 'a/b'\)",
    ),
    "another scale": (
        {"params__scale": 2},
        r"pretrain_dataset.scale is 4; allowed: that of params \(2\)",
    ),
    "an NA beyond the immersion": (
        {"params__NA": 1.4},
        r"params: NA is 1.4; allowed: a number below ni0 \(1.33\)",
    ),
    "attention of another length": (
        {"params__attn_list": [False]},
        "params: attn_list has 1 entries, hidden_channels_list 2; allowed: as many",
    ),
    "EWC before anything is learnt": (
        {"pretrain_loop__ewc": True},
        "pretrain_loop: ewc is true; allowed: false or null",
    ),
    "no reconstruction": (
        {"train_loop__reconstruct": False},
        "train_loop: reconstruct is false; allowed: true",
    ),
    "a range upside down": (
        {"vibration__amp_alpha": {"min": 2, "max": 1}},
        r"vibration.amp_alpha: min is 2; allowed: up to max \(1\)",
    ),
    "validation files for training": (
        {"train_dataset__train": False},
        "train_dataset.train is false; allowed: true",
    ),
    "a weight of the field": (
        {"train_loop__mrfloss_weights": {"l_00": "much"}},
        r"train_loop.mrfloss_weights.l_00: allowed: a number \(now 'much'\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_ones_are_told_in_one_message(write_config, case):
    changes, message = WRONG[case]
    path = write_config(**changes)
    with pytest.raises(UserError, match=message) as failure:
        load_config(path)
    assert str(failure.value).startswith(f"{path}: ")
    assert "\n" not in str(failure.value)
    assert len(str(failure.value)) < 2500


def test_every_fault_is_told_at_once(write_config):
    path = write_config(params__scale=0, pretrain_loop__lr=-1, train_loop__n_epochs=1.5)
    with pytest.raises(UserError) as failure:
        load_config(path)
    for key in ("params.scale", "pretrain_loop.lr", "train_loop.n_epochs"):
        assert key in str(failure.value)


@pytest.mark.parametrize("text", ["{", "[1]", '{"params": {'])
def test_what_is_no_json_object_is_told(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken.json: (not valid JSON|expected an object)"):
        load_config(path)


def test_a_missing_section_is_told_where_it_is_needed(write_config):
    path = write_config()
    content = json.loads(path.read_text())
    del content["train_loop"]
    path.write_text(json.dumps(content))
    config = load_config(path)
    with pytest.raises(UserError, match=r"small\.json: the section train_loop is missing"):
        config.section("train_loop", TrainLoop)
