"""``tenet train-aligner``, and which network aligns what a configuration is for."""

import numpy as np
import pytest
import torch

import tenet as package
from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import align, alignment_file, alignment_of, load_alignment
from tenet.config.files import load_config
from tenet.data.small_phantom import tubes_and_solids
from tenet.training.aligner import train_aligner

CPU = "cpu"


@pytest.fixture
def shaken_config(work, write_config):
    """A configuration whose labels are large enough, and whose slices are displaced."""

    def make(**changes):
        limits = {"min": 0, "max": 2}
        vibration = {"max_step": 2, "amp_alpha": limits, "omega_alpha": limits}
        return write_config("tuned", **{"vibration": vibration, **wide, **changes})

    wide = {}
    for name in ("pretrain_dataset", "pretrain_val_dataset"):
        wide |= {f"{name}__folderpath": "wide", f"{name}__size": [24, 84, 84]}
    (work / "wide").mkdir()
    for n in range(3):
        for kind, label in zip("xz", tubes_and_solids(n, (24, 84, 84)), strict=True):
            np.save(work / "wide" / f"{n:04d}_label{kind}.npy", label[None])
    return make


def test_the_command_leaves_a_network_that_aligns(tenet, work, shaken_config, capsys):
    path = shaken_config(align_model="mine")
    done = tenet("train-aligner", path, "--epochs", 2, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "model/mine.pt: the best network" in done.stderr
    assert {"network", "arguments", "state"} == set(read_checkpoint(work / "model" / "mine.pt"))
    history = read_checkpoint(work / "train" / "mine" / "checkpoints" / "last.pt")
    rows = history["training"]["history"]
    residuals = [row["residual"] for row in rows if "residual" in row]
    assert residuals
    assert min(residuals) > 0
    trained = load_alignment(work / "model" / "mine.pt")
    torch.manual_seed(0)
    untrained = DeepAlignNet().state_dict()
    assert any(not torch.equal(t, untrained[n]) for n, t in trained.state_dict().items())

    stack = np.random.default_rng(0).random((6, 40, 40), np.float32)
    found = alignment_of(load_config(path))
    np.testing.assert_allclose(align(stack, found)[1], align(stack, trained)[1])
    assert "slices are aligned by model/mine.pt" in capsys.readouterr().err
    results = [
        package.MicrogliaInference(path, with_align=wanted, device=CPU).get_result("stacks", 1)[0]
        for wanted in (False, True)
    ]
    expected = align(results[0].image, trained)[0].clip(0, 1)
    np.testing.assert_allclose(results[1].image, expected, atol=1e-6)

    refused = tenet("train-aligner", path, "--device", "cpu")
    assert refused.returncode == 2
    assert "model/mine.pt" in refused.stderr
    assert "--overwrite" in refused.stderr


@pytest.mark.parametrize("mode", ["pixel", "perceptual", "segmentation"])
def test_every_loss_mode_may_be_chosen(work, shaken_config, mode):
    config = load_config(shaken_config(pretrain_dataset__I=2))
    path = train_aligner(config, loss_modes=(mode,), epochs=1, device=CPU)
    assert path == alignment_file(config)
    assert path.name == "small_align.pt"
    last = read_checkpoint(work / "train" / "small_align" / "checkpoints" / "last.pt")
    assert last["training"]["history"][0][f"loss_{mode}"] > 0


def test_what_is_missing_is_told(work, shaken_config, write_config):
    with pytest.raises(UserError, match="loss mode shfit; allowed: shift, pixel, perceptual"):
        train_aligner(shaken_config(), loss_modes=("shfit",), device=CPU)
    (work / "model" / "small.pt").unlink()
    with pytest.raises(UserError, match="run tenet pretrain first"):
        train_aligner(shaken_config(), loss_modes=("perceptual",), device=CPU)
    with pytest.raises(UserError, match="labels of at least 80 x 80 pixels"):
        train_aligner(write_config("tuned"), device=CPU)
    assert not (work / "train").exists()


def test_a_network_of_another_kind_is_told_and_not_used(work, shaken_config, capsys):
    config = load_config(shaken_config(align_model="other", align_params={"mid": 20}))
    shipped = load_alignment().state_dict()
    for state in (None, {"weight": torch.ones(1)}):
        if state:
            torch.save(state, work / "model" / "other.pt")
        found = alignment_of(config).state_dict()
        assert all(torch.equal(tensor, shipped[name]) for name, tensor in found.items())
        told = capsys.readouterr().err
        assert "model/other.pt: " in told
        assert "slices are aligned by the network that ships" in told
        assert told.count("align_params has no effect") == 1
