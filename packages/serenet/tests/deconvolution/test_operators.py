"""Operators of single views: what is kept, what it costs, and that it changes nothing."""

import pytest
import torch

from optics import RecordedLightField, Subset, phase_space_psf, presets, richardson_lucy
from serenet.deconvolution.operators import ViewOperators
from serenet.views.psf import psf_of_views

WHOLE = presets["nnum13"]
SCOPE = WHOLE.model_copy(update={"depths_um": (-2.0, 0.0, 2.0), "views": WHOLE.views[:9]})
CPU = torch.device("cpu")
SIZES = (65, 52), (15, 12)


@pytest.fixture(scope="module")
def psf():
    return phase_space_psf(SCOPE, size=39)


@pytest.fixture
def counted(psf):
    """A PSF of single views that notes which were asked for."""
    asked = []

    def view_psf(channel):
        asked.append(channel)
        return psf[channel : channel + 1]

    return view_psf, asked


def test_as_many_are_kept_as_there_is_room_for(counted):
    view_psf, asked = counted
    one = ViewOperators(view_psf, SCOPE)((0,), *SIZES, CPU)
    volume = 3 * 65 * 52 * 4
    for room, operators, sensitivities in (
        (0, 0, 0),
        (4.5 * one.n_bytes, 4, 0),
        (9 * one.n_bytes + 2.5 * volume, 9, 2),
        (1e9, 9, 9),
    ):
        make = ViewOperators(view_psf, SCOPE, room)
        made = [make((channel,), *SIZES, CPU) for channel in range(9)]
        asked.clear()
        assert sum(make((c,), *SIZES, CPU) is made[c] for c in range(9)) == operators
        assert len(asked) == 9 - operators
        kept = [operator.sensitivity() is operator.sensitivity() for operator in made]
        assert kept == [n < sensitivities for n in range(9)]


def test_another_size_takes_the_place_of_the_last(counted):
    view_psf, asked = counted
    make = ViewOperators(view_psf, SCOPE, 1e9)
    first = make((3,), *SIZES, CPU)
    make((3,), (39, 52), (9, 12), CPU)
    assert make((3,), *SIZES, CPU) is not first
    assert asked == [3, 3, 3]


def test_volumes_are_those_of_the_full_operator(psf, counted):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand((3, 65, 52), generator=generator).pow_(8)
    full = [RecordedLightField(psf[a : a + 1], *SIZES) for a in range(9)]
    views = [torch.poisson(200 * one.forward(truth).clamp(min=0), generator) for one in full]
    make = ViewOperators(counted[0], SCOPE, 1e9)
    ours = [make((a,), *SIZES, CPU) for a in range(9)]
    plain, kept = (
        richardson_lucy(
            [Subset(operators[a], views[a]) for a in SCOPE.oblique_first],
            torch.ones_like(truth),
            iterations=3,
            exponent=1.5,
        )
        for operators in (full, ours)
    )
    assert float((kept - plain).norm()) < 1e-4 * float(plain.norm())


def test_computed_psfs_are_those_of_single_views():
    view_psf, _ = psf_of_views(None, SCOPE)
    for channel in (0, 1, 5, 3, 8):
        expected = phase_space_psf(SCOPE, views=[SCOPE.views[channel]], size=SCOPE.psf_size)
        torch.testing.assert_close(view_psf(channel), expected)
