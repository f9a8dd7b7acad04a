import pytest
import torch
from torch import Tensor, nn

from optics import NeuralPSF, OpticsError, fit_neural_psf, gaussian_section, gibson_lanni

from .bead_microscope import BEADS


def sections() -> dict[str, Tensor]:
    return {
        "beads": gibson_lanni(**BEADS)[0],
        "two photons": gibson_lanni(**BEADS, photons=2)[0],
        "rings": gibson_lanni(**{**BEADS, "NA": 1.0, "scale": 5})[0],
        "gaussian": gaussian_section(**BEADS, bet_xy=10, bet_z=5)[0],
        "even rows of one column": gaussian_section(
            size_x=1, size_y=1, size_z=6, res_lateral=0.1, scale=1, bet_xy=2, bet_z=2
        )[0],
    }


def mean_squared_error(neural: NeuralPSF, section: Tensor) -> float:
    with torch.no_grad():
        return float((neural() - section).square().mean())


def test_is_the_published_network() -> None:
    neural = NeuralPSF(20, 37)
    shapes = {name: tuple(value.shape) for name, value in neural.state_dict().items()}
    batch_norms = {
        f"layers.{layer}.{name}": (units,)
        for layer, units in ((0, 2), (3, 40))
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    counts = {f"layers.{layer}.num_batches_tracked": () for layer in (0, 3)}
    linear = {
        "layers.1.weight": (40, 2),
        "layers.1.bias": (40,),
        "layers.4.weight": (1, 40),
        "layers.4.bias": (1,),
    }
    assert shapes == {**batch_norms, **counts, **linear}


def test_looks_at_distances_from_focus_and_axis() -> None:
    neural = NeuralPSF(3, 5)
    z, r = neural.coordinates.view(3, 5, 2).unbind(dim=-1)
    assert z[:, 0].tolist() == [1, 0, 1]
    assert r[0].tolist() == [-1, -0.5, 0, 0.5, 1]
    neural.layers = nn.Sequential(nn.Linear(2, 1, bias=False))
    nn.init.constant_(neural.layers[0].weight, 1)
    torch.testing.assert_close(neural().detach(), z + r)


@pytest.mark.parametrize("name", sections())
@pytest.mark.parametrize("seed", [0, 1])
def test_learns_a_section_in_both_modes(name: str, seed: int) -> None:
    section = sections()[name]
    neural = NeuralPSF(*section.shape)
    fit = fit_neural_psf(neural, section, seed=seed)
    assert neural.training
    assert mean_squared_error(neural.eval(), section) == pytest.approx(fit.mse)
    assert fit.mse <= 1e-5
    assert fit.starts == 1
    assert fit.steps < 300
    in_training = NeuralPSF(*section.shape)
    in_training.load_state_dict(neural.state_dict())
    torch.testing.assert_close(in_training(), neural(), rtol=1e-4, atol=1e-5)


def test_reaches_a_tighter_target() -> None:
    section = sections()["beads"]
    neural = NeuralPSF(*section.shape)
    assert fit_neural_psf(neural, section, target=1e-6, seed=0).mse <= 1e-6


def test_same_seed_same_network_whatever_it_was_before() -> None:
    section = sections()["beads"]
    fitted = []
    for seed, start in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(start)
        neural = NeuralPSF(*section.shape).eval()
        neural.train()
        neural()  # running statistics move
        nn.init.normal_(neural.layers[3].weight)
        fit_neural_psf(neural.eval(), section, seed=seed)
        assert not neural.training
        fitted.append(neural.state_dict())
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])
    assert not torch.equal(fitted[0]["layers.1.weight"], fitted[2]["layers.1.weight"])


def test_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    section = sections()["gaussian"]
    neural = NeuralPSF(*section.shape)
    torch.set_rng_state(state)
    fit_neural_psf(neural, section, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_reach_every_parameter() -> None:
    section = sections()["beads"]
    neural = NeuralPSF(*section.shape)
    fit_neural_psf(neural, section, seed=0)
    (neural() * torch.linspace(0, 1, section.numel()).view_as(section)).sum().backward()
    for name, parameter in neural.named_parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        if name != "layers.1.bias":
            assert parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (torch.rand(5, 4), r"the section is \(5, 4\), the neural PSF \(4, 5\)"),
        (torch.full((4, 5), 1.5), "values outside 0 to 1"),
        (torch.full((4, 5), torch.nan), "values outside 0 to 1"),
        (torch.eye(4, 5), "not symmetric about the focus.* 1.0e-01 at best, not 1.0e-05"),
    ],
)
def test_sections_that_cannot_be_learned_are_refused(section: Tensor, message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        fit_neural_psf(NeuralPSF(4, 5), section, seed=0)


def test_failure_names_the_starts() -> None:
    section = sections()["rings"]
    with pytest.raises(OpticsError, match=r"not 1.0e-05, in 5 starts: give it more hidden units"):
        fit_neural_psf(NeuralPSF(*section.shape, mid=1), section, seed=0)


@pytest.mark.parametrize("sizes", [(0, 5, 40), (5, 0, 40), (5, 5, 0), (1, 1, 40)])
def test_sizes_must_make_sense(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(OpticsError, match="at least two points"):
        NeuralPSF(*sizes)
