"""The PSF view by view, and its shift, from files and from optics."""

import numpy as np
import pytest
import torch

from optics import phase_space_psf, presets, psf_shift, write_psf
from scopekit.errors import UserError
from serenet.views.psf import channels_of, psf_of_views, shift_for_model

NNUM13 = presets["nnum13"].with_middle_depths(3)
MINE = type(NNUM13).model_validate(
    NNUM13.model_dump()
    | {
        "n_num": 5,
        "microlens_pitch_um": 100 / 13 * 5,
        "microlens_focal_length_um": 2100 / 13 * 5,
        "depths_um": (-0.6, -0.2, 0.0, 0.4),
        "views": (12, 6, 13),
    }
)
SIZE = 15


def file_of(path, microscope):
    psf = phase_space_psf(microscope, size=SIZE)
    write_psf(path, psf, microscope)
    return path, psf


def test_computed_views_have_the_size_that_the_microscope_needs():
    view_psf, microscope = psf_of_views(None, MINE)
    assert microscope == MINE
    whole = phase_space_psf(MINE)
    assert whole.shape[-1] == MINE.psf_size == 75
    for channel in range(3):
        torch.testing.assert_close(view_psf(channel), whole[channel : channel + 1])


def test_a_file_of_all_views_serves_for_those_of_the_microscope(tmp_path):
    path, psf = file_of(tmp_path / "psf.h5", MINE.with_all_views().with_depths((0.0, 0.2)))
    view_psf, microscope = psf_of_views(path, MINE)
    assert (microscope.views, microscope.depths_um) == ((12, 6, 13), (0.0, 0.2))
    assert torch.equal(torch.cat([view_psf(n) for n in range(3)]), psf[[12, 6, 13]])
    with pytest.raises(UserError, match="give the PSF as a file, or the microscope"):
        psf_of_views(None, None)


def test_a_tensor_with_columns_first_is_turned_and_that_is_said_once(tmp_path, capsys):
    deep = presets["nnum13"].with_depths((-2.0, 0.0, 2.0))
    psf = phase_space_psf(deep, size=33)
    torch.save(psf.transpose(-1, -2).contiguous(), tmp_path / "psf.pt")
    for _ in range(2):
        view_psf, _ = psf_of_views(tmp_path / "psf.pt", deep)
        assert torch.equal(view_psf(3), psf[3:4])
    shift, _ = shift_for_model(49, tmp_path / "psf.pt", None, deep)
    torch.testing.assert_close(shift, psf_shift(psf))
    said = capsys.readouterr().err.replace("\n", " ")
    assert said.count("read as (A, D, W, H)") == 1


def test_a_tensor_that_does_not_tell_rows_from_columns_is_warned_of(tmp_path, capsys):
    torch.save(torch.ones(3, 4, 9, 9), tmp_path / "psf.pt")
    psf_of_views(tmp_path / "psf.pt", MINE)
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: " in said
    assert "nothing in it tells rows from columns" in said


def test_the_shift_is_computed_in_the_order_of_the_depths():
    shift, microscope = shift_for_model(3, None, None, MINE)
    assert microscope == MINE
    torch.testing.assert_close(shift, psf_shift(phase_space_psf(MINE)))


@pytest.mark.parametrize("n_views", [49, None])
def test_views_of_a_preset_keep_its_order_whatever_the_file_holds(tmp_path, n_views):
    path, psf = file_of(tmp_path / "psf.h5", NNUM13.with_all_views())
    shift, microscope = shift_for_model(n_views, path, None, None)
    assert microscope.views == NNUM13.views
    torch.testing.assert_close(shift, psf_shift(psf)[list(NNUM13.views)])


def test_views_of_another_microscope_are_those_of_the_file_or_told(tmp_path):
    path, psf = file_of(tmp_path / "psf.h5", MINE)
    shift, microscope = shift_for_model(None, path, None, None)
    assert microscope == MINE
    torch.testing.assert_close(shift, psf_shift(psf))
    turned = MINE.with_views((13, 12, 6))
    shift, microscope = shift_for_model(3, path, None, turned)
    assert microscope == turned
    torch.testing.assert_close(shift, psf_shift(psf)[[2, 0, 1]])


def test_what_does_not_fit_is_told(tmp_path):
    path, _ = file_of(tmp_path / "psf.h5", MINE)
    table = tmp_path / "shift.npy"
    for wrong, told in (
        ((path, table, MINE), "a PSF and a PSF shift"),
        ((None, None, MINE), "takes 4 views, the microscope names 3"),
        ((path, None, MINE), "takes 4 views, the microscope names 3"),
        ((path, None, None), "a PSF of 3 views .n_num 5.; the checkpoint takes 4"),
    ):
        with pytest.raises(UserError, match=told):
            shift_for_model(4, *wrong)
    with pytest.raises(UserError, match="give that, or a PSF file that tells it"):
        shift_for_model(None, None, None, None)
    for shape, told in (((4, 4, 2), "4 views; the checkpoint takes 3"), ((3, 5, 2), "5 depths")):
        np.save(table, np.zeros(shape))
        with pytest.raises(UserError, match=told):
            shift_for_model(3, None, table, MINE)
    np.save(table, np.arange(24.0).reshape(3, 4, 2))
    assert shift_for_model(3, None, table, MINE)[0][2, 3, 1] == 23


def test_channels_are_found_by_the_names_of_the_views():
    class File:
        path, n_views, views = "psf.h5", 4, (7, 3, 9, 1)

    assert channels_of(File(), (9, 7)) == [2, 0]
    with pytest.raises(UserError, match="of the 2 needed, 1 are not in it"):
        channels_of(File(), (9, 8))
    File.views = None
    assert channels_of(File(), (9, 7, 3, 1)) == [0, 1, 2, 3]
