import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from optics import (
    LightFieldMicroscope,
    OpticsError,
    open_psf,
    phase_space_psf,
    presets,
    psf_shift,
    write_psf,
)

PRESET = presets["nnum13"].model_copy(
    update={"depths_um": (-1.0, 0.0, 0.5), "views": (84, 70, 98, 12)}
)


@pytest.fixture(scope="module")
def psf() -> Tensor:
    return phase_space_psf(PRESET, size=11)


@pytest.fixture
def written(tmp_path: Path, psf: Tensor) -> Path:
    path = tmp_path / "psf.h5"
    write_psf(path, psf, PRESET)
    return path


def test_hdf5_comes_back(written: Path, psf: Tensor) -> None:
    file = open_psf(written)
    assert (file.n_views, file.n_depths) == (4, 3)
    assert file.views == PRESET.views
    assert file.microscope == PRESET
    torch.testing.assert_close(file.read(), psf, rtol=0, atol=0)
    torch.testing.assert_close(file.read([2, 0]), psf[[2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(file.read_shift(), psf_shift(psf), rtol=0, atol=0)
    torch.testing.assert_close(file.read_shift([3]), psf_shift(psf)[[3]], rtol=0, atol=0)


def test_hdf5_holds_what_the_readme_says(written: Path) -> None:
    with h5py.File(written) as file:
        assert file["psf"].shape == (4, 3, 11, 11)
        assert file["psf"].dtype == np.float32
        assert file["shift"].shape == (4, 3, 2)
        assert file["shift"].dtype == np.float32
        assert np.issubdtype(file["views"].dtype, np.integer)
        assert list(file["views"]) == [84, 70, 98, 12]
        told = PRESET.model_dump()
        # What is as usual is not told.
        assert set(LightFieldMicroscope.model_fields) - set(told) == {
            "z_direction",
            "voxels_a_lens",
        }
        for name in told:
            np.testing.assert_array_equal(file.attrs[name], getattr(PRESET, name))
        assert "sums to 1" in file.attrs["normalisation"]


def test_a_psf_must_have_the_presets_views_and_depths(tmp_path: Path, psf: Tensor) -> None:
    with pytest.raises(OpticsError, match="4 views and 3 depths"):
        write_psf(tmp_path / "psf.h5", psf[:2], PRESET)
    assert not list(tmp_path.iterdir())


def matlab_psf(n_num: int = 3, depths: int = 2, height: int = 7, width: int = 7) -> Tensor:
    """Return all views (A, D, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n_num**2, depths, height, width, generator=generator)


def write_matlab(path: Path, psf: Tensor, reverse: bool = True) -> None:
    """Write ``psf`` of size (H, W, U, V, D), as MATLAB -v7.3 does when reversed."""
    n_num = round(len(psf) ** 0.5)
    array = psf.unflatten(0, (n_num, n_num)).permute(3, 4, 0, 1, 2).numpy()
    with h5py.File(path, "w", userblock_size=512) as file:
        file["psf"] = array.transpose() if reverse else array
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")


@pytest.mark.parametrize("reverse", [True, False], ids=["matlab", "same-order"])
@pytest.mark.parametrize("depths", [1, 2, 3, 7])
def test_matlab_files_are_read(tmp_path: Path, reverse: bool, depths: int) -> None:
    psf = matlab_psf(depths=depths)
    path = tmp_path / "psf.mat"
    write_matlab(path, psf, reverse)
    file = open_psf(path)
    assert (file.n_views, file.n_depths) == (9, depths)
    assert file.views == tuple(range(9))
    assert file.microscope is None
    torch.testing.assert_close(file.read(), psf, rtol=0, atol=0)
    torch.testing.assert_close(file.read([5, 1]), psf[[5, 1]], rtol=0, atol=0)
    torch.testing.assert_close(file.read_shift(), psf_shift(psf))


@pytest.mark.parametrize("compressed", [True, False])
def test_older_matlab_files_are_read(tmp_path: Path, compressed: bool) -> None:
    psf = matlab_psf(n_num=3, depths=2, height=3, width=3)
    array = psf.unflatten(0, (3, 3)).permute(3, 4, 0, 1, 2).numpy()
    path = tmp_path / "psf.mat"
    savemat(path, {"psf": array, "other": np.ones(3)}, do_compression=compressed)
    file = open_psf(path)
    assert (file.n_views, file.n_depths) == (9, 2)
    torch.testing.assert_close(file.read([5, 1]), psf[[5, 1]], rtol=0, atol=0)
    savemat(path, {"other": np.ones(3)})
    assert "no array psf in it" in refusal(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "not a PSF file, or damaged" in refusal(path)


def test_a_matlab_support_need_not_be_square(tmp_path: Path) -> None:
    psf = matlab_psf(height=9, width=5)
    write_matlab(tmp_path / "psf.mat", psf)
    torch.testing.assert_close(open_psf(tmp_path / "psf.mat").read(), psf, rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda psf: psf, id="tensor"),
        pytest.param(lambda psf: psf[None], id="batch"),
        pytest.param(lambda psf: {"psf": psf, "note": 1}, id="dictionary"),
        pytest.param(lambda psf: psf.double(), id="float64"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older-format"])
def test_tensors_are_read(
    tmp_path: Path, wrap: Callable[[Tensor], Any], zipped: bool, psf: Tensor
) -> None:
    path = tmp_path / "psf.pt"
    torch.save(wrap(psf), path, _use_new_zipfile_serialization=zipped)
    file = open_psf(path)
    assert (file.n_views, file.n_depths) == (4, 3)
    assert file.views is None
    assert file.microscope is None
    assert file.read().dtype == torch.float32
    torch.testing.assert_close(file.read([3, 1]), psf[[3, 1]], rtol=0, atol=0)
    torch.testing.assert_close(file.read_shift(), psf_shift(psf))


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def refusal(path: Path) -> str:
    with pytest.raises(OpticsError) as failure:
        open_psf(path).read()
    message = str(failure.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".mat", ".pt", ".pth"])
@pytest.mark.parametrize("content", [b"", b"just text\n" * 50], ids=["empty", "text"])
def test_foreign_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"psf{suffix}"
    path.write_bytes(content)
    assert "not a PSF file, or damaged" in refusal(path)


def test_missing_files_and_unknown_endings_are_named(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "psf.h5")
    assert "no such file" in refusal(tmp_path)
    (tmp_path / "psf.npy").write_bytes(b"")
    assert ".h5, .mat or .pt" in refusal(tmp_path / "psf.npy")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, written: Path, keep: float) -> None:
    torch.save(torch.rand(2, 2, 50, 50), tmp_path / "psf.pt")
    write_matlab(tmp_path / "psf.mat", matlab_psf())
    for path in (written, tmp_path / "psf.pt", tmp_path / "psf.mat"):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep * len(whole))])
        assert "not a PSF file, or damaged" in refusal(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_older_matlab_files_of_other_types_are_refused(tmp_path: Path, compressed: bool) -> None:
    """SciPy ends the whole program at a matrix where values should be."""
    path = tmp_path / "psf.mat"
    savemat(path, {"other": [1], "psf": np.ones((9, 9, 3, 3, 2), np.float32)})
    assert open_psf(path).n_views == 9
    content = bytearray(path.read_bytes())
    at = content.rindex(b"psf\0") + 4
    content[at : at + 4] = (14).to_bytes(4, "little")
    if compressed:
        start = content.index(b"\x0e\0\0\0", 200)
        packed = zlib.compress(content[start:])
        tag = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little")
        content[start:] = tag + packed
    path.write_bytes(content)
    assert "psf is no array of numbers" in refusal(path)
    savemat(path, {"psf": "text"})
    assert "psf is no array of numbers" in refusal(path)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_code_in_a_file_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_pickle: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "psf.pt"
    if plain_pickle:
        path.write_bytes(pickle.dumps(_Code(), protocol=2))
    else:
        torch.save({"psf": _Code()}, path)
    assert "not a PSF file, or damaged" in refusal(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [torch.zeros(3, 4, 5), {"other": torch.zeros(1)}, [1, 2]], ids=str
)
def test_other_tensors_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "psf.pt")
    assert "expected a tensor" in refusal(tmp_path / "psf.pt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("psf", None),
        ("psf", np.zeros((4, 3, 11), np.float32)),
        ("psf", np.array([[[[b"text"]]]])),
        ("psf/inner", np.zeros(3)),
        ("shift", np.zeros((4, 2, 2), np.float32)),
        ("views", np.arange(3)),
    ],
    ids=["no-psf", "3D", "text", "group", "shift-of-another", "views-of-another"],
)
def test_hdf5_of_other_content_is_refused(written: Path, name: str, value: Any) -> None:
    with h5py.File(written, "r+") as file:
        del file[name.split("/")[0]]
        if value is not None:
            file[name] = value
    assert "not a PSF file, or damaged" in refusal(written)


@pytest.mark.parametrize("sides", [(4, 3, 10**6, 10**6), (4, 3, 0, 9)])
def test_sides_that_the_file_cannot_hold_are_refused(written: Path, sides: tuple[int, ...]) -> None:
    with h5py.File(written, "r+") as file:
        del file["psf"]
        file.create_dataset("psf", sides, np.float32, maxshape=(None,) * 4, compression="gzip")
    assert "not a PSF file, or damaged (sides " in refusal(written)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5])
def test_impossible_values_are_refused(written: Path, value: float) -> None:
    with h5py.File(written, "r+") as file:
        file["psf"][1, 2, 3, 4] = value
        file["shift"][1, 2, 0] = np.nan
    assert "NaN, infinite or negative PSF values" in refusal(written)
    with pytest.raises(OpticsError, match="infinite PSF shift"):
        open_psf(written).read_shift()


def test_wrong_attributes_are_named(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file.attrs["wavelength_um"]
        file.attrs["magnification"] = -1
    message = refusal(written)
    assert "magnification" in message
    assert "wavelength_um" in message


@pytest.mark.parametrize(("name", "value"), [("views", [84, 70, 98, 13]), ("depths_um", [0.0])])
def test_attributes_of_another_psf_are_refused(written: Path, name: str, value: Any) -> None:
    with h5py.File(written, "r+") as file:
        file.attrs[name] = value
    assert "not those of its optics attributes" in refusal(written)


@pytest.mark.parametrize("channels", [[4], [-1], []])
def test_channels_outside_the_file_are_named(written: Path, channels: list[int]) -> None:
    file = open_psf(written)
    for read in (file.read, file.read_shift):
        with pytest.raises(OpticsError, match="it has 0 to 3"):
            read(channels)


@pytest.mark.parametrize("n_views", [4, 49])
def test_views_without_light_are_refused(tmp_path, n_views):
    path = tmp_path / "psf.pt"
    psf = torch.ones(n_views, 2, 5, 5)
    psf[2] = 0
    torch.save(psf, path)
    file = open_psf(path)
    assert file.read([0, 1, 3]).shape == (3, 2, 5, 5)
    with pytest.raises(OpticsError, match="no light in view 2 of the PSF"):
        file.read()
