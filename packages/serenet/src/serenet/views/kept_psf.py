"""The PSF of a microscope, computed once: kept in the user's cache for all runs and commands.

Only what differs is kept, the images of one octant of views on one side of the focus, a tenth of
the PSF. A file is whole or absent, and checked when it is opened; the system's own file cache keeps
it in memory as long as there is room.
"""

import hashlib
import json
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from optics import LightFieldMicroscope
from optics.lightfield.octants import OctantPSF
from scopekit.downloads.remote import cache_folder
from scopekit.errors import UserError
from scopekit.outputs import make_folder, require_space, whole_file
from scopekit.progress import progress_bar
from serenet import __version__

ROOM = 2_000_000_000
"""Bytes that kept PSFs take at most; those not used for longest go first."""

# To be raised whenever the formula or the layout changes.
_EDITION = 1
_DIGEST = hashlib.sha256().digest_size
_DAY = 86400
# They change which images are kept, or where they go, not the images.
_NOT_OPTICS = {"views", "depths_um", "z_direction"}


class ComputedPSF:
    """PSFs of the views of a microscope: ``psf(channel)`` is (1, D, h, w).

    They are computed when the first is asked for, unless an earlier run has left them.

    Parameters
    ----------
    microscope
        The microscope.
    size
        Lateral support in voxels; default: the microscope's ``psf_size``.
    """

    def __init__(self, microscope: LightFieldMicroscope, size: int | None = None) -> None:
        size = size or microscope.psf_size
        self._octants = OctantPSF(microscope, microscope.depths_um, microscope.views, size)
        self._octant_of = {
            channel: number
            for number, channels in enumerate(self._octants.members)
            for channel in channels
        }
        self._name = f"{_fingerprint(microscope, self._octants)}.psf"
        self._file: IO[bytes] | None = None
        self._last: tuple[int, Tensor] | None = None

    def __call__(self, channel: int) -> Tensor:
        """Return the PSF of a channel, (1, D, h, w)."""
        number = self._octant_of[channel]
        # Views of one octant follow one another where the most oblique come first.
        if self._last is None or self._last[0] != number:
            self._last = (number, self._images(number))
        return self._octants.mirrored(self._last[1], channel)[None]

    def whole(self) -> Tensor:
        """Return the PSF of all views, (A, D, h, w)."""
        psf = torch.empty((len(self._octant_of), *self(0).shape[1:]))
        for channel in chain(*self._octants.members):  # each octant's images are read once
            psf[channel] = self(channel)[0]
        return psf

    @property
    def n_bytes(self) -> int:
        """Size of what is kept."""
        return len(self._octants.orders) * self._n_octant * 4

    @property
    def _n_octant(self) -> int:
        return int(np.prod(self._octants.image_shape))

    def _images(self, number: int) -> Tensor:
        if self._file is None:
            self._file = self._open_or_compute()
            if self._file is not None:
                weakref.finalize(self, self._file.close)
        if self._file is None:
            order = self._octants.orders[number]
            return next(self._octants.images([order]))
        self._file.seek(number * self._n_octant * 4)
        images = np.fromfile(self._file, np.float32, self._n_octant)
        return torch.from_numpy(images.reshape(self._octants.image_shape))

    def _open_or_compute(self) -> IO[bytes] | None:
        """Return the file of all images, ``None`` if there is no room for one."""
        folder = cache_folder("serenet") / "psf"
        path = folder / self._name
        file = _open(path, self.n_bytes)
        if file is not None:
            return file
        try:
            make_folder(folder)
            _make_room(folder, self.n_bytes)
            require_space(folder, 2 * self.n_bytes)
            with whole_file(path, overwrite=True) as partial, partial.open("wb") as writing:
                self._write(writing)
            return _open(path, self.n_bytes)
        except UserError:  # no such folder, no room, or another run is writing it
            return self._nameless()

    def _nameless(self) -> IO[bytes] | None:
        with ExitStack() as resources:
            try:
                require_space(Path(tempfile.gettempdir()), 2 * self.n_bytes)
                file = resources.enter_context(tempfile.TemporaryFile())
                self._write(file)
            except (UserError, OSError):
                return None
            resources.pop_all()  # it stays open
            return file

    def _write(self, file: IO[bytes]) -> None:
        digest = hashlib.sha256()
        with progress_bar("PSF", len(self._octants.orders)) as advance:
            for images in self._octants.images():
                part = images.numpy().tobytes()
                digest.update(part)
                file.write(part)
                advance()
        file.write(digest.digest())
        file.flush()


def _fingerprint(microscope: LightFieldMicroscope, octants: OctantPSF) -> str:
    kept = {
        "edition": [_EDITION, __version__],
        "optics": microscope.model_dump(mode="json", exclude=_NOT_OPTICS),
        "distances_um": octants.distances_um,
        "orders": octants.orders,
        "side": octants.side,
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]


def _open(path: Path, n_bytes: int) -> IO[bytes] | None:
    """Open a kept file; ``None`` if there is none, or it is not what was written."""
    with suppress(OSError), ExitStack() as resources:
        file = resources.enter_context(path.open("rb"))
        whole = path.stat().st_size == n_bytes + _DIGEST
        if whole and _digest(file, n_bytes) == file.read():
            with suppress(OSError):
                path.touch()  # the last to go
            resources.pop_all()  # it stays open: another run may remove its name
            return file
    return None


def _digest(file: IO[bytes], n_bytes: int) -> bytes:
    digest = hashlib.sha256()
    for part in _parts(file, n_bytes):
        digest.update(part)
    return digest.digest()


def _parts(file: IO[bytes], n_bytes: int) -> Iterator[bytes]:
    step = 2**20
    for start in range(0, n_bytes, step):
        yield file.read(min(step, n_bytes - start))


def _make_room(folder: Path, n_bytes: int) -> None:
    """Remove the files not used for longest, and what killed runs left."""
    if n_bytes > ROOM:
        raise UserError(f"{folder}: a PSF of {n_bytes} bytes is not kept")
    for partial in folder.glob(".*.partial"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _DAY:
                partial.unlink()
    ages = []
    for path in folder.glob("*.psf"):
        with suppress(OSError):
            about = path.stat()
            ages.append((about.st_mtime, about.st_size, path))
    taken = n_bytes + sum(size for _, size, _ in ages)
    for _, size, path in sorted(ages):
        if taken <= ROOM:
            break
        with suppress(OSError):
            path.unlink()
            taken -= size
