"""``serenet calibrate``: the focal length by the views that receive light."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import BandLimitedOperator, LightFieldMicroscope, phase_space_psf
from scopekit.errors import UserError
from serenet.rectification.aperture import fit_aperture, light_by_view

SCOPE = LightFieldMicroscope(
    magnification=40,
    numerical_aperture=0.8,
    refractive_index=1.33,
    wavelength_um=0.52,
    microlens_pitch_um=120,
    microlens_focal_length_um=2400,
    n_num=11,
    voxels_a_lens=3,
    depths_um=[-6.0, 0.0, 6.0],
)
LENSES = 16


def with_focal_length(factor):
    changed = {"microlens_focal_length_um": 2400 * factor, "views": ()}
    return LightFieldMicroscope.model_validate(SCOPE.model_dump() | changed)


@pytest.fixture(scope="module")
def views():
    """All views of random tissue, 300 photons, on a pedestal."""
    scope, side = SCOPE.with_all_views(), 3 * LENSES
    generator = torch.Generator().manual_seed(0)
    tissue = torch.rand((3, side, side), generator=generator) ** 4
    sizes = (side, side), (LENSES, LENSES)
    light = BandLimitedOperator(phase_space_psf(scope), *sizes, sampling="point").forward(tissue)
    return torch.poisson(light.clamp(min=0) * (300 / light.max()) + 20, generator).numpy()


def test_the_light_of_views_is_that_of_their_psfs():
    scope = SCOPE.with_all_views().with_depths([0.0])
    sums = phase_space_psf(scope, size=61).sum((1, 2, 3)).reshape(11, 11).numpy()
    np.testing.assert_allclose(light_by_view(SCOPE), sums / sums.max(), atol=0.03)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_wrong_focal_length_is_corrected(serenet, tmp_path, views, factor):
    tifffile.imwrite(tmp_path / "views.tif", views)
    wrong = with_focal_length(factor).model_dump(mode="json", exclude={"views"})
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    command = ("calibrate", tmp_path / "views.tif", "--microscope", tmp_path / "wrong.yaml")
    outcome = serenet(*command, "--out", tmp_path / "right.yaml")
    assert outcome.code == 0, outcome.err
    found = yaml.safe_load((tmp_path / "right.yaml").read_text())
    assert found["microlens_focal_length_um"] == pytest.approx(2400, rel=0.02)
    assert {n: v for n, v in found.items() if n not in ("microlens_focal_length_um", "views")} == {
        n: v for n, v in wrong.items() if n != "microlens_focal_length_um"
    }
    assert "the sign of z" in outcome.out
    assert serenet(*command, "--out", tmp_path / "right.yaml").code == 2  # kept


def test_the_middle_of_the_aperture_is_found():
    moved = light_by_view(SCOPE, centre=(0.4, -0.7))
    found = fit_aperture(100 * moved + 7, SCOPE)
    assert found.centre == pytest.approx((0.4, -0.7), abs=0.05)
    assert found.misfit < 0.01 < found.misfit_before


def test_another_aperture_would_do_as_well():
    smaller = LightFieldMicroscope.model_validate(
        SCOPE.model_dump() | {"numerical_aperture": 0.7, "views": ()}
    )
    found = fit_aperture(light_by_view(smaller), SCOPE)
    assert found.aperture_instead == pytest.approx(0.7, rel=0.01)
    assert found.microscope.microlens_focal_length_um == pytest.approx(2400 * 7 / 8, rel=0.01)


def test_views_without_the_edge_of_an_aperture_are_told():
    with pytest.raises(UserError, match="no edge of the aperture"):
        fit_aperture(np.random.default_rng(0).normal(100, 1, (11, 11)), SCOPE)


def test_planes_in_reverse_order_give_the_views_in_reverse_order():
    """Nothing that fits views can tell the sign of z."""
    scope, side = SCOPE.with_all_views().with_depths([-6.0, 0.0, 6.0]), 3 * LENSES
    sample = torch.rand((3, side, side), generator=torch.Generator().manual_seed(1)) ** 4
    operator = BandLimitedOperator(
        phase_space_psf(scope), (side, side), (LENSES, LENSES), sampling="point"
    )
    seen, turned = operator.forward(sample), operator.forward(sample.flip(0))
    assert float((turned - seen.flip(0)).norm()) < 1e-4 * float(seen.norm())
    assert float((turned - seen).norm()) > 0.05 * float(seen.norm())
