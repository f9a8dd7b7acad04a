"""Enhancing stacks in memory: in chunks as at once."""

import pytest
import torch

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget
from tenet.config.files import SHIPPED, load_config
from tenet.data.small_phantom import tubes_and_solids
from tenet.demo import image_of
from tenet.enhancement import chunks, reimaging
from tenet.enhancement import stack as enhancement
from tenet.enhancement.plan import plan_enhancement
from tenet.enhancement.stack import enhance, expected_seconds
from tenet.network.jnet import JNet, hill
from tenet.network.weights import load_model

# Of structure and brightness, beside a seam and on average; the README tells these.
LARGEST_SEAM = 1e-3
RMS_SEAM = 1e-4


@pytest.fixture
def network(write_config):
    """Return ``network(**changes)``: a small one of random weights."""

    def make(**changes):
        torch.manual_seed(0)
        config = load_config(write_config(**{f"params__{k}": v for k, v in changes.items()}))
        return JNet(config.params).eval()

    return make


@pytest.fixture
def small(network):
    return network()


@pytest.mark.parametrize("own", [False, True])
def test_time_is_that_of_a_small_stack_times_the_voxels(demo, monkeypatch, own):
    ticks = iter((5.0, 5.5))
    monkeypatch.setattr(enhancement.time, "perf_counter", lambda: next(ticks))
    shape = (32, 240, 240)
    plan = plan_enhancement(demo, shape, MemoryBudget(10**10, 10**10))
    assert len(plan.chunks) == 1
    seconds = expected_seconds(demo, shape, plan, own=own)
    # Seven times 400 000 voxels of the result are looked at, or a little less.
    looking = 7 * 400_000 / (4 * 8 * 48 * 48) if own else 0
    assert seconds == pytest.approx(0.5 * (4 * 5 * 5 + looking), rel=0.02)
    # Of the next time point nothing is timed again.
    assert expected_seconds(demo, shape, plan, own=own) == seconds


@pytest.fixture(scope="module")
def demo():
    return load_model(SHIPPED / "demo_pretrain.pt", load_config("demo").params)


@pytest.fixture
def within(monkeypatch):
    """Return ``within(n_bytes)``: the work itself may take no more."""

    def limit(n_bytes):
        monkeypatch.setattr(chunks, "_WORK_SPACE", 0)
        monkeypatch.setattr(reimaging, "_WORK_SPACE", 0)

        def budget(device, max_gb):
            return MemoryBudget(int(n_bytes) + results, 10**9)

        results = 0
        monkeypatch.setattr(enhancement, "memory_budget", budget)
        # The results in memory are not what is tested.
        monkeypatch.setattr(enhancement, "MemoryBudget", lambda _, total: budget(None, None))

    return limit


def stack_of(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 300 + 90


def scaled(stack):
    return (stack - stack.min()) / (stack.max() - stack.min())


def test_a_small_stack_is_what_the_network_says(small, network):
    stack = stack_of(3, 13, 10)
    found = enhance(small, stack)
    model = network(reconstruct=True)
    with torch.no_grad():
        expected = model(hill(scaled(stack))[None, None])
    assert found.structure.shape == (12, 13, 10)
    assert found.reconstruction.shape == (3, 13, 10)
    for volume, name in (
        (found.structure, "enhanced_image"),
        (found.brightness, "estim_luminance"),
        (found.reconstruction, "reconstruction"),
    ):
        torch.testing.assert_close(volume, expected[name][0, 0], atol=1e-5, rtol=0)


def test_the_quantised_structure_is_imaged_where_the_model_wants_it(network):
    stack = stack_of(3, 13, 10)
    found = enhance(network(use_x_quantized=True, threshold=0.5), stack)
    with torch.no_grad():
        expected = network(use_x_quantized=True, apply_vq=True, reconstruct=True)(
            hill(scaled(stack))[None, None]
        )
    torch.testing.assert_close(
        found.reconstruction, expected["reconstruction"][0, 0], atol=1e-5, rtol=0
    )
    assert len(found.structure.unique()) > 2


def test_the_range_of_the_stack_does_not_matter(small):
    stack = stack_of(3, 13, 10).double()
    torch.testing.assert_close(
        enhance(small, 7 * stack - 1e4).structure, enhance(small, stack).structure
    )


@pytest.mark.parametrize(
    ("shape", "megabytes"), [((9, 37, 53), 3.8), ((9, 37, 53), 4.5), ((7, 61, 30), 3.2)]
)
def test_chunks_give_the_whole(small, within, shape, megabytes):
    stack = stack_of(*shape)
    whole = enhance(small, stack)
    within(megabytes * 1e6)
    steps = []
    found = enhance(small, stack, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n + 1, len(steps)) for n in range(len(steps))]
    assert len(steps) > 4
    assert len(steps) == steps[0][1]
    for name in ("structure", "brightness", "reconstruction"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), atol=1e-5, rtol=0)


def test_seams_of_a_trained_network_are_as_stated(demo, within):
    _, brightness = tubes_and_solids(3, (48, 60, 131))
    stack = image_of(brightness, demo, seed=0)[0, 0]
    whole = enhance(demo, stack)
    within(45e6)
    found = enhance(demo, stack)
    for name in ("structure", "brightness", "reconstruction"):
        error = getattr(found, name) - getattr(whole, name)
        assert error.abs().max() < LARGEST_SEAM
        assert error.square().mean().sqrt() < RMS_SEAM
    assert not torch.equal(found.structure, whole.structure)


def test_nothing_beyond_the_receptive_field_matters(small):
    reach = chunks.receptive_field(small.params)
    stack = scaled(stack_of(2, 12, 3 * reach))
    changed = stack.clone()
    changed[..., :reach] = 0
    with torch.no_grad():
        one, other = (small.enhance(hill(s)[None, None])[0] for s in (stack, changed))
    torch.testing.assert_close(one[..., 2 * reach :], other[..., 2 * reach :], atol=1e-6, rtol=0)
    assert (one - other)[..., reach : 2 * reach].abs().max() > 1e-4


def test_chunks_start_at_whole_planes_and_where_pooling_does():
    params = load_config("demo").params.model_copy(update={"scale": 10})
    budget = MemoryBudget(400_000_000, 10**9)
    plan = chunks.plan_chunks(params, (31, 203, 198), budget, "cpu")
    assert len(plan) > 1
    for chunk in plan:
        (z, z_end), (y, _), (x, _) = chunk.covered
        assert (z % 20, z_end % 10, y % 4, x % 4) == (0, 0, 0, 0)
    covered = torch.zeros(310, 203, 198)
    for chunk in plan:
        covered[chunk.place()] += 1
    assert (covered == 1).all()


def test_self_attention_needs_the_whole(network, within):
    model = network(hidden_channels_list=[4, 8], attn_list=[False, True])
    stack = stack_of(13, 37, 53)
    within(5e6)
    with pytest.raises(UserError, match=r"self-attention \(attn_list\) must see as a whole; give"):
        enhance(model, stack)


def test_too_little_memory_is_told(small, within):
    within(1e5)
    with pytest.raises(UserError, match=r"is too small for a stack .* give at least"):
        enhance(small, stack_of(13, 37, 53))


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (torch.ones(3, 9, 9), "constant, every voxel is 1; leave it out"),
        (torch.tensor([[[0.0, float("nan")]]]), "NaN or infinite values"),
        (torch.tensor([[[0.0, float("inf")]]]), "NaN or infinite values"),
        (torch.rand(9, 9), r"shape \(9, 9\); expected \(Z, Y, X\)"),
    ],
)
def test_what_cannot_be_enhanced_is_told(small, stack, message):
    with pytest.raises(UserError, match=message):
        enhance(small, stack)


def test_the_mode_of_the_network_stays(network):
    model = network().train()
    enhance(model, stack_of(2, 9, 9))
    assert model.training
    assert model.prev[0].bn1.num_batches_tracked == 0
