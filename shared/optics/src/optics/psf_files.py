"""PSF files: this project's HDF5, the published MATLAB v7.3 files, and PyTorch tensors.

HDF5 layout: ``psf`` (A, D, H, W) float32; ``shift`` (A, D, 2) float32, row and column in object
pixels; ``views`` (A,) int; the microscope's parameters as attributes of the file.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from optics.errors import OpticsError
from optics.geometry import LightFieldPreset
from optics.phase_space import psf_shift

_HDF5_SUFFIXES = (".h5", ".hdf5")
_MATLAB_AXES = "psf stored as (H, W, U, V, D)"


@dataclass(frozen=True)
class PSFFile:
    """A PSF on disk whose views are read when asked for.

    Attributes
    ----------
    path
        The file.
    views
        View indices in the order of the file's channels; ``None`` if the file does not tell.
    n_depths
        Number of planes.
    preset
        The microscope with the PSF's own depths and views; ``None`` if the file does not tell.
    """

    path: Path
    n_views: int
    n_depths: int
    views: tuple[int, ...] | None
    preset: LightFieldPreset | None

    def read(self, channels: Sequence[int] | None = None) -> Tensor:
        """Read the PSF of some channels (default: all): (A, D, H, W), float32."""
        wanted = range(self.n_views) if channels is None else channels
        with _reading(self.path) as source:
            psf = torch.stack([torch.from_numpy(source.view(a)) for a in wanted])
        if not torch.isfinite(psf).all() or float(psf.min()) < 0:
            raise OpticsError(f"{self.path}: NaN, infinite or negative PSF values; make it again")
        return psf

    def read_shift(self, channels: Sequence[int] | None = None) -> Tensor:
        """Return the centre of mass (A, D, 2) in object pixels, from the file or the PSF."""
        wanted = range(self.n_views) if channels is None else channels
        if self.path.suffix.lower() in _HDF5_SUFFIXES:
            with _reading(self.path) as source:
                return torch.from_numpy(source.file["shift"][()].astype(np.float32))[list(wanted)]
        return torch.cat([psf_shift(self.read([a])) for a in wanted])


class _Source:
    """One open file: its shape, and single views as (D, H, W) float32."""

    file: Any
    shape: tuple[int, int]

    def view(self, channel: int) -> NDArray[np.float32]:
        raise NotImplementedError


class _HDF5(_Source):
    def __init__(self, file: h5py.File) -> None:
        self.file = file
        psf, shift, views = (file[name] for name in ("psf", "shift", "views"))
        if psf.ndim != 4 or shift.shape != (*psf.shape[:2], 2) or views.shape != psf.shape[:1]:
            raise ValueError("psf, shift and views do not belong together")
        self.shape = psf.shape[:2]

    def view(self, channel: int) -> NDArray[np.float32]:
        return np.asarray(self.file["psf"][channel], dtype=np.float32)


class _Matlab(_Source):
    """MATLAB writes its axes in reverse: (H, W, U, V, D) is (D, V, U, W, H) in the file."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        shape = file["psf"].shape
        if len(shape) != 5 or shape[1] != shape[2]:
            raise ValueError(f"expected {_MATLAB_AXES}")
        self.n_num = shape[2]
        self.shape = (self.n_num**2, shape[0])

    def view(self, channel: int) -> NDArray[np.float32]:
        u, v = divmod(channel, self.n_num)
        stored = self.file["psf"][:, v, u]
        return np.ascontiguousarray(stored.transpose(0, 2, 1), dtype=np.float32)


class _Torch(_Source):
    def __init__(self, path: Path) -> None:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(content, dict):
            content = content.get("psf")
        if not isinstance(content, Tensor):
            raise ValueError("expected a tensor")
        content = content.squeeze(0) if content.dim() == 5 and content.shape[0] == 1 else content
        if content.dim() != 4:
            raise ValueError(f"expected a tensor (A, D, H, W), found {tuple(content.shape)}")
        self.file = content
        self.shape = (content.shape[0], content.shape[1])

    def view(self, channel: int) -> NDArray[np.float32]:
        plane: NDArray[np.float32] = self.file[channel].float().numpy()
        return plane


@contextmanager
def _reading(path: Path) -> Iterator[_Source]:
    if not path.is_file():
        raise OpticsError(f"{path}: no such file; make it with 'serenet psf'")
    suffix = path.suffix.lower()
    try:
        if suffix in _HDF5_SUFFIXES or suffix == ".mat":
            with h5py.File(path, "r") as file:
                yield _HDF5(file) if suffix != ".mat" else _Matlab(file)
        elif suffix in (".pt", ".pth"):
            yield _Torch(path)
        else:
            raise OpticsError(f"{path}: a PSF is a .h5, .mat (v7.3) or .pt file")
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as fault:
        if isinstance(fault, OpticsError):
            raise
        reason = " ".join(str(fault).split())[:120]
        raise OpticsError(
            f"{path}: not a PSF file, or damaged ({reason}); make it again"
        ) from fault


def open_psf(path: Path) -> PSFFile:
    """Inspect a PSF file: HDF5, the published MATLAB v7.3 ``.mat``, or a tensor in ``.pt``.

    Raises
    ------
    OpticsError
        If the file is missing, damaged, of another kind, or carries code.
    """
    with _reading(path) as source:
        views: tuple[int, ...] | None = None
        preset = None
        if isinstance(source, _HDF5):
            views = tuple(int(a) for a in source.file["views"][()])
            preset = _preset_from_attributes(source.file.attrs, path)
        elif isinstance(source, _Matlab):
            views = tuple(range(source.n_num**2))
        return PSFFile(path, source.shape[0], source.shape[1], views, preset)


def _preset_from_attributes(attributes: Any, path: Path) -> LightFieldPreset:
    values = {
        name: attributes[name] for name in LightFieldPreset.model_fields if name in attributes
    }
    plain = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}
    try:
        return LightFieldPreset.model_validate(plain)
    except ValidationError as failure:
        names = ", ".join(str(e["loc"][0]) if e["loc"] else e["msg"] for e in failure.errors())
        raise OpticsError(
            f"{path}: its optics attributes are missing or wrong ({names}); "
            "make it again with 'serenet psf'"
        ) from failure


def write_psf(path: Path, psf: Tensor, preset: LightFieldPreset) -> None:
    """Write a PSF as HDF5 with its shift and the microscope.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    psf
        (A, D, H, W), A and D those of ``preset.views`` and ``preset.depths_um``.
    preset
        The microscope with the depths and views of this PSF.
    """
    if tuple(psf.shape[:2]) != (len(preset.views), len(preset.depths_um)):
        raise OpticsError(
            f"psf {tuple(psf.shape)} does not have the preset's {len(preset.views)} views and "
            f"{len(preset.depths_um)} depths"
        )
    with h5py.File(path, "w") as file:
        file.create_dataset("psf", data=psf.numpy(), chunks=(1, *psf.shape[1:]))
        file.create_dataset("shift", data=psf_shift(psf).numpy())
        file.create_dataset("views", data=np.asarray(preset.views, dtype=np.int64))
        for name, value in preset.model_dump().items():
            file.attrs[name] = value
        file.attrs["normalisation"] = "the central view sums to 1 over an unbounded support"
