"""PSF files: this project's HDF5, the published MATLAB v7.3 files, and PyTorch tensors.

HDF5 layout: ``psf`` (A, D, H, W) float32; ``shift`` (A, D, 2) float32, row and column in object
pixels; ``views`` (A,) int; the microscope's parameters as attributes of the file, and
``aberrations``, JSON, where there are any.
"""

import json
import pickle
import zipfile
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

from optics.aberrations import Aberrations
from optics.errors import OpticsError
from optics.lightfield.microscope import LightFieldMicroscope
from optics.lightfield.psf import psf_shift

_HDF5_SUFFIXES = (".h5", ".hdf5")
_UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,  # a group where an array should be
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class PSFFile:
    """A PSF on disk whose views are read when asked for.

    Attributes
    ----------
    path
        The file.
    n_views
        Number of views, the file's channels.
    views
        View indices in the order of the file's channels; ``None`` if the file does not tell.
    n_depths
        Number of planes.
    microscope
        The microscope with the PSF's own depths and views; ``None`` if the file does not tell.
    """

    path: Path
    n_views: int
    n_depths: int
    views: tuple[int, ...] | None
    microscope: LightFieldMicroscope | None

    def read(self, channels: Sequence[int] | None = None) -> Tensor:
        """Read the PSF of some channels (default: all): (A, D, H, W), float32."""
        wanted = self._wanted(channels)
        with _reading(self.path) as source:
            psf = torch.stack([torch.from_numpy(source.view(a)) for a in wanted])
        if not torch.isfinite(psf).all() or float(psf.min()) < 0:
            raise OpticsError(f"{self.path}: NaN, infinite or negative PSF values; make it again")
        return psf

    def read_shift(self, channels: Sequence[int] | None = None) -> Tensor:
        """Return the centre of mass (A, D, 2) in object pixels, from the file or the PSF."""
        wanted = self._wanted(channels)
        if self.path.suffix.lower() not in _HDF5_SUFFIXES:
            return torch.cat([psf_shift(self.read([a])) for a in wanted])
        with _reading(self.path) as source:
            shift = torch.from_numpy(source.file["shift"][()].astype(np.float32))[wanted]
        if not torch.isfinite(shift).all():
            raise OpticsError(f"{self.path}: NaN or infinite PSF shift; make it again")
        return shift

    def _wanted(self, channels: Sequence[int] | None) -> list[int]:
        wanted = list(range(self.n_views) if channels is None else channels)
        if not wanted or not all(0 <= a < self.n_views for a in wanted):
            raise OpticsError(f"{self.path}: channels {wanted}; it has 0 to {self.n_views - 1}")
        return wanted


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
    """``psf`` of size (H, W, U, V, D) in MATLAB, which HDF5 lists in reverse.

    A file written with the same axes by another program is told apart by where its equal pairs
    of sides are.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        shape = file["psf"].shape
        if len(shape) == 5 and shape[1] == shape[2]:
            self.reversed = True
            self.shape = (shape[1] ** 2, shape[0])
        elif len(shape) == 5 and shape[0] == shape[1] and shape[2] == shape[3]:
            self.reversed = False
            self.shape = (shape[2] ** 2, shape[4])
        else:
            raise ValueError(f"psf of size (H, W, U, V, D) expected, found {shape[::-1]}")
        self.n_num = shape[2]

    def view(self, channel: int) -> NDArray[np.float32]:
        u, v = divmod(channel, self.n_num)
        psf = self.file["psf"]
        if self.reversed:
            stored = psf[:, v, u].transpose(0, 2, 1)
        else:
            stored = psf[:, :, u, v].transpose(2, 0, 1)
        return np.ascontiguousarray(stored, dtype=np.float32)


class _Torch(_Source):
    def __init__(self, path: Path) -> None:
        # The older of PyTorch's formats, no zip file, cannot be mapped into memory.
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
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
    except _UNREADABLE as fault:
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
        microscope = None
        if isinstance(source, _HDF5):
            views = tuple(int(a) for a in source.file["views"][()])
            microscope = _microscope_from_attributes(source.file.attrs, path)
            if microscope.views != views or len(microscope.depths_um) != source.shape[1]:
                raise OpticsError(
                    f"{path}: its views or depths are not those of its optics attributes; "
                    "make it again with 'serenet psf'"
                )
        elif isinstance(source, _Matlab):
            views = tuple(range(source.n_num**2))
        return PSFFile(path, source.shape[0], source.shape[1], views, microscope)


def _microscope_from_attributes(attributes: Any, path: Path) -> LightFieldMicroscope:
    values = {
        name: attributes[name] for name in LightFieldMicroscope.model_fields if name in attributes
    }
    plain = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}
    try:
        return LightFieldMicroscope.model_validate(plain)
    except ValidationError as failure:
        names = ", ".join(str(e["loc"][0]) if e["loc"] else e["msg"] for e in failure.errors())
        raise OpticsError(
            f"{path}: its optics attributes are missing or wrong ({names}); "
            "make it again with 'serenet psf'"
        ) from failure


def write_psf(
    path: Path,
    psf: Tensor,
    microscope: LightFieldMicroscope,
    aberrations: Aberrations | None = None,
) -> None:
    """Write a PSF as HDF5 with its shift and the microscope.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    psf
        (A, D, H, W), A and D those of ``microscope.views`` and ``microscope.depths_um``.
    microscope
        The microscope with the depths and views of this PSF.
    aberrations
        Those that the PSF was computed with; kept as an attribute, for the record.
    """
    if tuple(psf.shape[:2]) != (len(microscope.views), len(microscope.depths_um)):
        raise OpticsError(
            f"psf {tuple(psf.shape)} does not have the {len(microscope.views)} views and "
            f"{len(microscope.depths_um)} depths of the microscope"
        )
    with h5py.File(path, "w") as file:
        values = psf.detach().cpu().float()
        file.create_dataset("psf", data=values.numpy(), chunks=(1, *psf.shape[1:]))
        file.create_dataset("shift", data=psf_shift(values).numpy())
        file.create_dataset("views", data=np.asarray(microscope.views, dtype=np.int64))
        for name, value in microscope.model_dump().items():
            file.attrs[name] = value
        if aberrations:
            file.attrs["aberrations"] = json.dumps(dict(aberrations))
        file.attrs["normalisation"] = "the central view sums to 1 over an unbounded support"
