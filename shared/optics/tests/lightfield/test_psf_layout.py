"""Axes of foreign PSF files: told by their sides, and by where the light of their views goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from optics import OpticsError, open_psf, phase_space_psf, presets, psf_shift
from optics.lightfield.psf_layout import fitting_orders

DEPTHS = (-2.0, -0.4, 1.2)
PRESET = presets["nnum13"].with_depths(DEPTHS)


@pytest.fixture(scope="module")
def psf() -> Tensor:
    """The 49 views of the preset, (A, D, H, W), with a shift of several pixels."""
    return phase_space_psf(PRESET, size=33)


def swap(psf: Tensor) -> Tensor:
    return psf.transpose(-1, -2).contiguous()


def every_view(psf: Tensor) -> Tensor:
    """Return the same on axes of all views, those that are not used dark."""
    whole = torch.zeros(169, *psf.shape[1:])
    whole[list(PRESET.views)] = psf
    return whole.unflatten(0, (13, 13))


def check(path: Path, expected: Tensor, order: str) -> None:
    file = open_psf(path)
    assert (file.n_views, file.n_depths, file.order) == (*expected.shape[:2], order)
    assert file.is_order_known
    torch.testing.assert_close(file.read(), expected, rtol=0, atol=0)
    torch.testing.assert_close(file.read([2, 1]), expected[[2, 1]], rtol=0, atol=0)
    torch.testing.assert_close(file.read_shift(), psf_shift(expected))
    is_usual = order in ("ADHW", "UVDHW", "HWUVD", "DVUWH", "HWAD", "DAWH")
    assert (file.remark is None) == is_usual


# Tensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "order"), [(lambda p: p, "ADHW"), (swap, "ADWH")])
def test_tensors_of_some_views(
    tmp_path: Path, psf: Tensor, stored: Callable[[Tensor], Tensor], order: str
) -> None:
    torch.save(stored(psf), tmp_path / "psf.pt")
    check(tmp_path / "psf.pt", psf, order)


def test_columns_first_is_not_silently_read_as_rows_first(tmp_path: Path, psf: Tensor) -> None:
    torch.save(swap(psf), tmp_path / "psf.pt")
    found = open_psf(tmp_path / "psf.pt").read()
    wrong = np.corrcoef(found.flatten(), swap(psf).flatten())[0, 1]
    right = np.corrcoef(found.flatten(), psf.flatten())[0, 1]
    assert (right > 0.999, wrong < 0.9) == (True, True)
    assert "(A, D, W, H)" in str(open_psf(tmp_path / "psf.pt").remark)


@pytest.mark.parametrize("order", ["UVDHW", "UVDWH", "HWUVD", "WHUVD", "DVUWH", "DVUHW"])
def test_tensors_of_all_views(tmp_path: Path, psf: Tensor, order: str) -> None:
    whole = every_view(psf)
    torch.save(whole.permute(*("UVDHW".index(axis) for axis in order)), tmp_path / "psf.pt")
    check(tmp_path / "psf.pt", whole.flatten(0, 1), order)
    assert open_psf(tmp_path / "psf.pt").views == tuple(range(169))


@pytest.mark.parametrize("name", ["shift", "psfshift"])
@pytest.mark.parametrize(("stored", "order"), [(lambda p: p, "ADHW"), (swap, "ADWH")])
def test_a_shift_table_beside_a_tensor_tells(
    tmp_path: Path, psf: Tensor, stored: Callable[[Tensor], Tensor], order: str, name: str
) -> None:
    few = psf[[5, 9, 30]]  # of no known microscope
    torch.save({"psf": stored(few), name: psf_shift(few)}, tmp_path / "psf.pt")
    check(tmp_path / "psf.pt", few, order)


def test_the_microscope_tells_which_views_they_are(tmp_path: Path, psf: Tensor) -> None:
    few = PRESET.with_views(PRESET.views[1:7])
    torch.save(swap(psf[1:7]), tmp_path / "psf.pt")
    assert not open_psf(tmp_path / "psf.pt").is_order_known
    file = open_psf(tmp_path / "psf.pt", few)
    assert (file.order, file.is_order_known) == ("ADWH", True)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: p[:6], id="views-of-no-microscope"),
        pytest.param(lambda p: p[:, 1:2] * 0 + p[:1, :1] + swap(p[:1, :1]), id="no-shift"),
        pytest.param(lambda p: torch.rand(49, 3, 9, 9), id="noise"),
    ],
)
def test_what_cannot_be_told_is_said(
    tmp_path: Path, psf: Tensor, make: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    torch.save(make(psf), tmp_path / "psf.pt")
    file = open_psf(tmp_path / "psf.pt")
    assert (file.order, file.is_order_known) == ("ADHW", False)
    assert "taken as (A, D, H, W); nothing in it tells rows from columns" in str(file.remark)


def test_sides_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    torch.save(torch.rand(5, 5, 5, 5, 5), tmp_path / "psf.pt")
    with pytest.raises(OpticsError, match="do not tell which axes are the views"):
        open_psf(tmp_path / "psf.pt")


# MATLAB's files ----------------------------------------------------------------------------


def write_old(path: Path, array: np.ndarray[Any, Any]) -> None:
    savemat(path, {"psf": array})


def write_new(path: Path, array: np.ndarray[Any, Any]) -> None:
    with h5py.File(path, "w") as file:
        file["psf"] = array.transpose()


def write_same(path: Path, array: np.ndarray[Any, Any]) -> None:
    with h5py.File(path, "w") as file:
        file["psf"] = array


@pytest.mark.parametrize(
    ("write", "order"), [(write_old, "HWAD"), (write_new, "DAWH"), (write_same, "HWAD")]
)
def test_matlab_files_of_some_views(
    tmp_path: Path, psf: Tensor, write: Callable[[Path, np.ndarray[Any, Any]], None], order: str
) -> None:
    write(tmp_path / "psf.mat", psf.permute(2, 3, 0, 1).numpy())
    check(tmp_path / "psf.mat", psf, order)
    assert open_psf(tmp_path / "psf.mat").views is None
    write(tmp_path / "psf.mat", swap(psf).permute(2, 3, 0, 1).numpy())
    check(tmp_path / "psf.mat", psf, order.translate(str.maketrans("HW", "WH")))


@pytest.mark.parametrize(
    ("shape", "orders", "found"),
    [
        ((49, 101, 9, 9), ("ADHW",), ["ADHW"]),
        ((49, 101, 9, 8), ("ADHW",), ["ADHW"]),
        ((13, 13, 3, 39, 39), ("UVDHW", "HWUVD", "DVUWH"), ["UVDHW"]),
        ((13, 13, 3, 39, 38), ("UVDHW", "HWUVD", "DVUWH"), ["UVDHW"]),
        ((3, 13, 13, 39, 38), ("UVDHW", "HWUVD", "DVUWH"), ["DVUWH"]),
        ((39, 39, 13, 13, 3), ("UVDHW", "HWUVD", "DVUWH"), ["HWUVD"]),
        ((13, 12, 3, 39, 39), ("UVDHW", "HWUVD", "DVUWH"), []),
        ((49, 3), ("ADHW", "UVDHW"), []),
    ],
)
def test_sides_tell_the_order(shape: tuple[int, ...], orders: tuple[str], found: list[str]) -> None:
    assert fitting_orders(shape, orders) == found
