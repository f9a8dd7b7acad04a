from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from scopekit.checkpoints import write_checkpoint
from scopekit.errors import UserError
from scopekit.training.loop import train
from scopekit.training.processes import World
from scopekit.training.recipe import Loop
from scopekit.training.run_folder import RunFolder
from tenet.alignment import shifts
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import (
    SHIPPED,
    align,
    alignment_content,
    correlate_neighbours,
    load_alignment,
    remove_trend,
)
from tenet.alignment.training import AlignmentSettings, AlignmentTraining, shift_loss
from tenet.alignment.vibration import Strength, draw_shifts, shift_slices

PUBLISHED = Strength(b_sigma=0.2, amp_alpha=2, omega_alpha=2, noise_inv_var_alpha=2)
MARGIN = 16


def blobs(seed=0, slices=16, side=96, number=25):
    """Return (Z, side + 2 MARGIN, ...): blobs, blurred, longer along z, 0 to 1."""
    rng = np.random.default_rng(seed)
    volume = np.zeros((slices, side + 2 * MARGIN, side + 2 * MARGIN))
    places = rng.uniform(0, 1, (number, 3)) * volume.shape
    volume[tuple(places.astype(int).T)] = rng.uniform(0.3, 1, number)
    blurred = gaussian_filter(volume, (3, 5, 5), mode="constant")
    return torch.from_numpy(blurred / blurred.max()).float()


def shake(still, shifts):
    moved = shift_slices(still[None, None], torch.as_tensor(shifts)[None])
    return moved[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def left(found, shifts):
    """Return the rms of what is left, mean and linear trend aside."""
    return float(remove_trend(found - torch.as_tensor(shifts)).square().mean().sqrt())


def test_trend_is_that_of_a_line_fit():
    shifts = torch.rand(3, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = np.arange(9)
    for found, given_shifts in zip(remove_trend(shifts), shifts, strict=True):
        jumps = given_shifts.numpy()
        line = np.stack([np.polyval(np.polyfit(t, s, 1), t) for s in jumps.T], axis=1)
        np.testing.assert_allclose(found.numpy(), jumps - line, atol=1e-12)


@given(st.integers(1, 30), st.floats(-9, 9), st.floats(-9, 9))
def test_lines_are_all_trend(slices, slope, offset):
    line = slope * torch.arange(slices, dtype=torch.float64)[:, None].expand(slices, 2) + offset
    assert remove_trend(line).abs().max() < 1e-9


@pytest.mark.parametrize("seed", [0, 1])
def test_the_network_that_ships_beats_correlation(seed):
    still = blobs(seed)
    network, correlation, before = [], [], []
    for number in range(3):
        shifts = draw_shifts(PUBLISHED, len(still), np.random.default_rng(10 * seed + number))
        stack = shake(still, np.clip(shifts, -8, 8))
        truth = np.clip(shifts, -8, 8)
        found = align(stack, load_alignment())[1][0]
        torch.testing.assert_close(found, remove_trend(found), rtol=0, atol=1e-4)
        network.append(left(found, truth))
        found = align(stack, None)[1][0]
        correlation.append(left(found, truth))
        before.append(left(torch.zeros(1), truth))
    assert np.mean(network) < 0.5
    assert np.mean(network) < 0.5 * np.mean(correlation)
    assert np.mean(network) < 0.3 * np.mean(before)


def test_aligning_resamples_and_never_repaints():
    stack = shake(blobs(), draw_shifts(PUBLISHED, 16, np.random.default_rng(3)))
    aligned, shifts = align(stack, load_alignment())
    torch.testing.assert_close(aligned, shift_slices(stack, -shifts))
    assert aligned.min() >= stack.min()
    assert aligned.max() <= stack.max()


def test_drift_and_slant_stay_unless_asked():
    still = blobs(number=40)
    drift = (torch.arange(16.0)[:, None] - 7.5) * torch.tensor([0.3, -0.2])
    stack = shake(still, drift)
    model = load_alignment()
    kept = align(stack, model)[1][0]
    assert kept.square().mean().sqrt() < 0.3
    removed = align(stack, model, remove_drift=True)[1][0]
    still_there = align(shake(still, 0 * drift), model, remove_drift=True)[1][0]
    slope = (removed - still_there)[-1] - (removed - still_there)[0]
    torch.testing.assert_close(slope / 15, torch.tensor([0.3, -0.2]), rtol=0.25, atol=0)


@pytest.mark.parametrize("unit", [1e-3, 7.0])
def test_unit_and_offset_of_the_intensity_do_not_matter(unit):
    stack = shake(blobs(), draw_shifts(PUBLISHED, 16, np.random.default_rng(5)))
    model = load_alignment()
    with torch.no_grad():
        torch.testing.assert_close(
            model(unit * stack + unit)[-1], model(stack)[-1], rtol=1e-2, atol=1e-2
        )


def test_a_stack_of_a_batch_is_aligned_as_alone():
    stacks = torch.cat([shake(blobs(seed), 2 * torch.rand(16, 2)) for seed in (0, 1)])
    model = load_alignment()
    with torch.no_grad():
        both = model(stacks)[-1]
        for stack, found in zip(stacks, both, strict=True):
            torch.testing.assert_close(model(stack[None])[-1, 0], found, rtol=1e-3, atol=1e-3)


@settings(max_examples=12)
@given(st.integers(1, 20), st.integers(16, 70), st.integers(16, 70), st.sampled_from(["c", "r"]))
def test_any_size_gives_finite_shifts(slices, height, width, content):
    generator = torch.Generator().manual_seed(0)
    stack = torch.zeros(1, 1, slices, height, width)
    if content == "r":
        stack = torch.rand(stack.shape, generator=generator)
    with torch.no_grad():
        found = load_alignment()(stack)
    assert found.shape[1:] == (1, slices, 2)
    assert torch.isfinite(found).all()
    assert found.mean(dim=2).abs().max() < 1e-4
    if content == "c":
        assert found.abs().max() < 1e-3


def test_small_slices_are_refused():
    with pytest.raises(UserError, match="15 x 40 pixels are too small to be aligned"):
        load_alignment()(torch.rand(1, 1, 4, 15, 40))


def test_correlation_finds_steps_of_flat_structure():
    still = blobs()[8].expand(6, -1, -1)
    shifts = np.array([[0, 0], [1, -2], [3.5, 1], [3, 1], [-2, 0.5], [0, 0]], np.float32)
    found = correlate_neighbours(shake(still, shifts)[0, 0].numpy())
    np.testing.assert_allclose(found, shifts - shifts.mean(axis=0), atol=0.6)
    assert np.abs(correlate_neighbours(np.zeros((4, 20, 20), np.float32))).max() == 0


def training(loss_mode=("shift",), **options):
    fields = [blobs(seed, slices=8, side=56).numpy() for seed in range(3)]
    strength = Strength(b_sigma=0.1, amp_alpha=1, omega_alpha=1, noise_inv_var_alpha=4)
    given_settings = AlignmentSettings(
        strength, crop=64, margin=6, loss_mode=loss_mode, stacks_an_epoch=4
    )
    torch.manual_seed(0)
    model = DeepAlignNet(channels=4, features=2)
    return AlignmentTraining(model, fields, fields[:2], given_settings, **options)


def test_samples_are_shaken_crops_of_their_field():
    recipe = training()
    first, again = (recipe.sample(0, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first.stack, again.stack)
    assert first.stack.shape == first.still.shape == (1, 8, 64, 64)
    assert first.shifts.abs().max() <= 6
    assert 0 <= first.stack.min() <= first.stack.max() <= 1
    back = shift_slices(first.stack[None], -first.shifts[None])[0]
    inner = (..., slice(6, -6), slice(6, -6))
    before = (first.stack - first.still)[inner].square().mean()
    assert (back - first.still)[inner].square().mean() < 0.5 * before


@pytest.mark.parametrize(
    "modes",
    [("shift",), ("pixel",), ("perceptual",), ("segmentation", "shift"), ("pixel", "perceptual")],
)
def test_every_loss_mode_teaches_the_network(modes):
    def judge(stack):
        return [stack**2, stack[..., ::2, ::2]]

    recipe = training(modes, judges={"perceptual": judge, "segmentation": judge})
    samples = [recipe.sample(i, np.random.default_rng(i)) for i in range(2)]
    terms = recipe.losses(recipe.model, samples)
    assert set(terms) == set(modes)
    sum(terms.values()).backward()
    for name, parameter in recipe.model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert any(p.grad.abs().max() > 0 for p in recipe.model.parameters())


def test_a_judge_must_be_given():
    with pytest.raises(ValueError, match=r"loss_mode \['segmentation'\] needs a judge"):
        training(("segmentation",))


def test_the_right_shifts_have_the_least_loss():
    truth = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(1))
    right = truth.expand(3, -1, -1, -1)
    assert shift_loss(right + 4, truth) < 1e-4  # a shift of the whole stack cannot be known
    drifting = right + torch.arange(7.0)[:, None]
    jumping = right + torch.tensor([1.0, -1, 1, -1, 1, -1, 1])[:, None]
    assert 0.1 < shift_loss(drifting, truth) < shift_loss(jumping, truth)
    earlier, later = right.clone(), right.clone()
    earlier[0, :, ::2] += 1
    later[-1, :, ::2] += 1
    assert shift_loss(earlier, truth) < shift_loss(later, truth)


def test_training_runs_in_the_shared_loop_and_is_read_back(tmp_path):
    recipe = training()
    before = [p.clone() for p in recipe.model.parameters()]
    folder = RunFolder(tmp_path / "run", {}, resume=False, overwrite=False)
    folder.begin()
    loop = Loop(epochs=2, learning_rate=1e-3, batch_size=2, validate_every=1)
    train(recipe, loop, folder, World(0, 1, torch.device("cpu")))
    pairs = zip(before, recipe.model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)
    read = load_alignment(folder.last)
    stack = recipe.sample(0, np.random.default_rng(0)).stack[None]
    with torch.no_grad():
        torch.testing.assert_close(read(stack), recipe.model.eval()(stack))


def test_the_shipped_weights_are_small():
    assert SHIPPED.stat().st_size < 100_000


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other.pt"
    write_checkpoint(other, {"state": {}}, overwrite=False)
    with pytest.raises(UserError, match="not an alignment network"):
        load_alignment(other)
    with pytest.raises(UserError, match="no such file"):
        load_alignment(Path("absent.pt"))


def test_content_is_plain():
    content = alignment_content(DeepAlignNet(4, 2))
    assert content["arguments"] == {"channels": 4, "features": 2}


def test_without_the_weights_that_ship_another_method_is_told(tmp_path, monkeypatch):
    stack = shake(blobs(slices=5, side=32), draw_shifts(PUBLISHED, 5, np.random.default_rng(3)))
    monkeypatch.setattr(shifts, "SHIPPED", tmp_path / "alignment.pt")
    with pytest.warns(UserWarning, match=r"alignment\.pt: no such file: .* correlating neighbours"):
        aligned, _ = align(stack)
    torch.testing.assert_close(aligned, align(stack, None)[0])
