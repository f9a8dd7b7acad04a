"""Checkpoints: this project's own, and what is refused."""

import pickle

import pytest
import torch

from scopekit.errors import UserError
from serenet import build_model, load_checkpoint, load_published_state, save_checkpoint

NAMES = ("serenet", "serenetup5", "fserenet")


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def published_names(model):
    """The published names of a serenet's parameters, from their order."""
    layers = (0, 2, 4, 6, 9, 11, 14, 16, 18)
    names = [f"fusion.{i}.{kind}" for i in layers for kind in ("weight", "bias")]
    return dict(zip(names, (t.clone() for t in model.state_dict().values()), strict=True))


def as_published(model, **changes):
    return {
        "model": {
            "name": "serenet",
            "args": {"inChannels": model.n_views, "reset_param": False},
            "sd": published_names(model),
        }
        | changes,
        "optimizer": {"name": "adam", "args": {"lr": 1e-4}},
        "epoch": 800,
    }


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_come_back(tmp_path, random_model, name):
    model = random_model(name, inChannels=5)
    save_checkpoint(tmp_path / "own.pth", model)
    again = load_checkpoint(tmp_path / "own.pth")
    assert not again.training
    assert again.method == model.method
    inputs = torch.rand(1, 5, 4, 6, 5)
    with torch.no_grad():
        assert torch.allclose(again(inputs, 4.3), model(inputs, 4.3), rtol=1e-5)
    # Saving what was loaded gives the same again.
    save_checkpoint(tmp_path / "again.pth", again)
    states = [
        torch.load(tmp_path / f, weights_only=True)["state"] for f in ("own.pth", "again.pth")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_saving_does_not_overwrite(tmp_path):
    model = build_model("serenet", inChannels=3)
    save_checkpoint(tmp_path / "a.pth", model)
    before = (tmp_path / "a.pth").read_bytes()
    with pytest.raises(UserError, match=r"a\.pth exists"):
        save_checkpoint(tmp_path / "a.pth", build_model("serenet", inChannels=4))
    assert (tmp_path / "a.pth").read_bytes() == before
    save_checkpoint(tmp_path / "a.pth", build_model("serenet", inChannels=4), overwrite=True)
    assert load_checkpoint(tmp_path / "a.pth").n_views == 4


def test_published_layout_loads_ready_to_use(tmp_path, random_model):
    model = random_model("serenet", inChannels=3)
    torch.save(as_published(model), tmp_path / "published.pth")
    loaded = load_checkpoint(str(tmp_path / "published.pth"))
    assert not loaded.training
    inputs = torch.rand(1, 3, 4, 5, 6)
    with torch.no_grad():
        assert torch.allclose(loaded(inputs, 4.0), model(inputs, 4.0), rtol=1e-5)


def published_vsnet(model):
    """Return a vsnet's parameters as they are published: their names, no network's name beside."""
    pairs = {
        "first_angular.": "AM_FE.",
        "first_field.": "LF_FE.",
        "first_spatial.": "SA_FE.",
        "finer.": "upsampling.PreConv.",
        "last.": "upsampling.FinalConv.",
        "joined_spatial.": "fusion.sa_fusion.0.",
        "joined_angular.": "fusion.am_fusion.0.",
        "angular_to_field.conv.": "fusion.am_fusion.2.",
        "joined.": "fusion.final_fusion.0.",
    }
    inside = {
        "spatial": "sa_Conv",
        "spatial_joined": "sa_Conv2",
        "angular": "am_Conv",
        "angular_joined": "am_Conv2",
        "field": "lf_Conv",
        "field_joined": "lf_Conv2",
        "field_to_angular": "lf_am_conv",
        "angular_to_field.conv": "am_lf_conv.0",
    }
    state = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("groups."):
            _, group, block, rest = name.split(".", 3)
            place = f"cas_interaction.body.{group}.chained_blocks.{block}."
            published = place + inside[rest.removesuffix(".weight")] + ".weight"
        else:
            (start,) = (own for own in pairs if name.startswith(own))
            published = pairs[start] + name.removeprefix(start)
        state[published] = tensor.clone()
    return state


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_vsnet_is_told_by_its_parameters_alone(tmp_path, prefix):
    arguments = {"angRes": 5, "K": 3, "n_block": 2, "channels": 6, "upscale_factor": 4}
    model = build_model("vsnet", **arguments).eval()
    state = {prefix + name: t for name, t in published_vsnet(model).items()}
    torch.save({"epoch": 51, "state_dict": state}, tmp_path / "vsnet.pth")
    loaded = load_checkpoint(tmp_path / "vsnet.pth")
    assert (loaded.published_name, loaded.published_args) == ("vsnet", arguments)
    views = torch.rand(1, 25, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(views), model(views))


@pytest.mark.parametrize(
    "spoil",
    [
        dict.clear,
        lambda s: s.pop("AM_FE.weight"),
        lambda s: s.pop("upsampling.PreConv.weight"),
        lambda s: s.update({"AM_FE.weight": 3}),
    ],
)
def test_parameters_of_no_known_network_are_refused(tmp_path, spoil):
    state = published_vsnet(build_model("vsnet", angRes=5, K=1, n_block=1, channels=4))
    spoil(state)
    torch.save({"state_dict": state}, tmp_path / "vsnet.pth")
    with pytest.raises(UserError, match=r"vsnet\.pth: .* not those of a vsnet"):
        load_checkpoint(tmp_path / "vsnet.pth")


def test_older_pytorch_files_load(tmp_path, random_model):
    model = random_model("serenet", inChannels=3)
    path = tmp_path / "old.pth"
    torch.save(as_published(model), path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path).n_views == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 3}, "not a checkpoint of a reconstruction network"),
        ([1, 2], "not a checkpoint of a reconstruction network"),
        (torch.ones(3), "not a checkpoint of a reconstruction network"),
        ({"model": {}}, "not a checkpoint of a reconstruction network"),
        ({"model": torch.ones(2)}, "not a checkpoint of a reconstruction network"),
        ({"model": {"name": "serenet", "args": {}}}, "not a checkpoint"),
        ({"model": {"name": "serenet", "args": 5, "sd": {}}}, "not a checkpoint"),
        ({"model": {"name": "serenet", "args": {}, "sd": None}}, "not a checkpoint"),
        ({"model": {"name": "serenet", "args": {}, "sd": {1: 2}}}, "not a checkpoint"),
        ({"model": {"name": ["a"], "args": {}, "sd": {}}}, "not a checkpoint"),
        ({"model": {"name": "vdsr", "args": {}, "sd": {}}}, "unknown model 'vdsr'"),
        ({"model": {"name": "serenet", "args": {"depth": 3}, "sd": {}}}, "'depth'"),
        ({"model": {"name": "serenet", "args": {"inChannels": "49"}, "sd": {}}}, "inChannels"),
        ({"model": {"name": "serenet", "args": {"inChannels": -4}, "sd": {}}}, "inChannels"),
        ({"model": {"name": "serenet", "args": {"inChannels": 2.5}, "sd": {}}}, "inChannels"),
        ({"model": {"name": "serenet", "args": {"inChannels": 10**12}, "sd": {}}}, "inChannels"),
        (
            {"model": {"name": "serenet", "args": {"negative_slope": "a"}, "sd": {}}},
            "negative_slope",
        ),
        ({"model": {"name": "serenet", "args": {"usingbias": None}, "sd": {}}}, "usingbias"),
        ({"model": {"name": "serenet", "args": {}, "sd": {}}}, "18 missing"),
        ({"prev0.conv.weight": torch.ones(3), "a": torch.ones(())}, "not a checkpoint"),
        ({"format": "serenet checkpoint 1"}, "not a checkpoint of a reconstruction network"),
        ({"format": "serenet checkpoint 1", "name": "serenet", "args": {}, "state": 3}, "not a"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, content, reason):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(UserError) as failure:
        load_checkpoint(path)
    assert str(failure.value).startswith(str(path))
    assert reason in str(failure.value)


def wrong_shape(state):
    state["fusion.2.weight"] = state["fusion.2.weight"][:, :-1]


def unknown_name(state):
    state["fusion.30.weight"] = torch.ones(1)


def foreign_names(state):
    state.clear()
    state["conv_init.weight"] = torch.ones(16, 9, 3, 3)


def missing_name(state):
    del state["fusion.9.bias"]


def not_a_number(state):
    state["fusion.4.bias"][3] = float("nan")


def infinite(state):
    state["fusion.4.bias"][3] = float("inf")


def not_a_tensor(state):
    state["fusion.4.bias"] = [1.0] * 32


def complex_numbers(state):
    state["fusion.4.bias"] = state["fusion.4.bias"].to(torch.complex64)


def whole_numbers(state):
    state["fusion.4.bias"] = torch.arange(32)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (wrong_shape, "(32, 63, 3, 3, 3), expected (32, 64, 3, 3, 3)"),
        (unknown_name, "fusion.30.weight"),
        (foreign_names, "conv_init.weight"),
        (missing_name, "1 missing"),
        (not_a_number, "NaN"),
        (infinite, "NaN or infinite"),
        (not_a_tensor, "expected (32,)"),
        (complex_numbers, "complex64, not real numbers"),
        (whole_numbers, "int64, not real numbers"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, random_model, spoil, reason):
    model = random_model("serenet", inChannels=3)
    content = as_published(model)
    spoil(content["model"]["sd"])
    with pytest.raises(UserError) as failure:
        load_published_state(build_model("serenet", inChannels=3), content["model"]["sd"])
    assert reason in str(failure.value)
    torch.save(content, tmp_path / "spoilt.pth")
    with pytest.raises(UserError, match=r"spoilt\.pth"):
        load_checkpoint(tmp_path / "spoilt.pth")


def test_weights_of_half_precision_are_read_as_float32(tmp_path, random_model):
    content = as_published(random_model("serenet", inChannels=3))
    state = {key: t.half() for key, t in content["model"]["sd"].items()}
    content["model"]["sd"] = state
    torch.save(content, tmp_path / "half.pth")
    loaded = load_checkpoint(tmp_path / "half.pth")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_does_not_run(tmp_path, protocol):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    for content in (Runs(trace), {"model": {"name": "serenet", "args": {}, "sd": Runs(trace)}}):
        torch.save(content, path, pickle_protocol=protocol)
        with pytest.raises(UserError, match=r"evil\.pth") as failure:
            load_checkpoint(path)
        # PyTorch's safe reader stops at protocol 4 before it sees the code.
        assert protocol == 4 or "could run code" in str(failure.value)
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UserError, match=r"evil\.pth"):
            load_checkpoint(path)
    assert not trace.exists()


def test_damaged_files_are_refused(tmp_path, weights):
    whole = weights["serenet"].read_bytes()
    path = tmp_path / "cut.pth"
    for content in (whole[: len(whole) // 2], whole[:-1], whole[:30], b"", b"text\n", whole[1:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cut\.pth: not a PyTorch file, or damaged"):
            load_checkpoint(path)


def test_missing_files_are_named(tmp_path):
    for path in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(UserError, match=r"no such file; .* that ship: demo, .*demo_twnet"):
            load_checkpoint(path)


def test_unknown_models_list_the_known_ones():
    with pytest.raises(UserError, match=r"'sernet'.*serenet.*serenetup5.*fserenet"):
        build_model("sernet")
