"""PSF files: this project's HDF5, MATLAB's files, published as v7.3, and PyTorch tensors.

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
from optics.lightfield.psf_layout import (
    REVERSED,
    SAME,
    TENSORS,
    exchanged,
    fitting_orders,
    rows_are_rows,
    rows_are_rows_of,
    views_of,
)
from optics.lightfield.psf_matlab import load_matlab

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
    order
        In which order the file holds its axes, a letter each: views A, or their rows U and columns
        V, depths D, rows H and columns W of pixels. `read` gives (A, D, H, W) all the same.
    is_order_known
        Whether the file tells rows from columns.
    """

    path: Path
    n_views: int
    n_depths: int
    views: tuple[int, ...] | None
    microscope: LightFieldMicroscope | None
    order: str = "ADHW"
    is_order_known: bool = True

    @property
    def remark(self) -> str | None:
        """What a user should know of how it is read; ``None``: nothing."""
        axes = ", ".join(self.order)
        if not self.is_order_known:
            return (
                f"warning: {self.path}: taken as ({axes}); nothing in it tells rows from columns: "
                "look whether the result is sharp, or give a file of 'serenet psf'"
            )
        if self.order not in (*REVERSED, *SAME, *TENSORS):
            return f"{self.path}: read as ({axes}), as the light of its views tells"
        return None

    def read(self, channels: Sequence[int] | None = None) -> Tensor:
        """Read the PSF of some channels (default: all): (A, D, H, W), float32."""
        wanted = self._wanted(channels)
        with _reading(self.path) as source:
            if isinstance(source, _Foreign):
                source.order = self.order
            psf = torch.stack([torch.from_numpy(source.view(a)) for a in wanted])
        if not torch.isfinite(psf).all() or float(psf.min()) < 0:
            raise OpticsError(f"{self.path}: NaN, infinite or negative PSF values; make it again")
        dark = [a for a, view in zip(wanted, psf, strict=True) if float(view.max()) == 0]
        # Of all views of a lens, those beyond the pupil may be dark.
        whole = self.views == tuple(range(self.n_views))
        if dark and not (whole and len(dark) < self.n_views):
            raise OpticsError(f"{self.path}: no light in view {dark[0]} of the PSF; make it again")
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
        """Return a view, (D, H, W)."""
        raise NotImplementedError


class _HDF5(_Source):
    def __init__(self, file: h5py.File) -> None:
        self.file = file
        psf, shift, views = (file[name] for name in ("psf", "shift", "views"))
        if psf.ndim != 4 or shift.shape != (*psf.shape[:2], 2) or views.shape != psf.shape[:1]:
            raise ValueError("psf, shift and views do not belong together")
        _require_values(psf)
        self.shape = psf.shape[:2]

    def view(self, channel: int) -> NDArray[np.float32]:
        """Return a view, (D, H, W)."""
        return np.asarray(self.file["psf"][channel], dtype=np.float32)


class _Foreign(_Source):
    """An array whose axes lie in some order, see `optics.lightfield.psf_layout`."""

    def __init__(self, array: Any, orders: Sequence[str], content: Any = None) -> None:
        self.array, self.file, self.order = array, content, orders[0]
        self._sides = dict(zip(self.order, array.shape, strict=True))
        self.n_num = self._sides.get("U", 0)
        n_views = self._sides.get("A", self.n_num * self._sides.get("V", 0))
        self.shape = (n_views, self._sides["D"])

    def view(self, channel: int, planes: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return a view, all planes or some, (D, H, W)."""
        if planes is not None:
            return np.concatenate([self._part(channel, slice(d, d + 1)) for d in planes])
        return self._part(channel, slice(None))

    def _part(self, channel: int, planes: slice) -> NDArray[np.float32]:
        u, v = divmod(channel, self.n_num) if self.n_num else (0, 0)
        places: dict[str, int | slice] = {"A": channel, "U": u, "V": v, "D": planes}
        part = self.array[tuple(places.get(axis, slice(None)) for axis in self.order)]
        left = [axis for axis in self.order if axis in "DHW"]
        values = part.float().numpy() if isinstance(part, Tensor) else np.asarray(part)
        ordered = values.transpose([left.index(axis) for axis in "DHW"])
        return np.ascontiguousarray(ordered, dtype=np.float32)


def _require_values(psf: h5py.Dataset) -> None:
    """Raise `ValueError` unless the values of an array fit into its file."""
    held = Path(psf.file.filename).stat().st_size
    # Nothing is packed closer by deflate (RFC 1951): 258 values in 2 bits.
    most = held if psf.compression is None else 1032 * held
    if not 0 < psf.nbytes <= most:
        raise ValueError(f"sides {psf.shape} in a file of {held} bytes")


def _matlab(file: Any, *, is_hdf5: bool) -> _Foreign:
    """Return ``psf`` of size (H, W, U, V, D) or (H, W, A, D) in MATLAB, which HDF5 reverses.

    A file written with the same axes by another program is told apart by where its equal pairs
    of sides are.
    """
    shape = file["psf"].shape
    if is_hdf5:
        _require_values(file["psf"])
    orders = fitting_orders(shape, (*REVERSED, *SAME) if is_hdf5 else SAME)
    if not orders:
        raise ValueError(f"psf of size (H, W, U, V, D) expected, found {shape[::-1]}")
    return _Foreign(file["psf"], orders)


def _tensor(path: Path) -> _Foreign:
    # The older of PyTorch's formats, no zip file, cannot be mapped into memory.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    psf = content.get("psf") if isinstance(content, dict) else content
    if not isinstance(psf, Tensor):
        raise ValueError("expected a tensor")
    psf = psf.squeeze(0) if psf.dim() == 5 and psf.shape[0] == 1 else psf
    orders = fitting_orders(psf.shape, TENSORS)
    if not orders:
        raise ValueError(f"expected a tensor (A, D, H, W), found {tuple(psf.shape)}")
    if len(orders) > 1:
        raise ValueError(f"its sides {tuple(psf.shape)} do not tell which axes are the views")
    return _Foreign(psf, orders, content)


@contextmanager
def _reading(path: Path) -> Iterator[_Source]:
    if not path.is_file():
        raise OpticsError(f"{path}: no such file; make it with 'serenet psf'")
    suffix = path.suffix.lower()
    try:
        if suffix == ".mat" and not h5py.is_hdf5(path):
            yield _matlab(load_matlab(path, path.stat().st_mtime), is_hdf5=False)
        elif suffix in _HDF5_SUFFIXES or suffix == ".mat":
            with h5py.File(path, "r") as file:
                yield _HDF5(file) if suffix != ".mat" else _matlab(file, is_hdf5=True)
        elif suffix in (".pt", ".pth"):
            yield _tensor(path)
        else:
            raise OpticsError(f"{path}: a PSF is a .h5, .mat or .pt file")
    except _UNREADABLE as fault:
        if isinstance(fault, OpticsError):
            raise
        reason = " ".join(str(fault).split())[:120]
        raise OpticsError(
            f"{path}: not a PSF file, or damaged ({reason}); make it again"
        ) from fault


def open_psf(path: str | Path, microscope: LightFieldMicroscope | None = None) -> PSFFile:
    """Inspect a PSF file: HDF5, MATLAB's ``.mat`` of any version, or a tensor in ``.pt``.

    Arrays of MATLAB are (H, W, U, V, D), or (H, W, A, D) of some views; tensors are (A, D, H, W),
    (A, D, W, H), or have all views on axes of their own. What is what, is told by the sides, by
    the PSF shift beside a tensor (``shift`` or ``psfshift``), and by where the light of the views
    goes out of focus.

    Parameters
    ----------
    path
        The file.
    microscope
        Tells which views it holds where the file does not; default: the preset of so many.

    Returns
    -------
    PSFFile
        What it is; its views are read when asked for.

    Raises
    ------
    OpticsError
        If the file is missing, damaged, of another kind, or carries code.

    Examples
    --------
    >>> import optics
    >>> microscope = optics.presets["nnum13"].with_depths([0.0]).with_views([84])
    >>> optics.write_psf("psf.h5", optics.phase_space_psf(microscope, size=21), microscope)
    >>> file = optics.open_psf("psf.h5")
    >>> file.read().shape, file.read_shift().shape
    (torch.Size([1, 1, 21, 21]), torch.Size([1, 1, 2]))
    """
    path = Path(path)
    with _reading(path) as source:
        if isinstance(source, _HDF5):
            views = tuple(int(a) for a in source.file["views"][()])
            told = _microscope_from_attributes(source.file.attrs, path)
            if told.views != views or len(told.depths_um) != source.shape[1]:
                raise OpticsError(
                    f"{path}: its views or depths are not those of its optics attributes; "
                    "make it again with 'serenet psf'"
                )
            return PSFFile(path, *source.shape, views, told)
        assert isinstance(source, _Foreign)
        all_views = tuple(range(source.n_num**2)) or None
        if path.suffix.lower() == ".mat" and source.n_num:
            return PSFFile(path, *source.shape, all_views, None, source.order)
        straight = _rows_are_rows(source, microscope)
        order = exchanged(source.order) if straight is False else source.order
        return PSFFile(path, *source.shape, all_views, None, order, straight is not None)


def _rows_are_rows(source: _Foreign, microscope: LightFieldMicroscope | None) -> bool | None:
    """Tell whether rows of pixels are those of views, ``None`` where the file does not tell."""
    (n_views, n_depths), content = source.shape, source.file
    if isinstance(content, dict):
        shift = content.get("shift", content.get("psfshift"))
        if isinstance(shift, Tensor) and shift.shape == (n_views, n_depths, 2):
            planes = sorted({0, n_depths - 1})
            psf = torch.from_numpy(np.stack([source.view(a, planes) for a in range(n_views)]))
            return rows_are_rows_of(psf, shift[:, planes].float())
    n_num, views = views_of(n_views, microscope)
    if source.n_num:
        n_num, views = source.n_num, tuple(range(n_views))

    def read(channel: int) -> Tensor:
        return torch.from_numpy(source.view(channel, (0, n_depths - 1)))

    return rows_are_rows(read, n_num, views) if views else None


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
    path: str | Path,
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

    Examples
    --------
    >>> import torch, optics
    >>> microscope = optics.presets["nnum13"].with_depths([0.0]).with_views([84])
    >>> optics.write_psf("flat.h5", torch.ones(1, 1, 5, 5), microscope)
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
