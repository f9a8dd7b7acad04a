"""Lateral windows: what they cover, what they cost, how little they change."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from optics import LightFieldOperator, open_psf, phase_space_psf, presets, sample_views, write_psf
from scopekit.errors import UserError
from scopekit.images.files import open_stack
from scopekit.images.target import Target
from scopekit.memory import MemoryBudget
from serenet.deconvolution import frame as deconvolution_frame
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.subsets import ViewSubsets
from serenet.deconvolution.windows import plan_windows
from serenet.reconstruction.refinement import refine

WHOLE = presets["nnum13"]
SCOPE = WHOLE.with_depths((-2.0, 0.0, 2.0)).with_views(WHOLE.views[:9])


def budget(n_bytes):
    return MemoryBudget(int(n_bytes), int(n_bytes))


# Large enough for several windows of the smallest budgets, along either axis or both.
sides = st.integers(1, 300)
budgets = st.integers(90, 130)


@given(sides, sides, st.integers(9, 61), budgets, st.booleans())
def test_windows_cover_the_field_with_half_a_psf_around(height, width, psf_size, megabytes, tv):
    field = (height, width)
    windows = plan_windows(field, SCOPE, psf_size, budget(megabytes * 1e6), tv=tv)
    scale = SCOPE.lateral_scale
    size = tuple(round(n * scale) for n in field)
    covered = np.zeros(size, int)
    for window in windows:
        covered[window.core] += 1
        for axis in range(2):
            views, volume, core = window.views[axis], window.volume[axis], window.core[axis]
            # Views and volume share their borders.
            assert volume.start == pytest.approx(views.start * scale)
            assert volume.stop == pytest.approx(views.stop * scale, abs=0.5)
            assert core.start - volume.start >= min(psf_size // 2, core.start)
            assert volume.stop - core.stop >= min(psf_size // 2, size[axis] - core.stop)
        part = np.arange(np.prod(window.volume_yx)).reshape(1, *window.volume_yx)
        kept = window.crop(torch.from_numpy(part))
        rows, columns = window.core
        assert kept.shape == (1, rows.stop - rows.start, columns.stop - columns.start)
        first = (rows.start - window.volume[0].start) * window.volume_yx[1]
        assert int(kept[0, 0, 0]) == first + columns.start - window.volume[1].start
    assert (covered == 1).all()


@given(sides, sides, budgets, st.integers(0, 9))
def test_windows_reach_beyond_the_field_where_it_ends(height, width, megabytes, margin):
    field, scale = (height, width), SCOPE.lateral_scale
    within, wide = (
        plan_windows(field, SCOPE, 61, budget(megabytes * 1e6), tv=False, margin=n)
        for n in (0, margin)
    )
    assert all(window.beyond == ((0, 0), (0, 0)) for window in within)
    for window in wide:
        for axis in range(2):
            views, volume = window.views[axis], window.volume[axis]
            before, after = window.beyond[axis]
            assert 0 <= before <= margin * (views.start == 0)
            assert 0 <= after <= margin * (views.stop == field[axis])
            assert volume.start == pytest.approx((views.start - before) * scale, abs=0.5)
            assert volume.stop == pytest.approx((views.stop + after) * scale, abs=0.5)
            assert 0 <= views.start < views.stop <= field[axis]
            if window.core_views[axis].start == 0:
                assert before == margin
            if window.core_views[axis].stop == field[axis]:
                assert after == margin
        rows, columns = window.core
        part = torch.zeros(1, *window.volume_yx)
        assert window.crop(part).shape[1:] == (rows.stop - rows.start, columns.stop - columns.start)


def test_one_window_if_it_fits_and_more_the_less_memory():
    counts = [
        len(plan_windows((200, 150), WHOLE, 195, budget(gigabytes * 1e9), tv=False))
        for gigabytes in (10, 1.5, 0.7, 0.4)
    ]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[-1] > 20
    with_tv = plan_windows((200, 150), WHOLE, 195, budget(1.5e9), tv=True)
    assert len(with_tv) > counts[1]


def test_a_budget_below_the_smallest_window_is_named_with_the_remedy():
    with pytest.raises(UserError, match=r"give at least [\d.]+ \(see") as failure:
        plan_windows((200, 200), SCOPE, 195, budget(50e6), tv=False)
    gigabytes = float(str(failure.value).split("give at least ")[1].split()[0])
    assert plan_windows((200, 200), SCOPE, 195, budget(gigabytes * 1e9), tv=False)


@pytest.fixture(scope="module")
def light_field(tmp_path_factory):
    """PSF and views (9, 66, 48) on disk: sharp spots all over, one in three on a window's seam."""
    folder = tmp_path_factory.mktemp("field")
    psf = phase_space_psf(SCOPE, size=51)
    write_psf(folder / "psf.h5", psf, SCOPE)
    generator = np.random.default_rng(0)
    truth = np.zeros((3, 286, 208), np.float32)
    for _ in range(60):
        truth[generator.integers(0, 3), generator.integers(0, 286), generator.integers(0, 208)] = (
            generator.uniform(0.5, 1)
        )
    views = LightFieldOperator(psf).forward(torch.from_numpy(truth))
    views = sample_views(views, SCOPE.lateral_scale).clamp(min=0)
    views = generator.poisson(views * (300 / views.max())).astype(np.float32)
    tifffile.imwrite(folder / "views.tif", views)
    return folder


def test_deconvolved_windows_are_the_whole_within_half_a_percent(
    serenet, monkeypatch, tmp_path, light_field
):
    volumes, counts = [], []
    for out, n_bytes in (("whole", 1e10), ("windows", 81.5e6)):
        available = budget(n_bytes)
        monkeypatch.setattr(deconvolution_frame, "memory_budget", lambda *_, b=available: b)
        outcome = serenet(
            "deconvolve",
            light_field / "views.tif",
            *("--psf", light_field / "psf.h5", "--out", tmp_path / out),
            *("--iterations", 3, "--no-preview", "--background", 0),
        )
        assert outcome.code == 0, outcome.err
        volumes.append(open_stack(tmp_path / out / "views_deconvolved.tif").read())
        record = yaml.safe_load((tmp_path / out / "views_deconvolved.yaml").read_text())
        counts.append(record["frames"][0]["windows"])
    assert counts[0] == 1
    assert counts[1] >= 6
    whole, windows = volumes
    assert np.linalg.norm(windows - whole) <= 0.005 * np.linalg.norm(whole)
    assert np.abs(windows - whole).max() <= 0.005 * whole.max()


def test_refined_windows_are_the_whole_within_half_a_percent(tmp_path, light_field):
    views = torch.from_numpy(tifffile.imread(light_field / "views.tif"))
    psf = open_psf(light_field / "psf.h5").read()
    size = (286, 208)
    operators = ViewOperators(lambda a: psf[a : a + 1], SCOPE)
    subsets = ViewSubsets(views, operators, size, SCOPE.oblique_first)
    # A network's brightness varies over the field.
    start = torch.rand((3, *size), generator=torch.Generator().manual_seed(0))
    start *= torch.linspace(0.5, 1.5, size[1])
    volumes, outcomes = [], []
    for n_bytes in (1e10, 81.5e6):
        windows = plan_windows(views.shape[-2:], SCOPE, 51, budget(n_bytes), tv=False)
        volumes.append(start.numpy().copy())
        outcomes.append(refine(Target(volumes[-1]), subsets, windows, 14, tmp_path))
    assert len(windows) >= 6
    whole, parts = volumes
    assert outcomes[1].updates == outcomes[0].updates > 0
    assert outcomes[1].deviance_after == pytest.approx(outcomes[0].deviance_after, rel=0.005)
    assert np.linalg.norm(parts - whole) <= 0.005 * np.linalg.norm(whole)


# A child's largest resident size as the system counts it may be that of its parent.
MEASURE = """
import sys, threading, time, psutil
from serenet import cli
peak, process = 0, psutil.Process()
def watch():
    global peak
    while True:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
try:
    cli.main()
finally:
    print(peak)
"""


@pytest.mark.parametrize("tv", [0, 0.01])
def test_memory_stays_within_the_budget(tmp_path, tv):
    scope = WHOLE.with_views(WHOLE.views[:1])
    write_psf(tmp_path / "psf.h5", phase_space_psf(scope, size=101), scope)
    views = np.random.default_rng(0).poisson(50, (1, 120, 120)).astype(np.float32)
    tifffile.imwrite(tmp_path / "views.tif", views)
    arguments = ("views.tif", "--psf", "psf.h5", "--out", "out", "--iterations", 1, "--tv", tv)
    arguments = (*arguments, "--max-memory-gb", 0.9, "--stop-at-change", 1e-9)
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, "deconvolve", *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    assert int(process.stdout) <= 0.9e9
    record = yaml.safe_load((tmp_path / "out/views_deconvolved.yaml").read_text())
    assert record["frames"][0]["windows"] > 1
