"""What runs hand to the training loop, and what they judge by."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from scopekit.settings import read_yaml
from scopekit.training.plateau import Plateau
from tenet.config.files import load_config
from tenet.config.sections import LabelCrops
from tenet.data.crops import PhantomCrops
from tenet.network.jnet import JNet
from tenet.training import finetuning, runs
from tenet.training.finetuning import FinetuneOptions, Finetuning, finetune, make_recipe
from tenet.training.modes import Mode
from tenet.training.pretraining import Pretraining, pretrain


class StopError(Exception):
    """Ends a run before it learns anything."""


@dataclass
class Asked:
    """What the training loop was asked for."""

    recipe: object = None
    loop: object = None
    moments: object = None
    names: list = field(default_factory=list)


@pytest.fixture
def asked(work, monkeypatch):
    """Return what `train` is called with; it does nothing."""
    found = Asked()

    def train(recipe, loop, folder, world, last, moments, timetable):
        found.recipe, found.loop, found.moments = recipe, loop, moments
        raise StopError

    monkeypatch.setattr(runs, "train", train)
    return found


def test_fine_tuning_clips_gradients_to_1_and_pretraining_does_not(
    asked, write_config, monkeypatch
):
    write_config("tuned", train_loop__es_patience=7, train_loop__lr=2e-3, pretrain_loop__lr=3e-3)
    with pytest.raises(StopError):
        finetune("tuned.json", mode="all", device="cpu", overwrite=True)
    assert asked.loop.clip_norm == 1
    assert asked.loop.learning_rate == 2e-3
    assert asked.loop.early_stop.patience == 7
    assert asked.loop.plateau == Plateau()
    begun = []
    monkeypatch.setattr(asked.recipe.crops, "begin_epoch", begun.append)
    asked.loop.on_epoch(2)
    assert begun == [2]
    with pytest.raises(StopError):
        pretrain("tuned.json", device="cpu", overwrite=True)
    assert asked.loop.clip_norm is None
    assert asked.loop.learning_rate == 3e-3
    assert asked.loop.batch_size == 2


def test_what_a_run_is_resumed_with_must_be_the_same(asked, work):
    wanted = {"mode": "encoder", "fold": None, "simulation": False, "align": True}
    with pytest.raises(StopError):
        finetune("tuned.json", mode="encoder", align=True, device="cpu", overwrite=True)
    settings = read_yaml(work / "train" / "tuned" / "settings.yaml")
    assert settings.items() >= wanted.items()
    assert (settings["command"], settings["epochs"], settings["seed"]) == ("finetune", 3, 0)


def test_the_fisher_information_is_of_the_whole_pretraining_or_100_batches(work, write_config):
    config = load_config(write_config("tuned", pretrain_dataset__I=7))
    assert finetuning._FISHER_BATCHES == 100
    drawn = []

    class Counted(PhantomCrops):
        def draw(self, rng):
            drawn.append(rng.bit_generator.state["state"]["state"])
            return super().draw(rng)

    data = config.section("pretrain_dataset", LabelCrops)
    crops = (Counted(data, turn=True), Counted(data, turn=False))
    model = JNet(config.params)
    finetuning._fisher(config, model, crops, 0, finetuning.World(0, 1, torch.device("cpu")))
    assert len(drawn) == 6  # three whole batches of two
    assert len(set(drawn)) == 6


@pytest.fixture
def alone():
    return finetuning.World(0, 1, torch.device("cpu"))


def test_simulated_images_are_by_the_neural_psf_that_was_learnt(work, alone):
    config = load_config("tuned.json")
    start = work / "model" / "small.pt"
    model = JNet(config.params)
    model.load_state_dict(torch.load(start, weights_only=True))
    wanted = FinetuneOptions(Mode.all, simulation=True)
    microscope = make_recipe(config, wanted, start, 0, alone)._microscope
    with torch.no_grad():
        section = model.image.eval().section()
    torch.testing.assert_close(microscope.section, section)
    assert (section - model.image.analytic).abs().max() > 0.1
    assert microscope.noisy


@pytest.fixture(params=["pretraining", "finetuning"])
def spied(work, request):
    """Return a recipe, and the crops that its validation draws."""
    config = load_config("tuned.json")
    data = config.section("pretrain_val_dataset", LabelCrops).model_copy(update={"I": 4})
    drawn = []

    class Spied(PhantomCrops):
        def draw(self, rng):
            drawn.append(super().draw(rng))
            return drawn[-1]

    torch.manual_seed(0)
    crops = Spied(data, turn=False)
    if request.param == "pretraining":
        model = JNet(config.params).eval()
        return Pretraining(model, config.pretrain_loop, crops, crops), drawn
    model = JNet(config.params.model_copy(update={"reconstruct": True})).eval()
    microscope = model.microscope()
    return Finetuning(model, config.train_loop, crops, crops, microscope=microscope), drawn


def test_validation_is_of_crops_at_places_of_their_own_always_the_same(spied):
    recipe, drawn = spied
    with torch.no_grad():
        first, again = recipe.validate(), recipe.validate()
    assert first.scores == again.scores
    assert len({crop.labelz.numpy().tobytes() for crop in drawn[:4]}) > 2
    assert len({crop.noise_seed for crop in drawn[:4]}) == 4
    assert [crop.noise_seed for crop in drawn[:4]] == [crop.noise_seed for crop in drawn[4:]]
    assert first.voxel_um == pytest.approx((0.2, 0.2, 0.2))
    batches = [recipe.batch([crop]) for crop in drawn[:4]]
    with torch.no_grad():
        terms = [recipe.terms(recipe.model(b.shown), b) for b in batches]
    losses = [float(sum(each.values())) for each in terms]
    assert first.scores["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_crops_that_validate_are_neither_turned_nor_shaken(work):
    from tenet.data.crops import label_crops

    config = load_config("tuned.json")
    training, validation = label_crops(config, vibrate=True)
    whole = np.load(work / "labels" / "0002_labelx.npy")[0]
    windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16, 16)).reshape(-1, 16, 16, 16)
    places = {window.tobytes() for window in windows}
    crops = [validation.draw(np.random.default_rng(n)) for n in range(12)]
    assert all(crop.labelx[0].numpy().tobytes() in places for crop in crops)
    assert all(crop.shifts is None for crop in crops)
    assert training.draw(np.random.default_rng(0)).shifts is not None
