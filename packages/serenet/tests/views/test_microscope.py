"""Which microscope a run is about."""

import pytest

from optics import phase_space_psf, presets, write_psf
from scopekit.errors import UserError
from serenet.views.microscope import (
    microscope_for_model,
    microscope_of_views,
    preset_of,
    require_same_microscope,
    same_microscope,
)

NNUM13, NNUM15 = presets["nnum13"], presets["nnum15"]


def changed(**values):
    return type(NNUM13).model_validate(NNUM13.model_dump() | values)


def psf_file(folder, microscope):
    path = folder / "psf.h5"
    write_psf(path, phase_space_psf(microscope, size=3), microscope)
    return path


def test_depths_and_views_make_no_other_microscope():
    assert same_microscope(NNUM13, NNUM13.with_middle_depths(3).with_all_views())
    rounded = changed(wavelength_um=0.525 * (1 + 1e-7))
    assert same_microscope(NNUM13, rounded)
    assert preset_of(rounded.with_views([3])) is NNUM13


@pytest.mark.parametrize(
    "change", [{"wavelength_um": 0.526}, {"scanning": 1}, {"n_num": 15}, {"magnification": 62.9}]
)
def test_other_optics_make_another_microscope(change):
    if change == {"n_num": 15}:
        change["views"] = ()
    assert not same_microscope(NNUM13, changed(**change))
    assert preset_of(changed(**change)) is None


def test_the_number_of_views_tells_the_preset():
    assert microscope_for_model(49) is NNUM13
    assert microscope_for_model(81) is NNUM15
    with pytest.raises(UserError, match="no preset uses 7 views"):
        microscope_for_model(7)


def test_a_network_of_all_views_gets_all_of_them():
    assert microscope_of_views(169, 101, None, None) == NNUM13.with_all_views()
    assert microscope_of_views(225, 101, None, None) == NNUM15.with_all_views()
    assert microscope_of_views(49, 101, None, None) == NNUM13


def test_a_network_of_fewer_planes_gets_those_around_the_middle(capsys):
    found = microscope_of_views(49, 3, None, None)
    assert found.depths_um == (-0.2, 0.0, 0.2)
    assert "3 planes: taken to be those around the middle" in capsys.readouterr().err


def test_the_microscope_told_must_fit(tmp_path):
    mine = changed(magnification=40, views=(84, 85))
    assert microscope_of_views(2, 101, None, mine) == mine
    with pytest.raises(UserError, match="takes 49 views, the microscope has 169 and uses 2"):
        microscope_of_views(49, 101, None, mine)
    with pytest.raises(UserError, match="makes 102 planes, the microscope has 101"):
        microscope_of_views(2, 102, None, mine)
    few = mine.with_middle_depths(2)
    path = psf_file(tmp_path, few)
    assert microscope_of_views(2, 2, path, None).voxel_um == pytest.approx(few.voxel_um)
    with pytest.raises(UserError, match="the PSF of another microscope than the one named"):
        microscope_of_views(2, 2, path, NNUM13)


def test_a_file_that_does_not_tell_its_microscope_fits_any():
    class File:
        microscope = None
        views = None

    require_same_microscope(File(), NNUM13)
