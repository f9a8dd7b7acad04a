"""Files of weights: which is meant, what network it is of, and what it tells."""

from pathlib import Path

import pytest
import torch

from scopekit.errors import UserError
from tenet.config.files import SHIPPED, load_config
from tenet.network.jnet import JNet
from tenet.network.weights import (
    best_weights,
    load_evaluated,
    load_model,
    moments_file,
    read_consolidation,
    weights_file,
    weights_of,
)
from tenet.training.pretraining import pretrain


def test_a_name_with_a_folder_is_no_name_of_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    shipped = SHIPPED / "demo_pretrain.pt"
    assert weights_file("demo_pretrain") == shipped
    assert str(weights_file("mine/demo_pretrain")) == "mine/demo_pretrain"
    (tmp_path / "mine" / "demo_pretrain.pt").touch()
    assert str(weights_file("mine/demo_pretrain")) == "mine/demo_pretrain.pt"
    assert str(weights_file("mine/demo_pretrain.pt")) == "mine/demo_pretrain.pt"
    (tmp_path / "demo_pretrain").mkdir()  # of results, say
    assert weights_file("demo_pretrain") == shipped
    (tmp_path / "demo_pretrain.pt").touch()
    assert str(weights_file("demo_pretrain")) == "demo_pretrain.pt"
    (tmp_path / "epoch.3").touch()
    assert str(weights_file("epoch.3")) == "epoch.3"


def test_which_of_two_weights_of_a_name_are_taken_is_told(tmp_path, monkeypatch, capsys):
    """A copy of the configuration that ships leaves weights of the name of those that ship."""
    monkeypatch.chdir(tmp_path)
    shipped = weights_file("demo_pretrain")
    assert capsys.readouterr().err == ""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "demo_pretrain.pt").touch()
    assert weights_file("demo_pretrain") == shipped
    told = f"those trained here are {Path('model', 'demo_pretrain.pt')}"
    assert told in capsys.readouterr().err.replace("\n", " ")


def test_a_network_of_the_other_program_is_told(tmp_path):
    path = tmp_path / "best.pt"
    torch.save({"method": "serenet", "state": {"coarse.weight": torch.zeros(3)}}, path)
    with pytest.raises(UserError, match=r"best\.pt: a network of serenet \(serenet\), for light"):
        load_model(path, "demo")


def test_commands_take_ones_own_weights_of_a_name_that_ships(tenet, work):
    (work / "mine").mkdir()
    own = work / "model" / "tuned.pt"
    own.rename(work / "mine" / "demo_pretrain.pt")
    options = ("--config", "tuned.json", "--checkpoint", "mine/demo_pretrain", "--device", "cpu")
    done = tenet("enhance", "stacks/s00.npy", *options, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "checkpoint: mine/demo_pretrain.pt" in (work / "out" / "s00_tenet.yaml").read_text()
    done = tenet("evaluate", "microglia", "stacks/s00.npy", *options, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "weights: mine/demo_pretrain.pt" in (work / "out" / "microglia.yaml").read_text()
    lost = tenet("enhance", "stacks/s00.npy", *options[:3], "yours/demo_pretrain", "--out", "new")
    assert lost.returncode == 2
    assert lost.stderr.startswith("error: yours/demo_pretrain: no such file")


def same(a, b):
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


def published_finetuned(path, separator="__"):
    """Write weights as published fine-tuning with EWC leaves them: two buffers a parameter."""
    state = torch.load(path, weights_only=True)
    model = JNet(load_config("tuned.json").params)
    for name, parameter in model.named_parameters():
        place = name.replace(".", separator)
        state[f"{place}_estimated_mean"] = torch.zeros_like(parameter)
        state[f"{place}_estimated_fisher"] = torch.ones_like(parameter)
    torch.save(state, path)


@pytest.mark.parametrize("separator", ["__", "_", "."])
def test_published_weights_with_what_ewc_keeps_load_without_it(work, separator):
    path = work / "model" / "tuned.pt"
    plain = load_model(path, "tuned.json")
    published_finetuned(path, separator)
    assert same(load_model(path, "tuned.json"), plain)
    kept = read_consolidation(path, plain)
    network = plain.network_parameters()
    assert list(kept.means) == list(kept.fisher) == list(network)
    assert all(bool((kept.fisher[name] == 1).all()) for name in network)
    assert read_consolidation(work / "model" / "small.pt", plain) is None


def test_what_else_a_checkpoint_holds_is_told(work):
    path = work / "model" / "tuned.pt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"postx__other_estimated_mean": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"1 are unknown \(postx__other_estimated_mean\)"):
        load_model(path, "tuned.json")
    torch.save(state | {"prev0__conv__bias_estimated_mean": torch.zeros(4)}, path)
    with pytest.raises(UserError, match="keeps nothing for EWC of"):
        read_consolidation(path, load_model(path, "tuned.json"))
    torch.save(state | {"prev0__conv__bias_estimated_mean": torch.zeros(5)}, path)
    with pytest.raises(UserError, match=r"of prev0\.conv\.bias is \(5,\), not \(4,\)"):
        read_consolidation(path, load_model(path, "tuned.json"))


def test_fine_tuned_weights_quantise_whatever_the_file_says(work, capsys):
    config = load_config("tuned.json")
    models = work / "model"
    for name in ("tuned_cv_2", "other", "ewc"):
        (models / f"{name}.pt").write_bytes((models / "tuned.pt").read_bytes())
    published_finetuned(models / "ewc.pt")
    expected = {"tuned": True, "tuned_cv_2": True, "ewc": True, "small": False, "other": False}
    for name, quantised in expected.items():
        params = load_evaluated(models / f"{name}.pt", config, threshold=0.4).params
        assert (params.apply_vq, params.use_x_quantized) == (quantised, quantised), name
        assert params.threshold == 0.4
        told = capsys.readouterr().err.count("apply_vq and use_x_quantized count as true")
        assert told == quantised, name
    # Weights of our own tell how they were trained.
    quantising = {**config.params.model_dump(mode="json"), "use_x_quantized": True}
    torch.save({"moments": {}, "params": quantising}, moments_file(models / "other.pt"))
    assert load_evaluated(models / "other.pt", config).params.use_x_quantized


def test_weights_that_ship_tell_their_configuration():
    model = load_model("demo_pretrain")
    assert not model.training
    assert model.params == load_config("demo").params
    assert same(model, load_model(SHIPPED / "demo_pretrain.pt", "demo"))


def test_own_weights_tell_their_configuration(work, write_config):
    write_config("other", pretrained_model="other", params__threshold=0.7)
    path = pretrain("other.json", device="cpu")
    given = load_model(path, "other.json")
    for file in (path, "train/other/checkpoints/best.pt"):
        told = load_model(file)
        assert told.params.threshold == 0.7
        assert same(told, given)
    assert all(isinstance(t, torch.Tensor) for t in torch.load(path, weights_only=True).values())
    moments_file(path).unlink()
    with pytest.raises(UserError, match=r"other\.pt: tells no configuration; give it too"):
        load_model(path)
    content = torch.load("train/other/checkpoints/best.pt", weights_only=True)
    content["params"]["unheard_of"] = 1
    torch.save(content, "newer.pt")
    with pytest.raises(UserError, match=r"newer\.pt: tells a configuration that this version"):
        load_model("newer.pt")


def test_a_configuration_can_be_itself_a_path_or_a_section(work):
    config = load_config("tuned.json")
    torch.manual_seed(1)
    model = JNet(config.params)
    torch.save({"state": model.state_dict(), "epoch": 3}, "mine.pt")
    for given in (config, config.params, "tuned.json", work / "tuned.json"):
        assert same(load_model("mine.pt", given), model)
    torch.save([1, 2], "list.pt")
    with pytest.raises(UserError, match=r"list\.pt: not a checkpoint of this network"):
        load_model("list.pt", config)


def test_fine_tuned_weights_come_first(work, capsys):
    config = load_config("tuned.json")
    assert best_weights(config).name == "tuned.pt"
    assert weights_of(config, pretrained=True).name == "small.pt"
    (work / "model" / "tuned.pt").unlink()
    assert best_weights(config).name == "small.pt"
    assert "no fine-tuned weights" in capsys.readouterr()[1]
    with pytest.raises(UserError, match="run tenet finetune tuned first"):
        weights_of(config, pretrained=False)


def test_a_models_microscope_and_parts(work):
    config = load_config("tuned.json")
    model = load_model("model/tuned.pt", config)
    assert model.voxel_um == pytest.approx((0.2, 0.2, 0.2))
    assert model.recorded_voxel_um == pytest.approx((0.8, 0.2, 0.2))
    names = set(model.network_parameters())
    learnable = {name for name, p in model.named_parameters() if p.requires_grad}
    imaging = {n for n in learnable if n in ("a", "sigma") or n.startswith("image.")}
    assert names == learnable - imaging
    model.freeze_network()
    assert {n for n, p in model.named_parameters() if p.requires_grad} == imaging
    model.freeze_microscope()
    assert not any(p.requires_grad for p in model.parameters())
    assert model.microscope(noisy=False).noisy is False
