"""A volume from views as the widget *Reconstruct* asks for it: a part of the field and planes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import serenet
from optics import LightFieldMicroscope, open_psf
from scopekit.errors import UserError
from scopekit.images.voxel import VoxelSize
from scopekit.memory import choose_device
from scopekit.napari.choices import Place
from scopekit.napari.work import Progress
from serenet.api.sources import is_psf_file
from serenet.networks.base import VolumeNetwork
from serenet.views.files import pages_of_views
from serenet.views.psf import shift_for_model

DECONVOLVED, NETWORK, REFINED = "deconvolution", "network", "network + refinement"

Planes = tuple[int, int]
"""First plane and the one behind the last."""


@dataclass(frozen=True)
class Task:
    """What to make a volume of, and how.

    Attributes
    ----------
    name
        Of the views.
    views
        (A, h, w), all of the microscope or those that it uses, with their background.
    place
        Rows and columns of the views to be used.
    planes
        Planes of the microscope to be made, ``None`` for all.
    source
        The microscope's name or YAML file, or a PSF file.
    method
        One of `DECONVOLVED`, `NETWORK`, `REFINED`.
    weights
        Of the network: a name or a file.
    sweeps, updates
        Of the deconvolution; of the refinement.
    background
        Counts to subtract; ``None`` for the 1 % quantile.
    with_refocused
        Whether to refocus the views too.
    """

    name: str
    views: NDArray[np.float32]
    place: Place
    planes: Planes | None
    source: str | Path
    method: str
    weights: str | Path
    sweeps: int
    updates: int
    background: float | None
    with_refocused: bool


@dataclass(frozen=True)
class Solved:
    """A volume, and the views refocused to its planes.

    Attributes
    ----------
    task
        What was asked for.
    volume
        (D, H, W).
    refocused
        (D, h, w), the mean of the views refocused to each plane, in view pixels; or ``None``.
    voxel_um, first_um
        (z, y, x) step; depth of the first plane.
    lateral_scale
        Volume pixels per view pixel.
    """

    task: Task
    volume: NDArray[np.float32]
    refocused: NDArray[np.float32] | None
    voxel_um: VoxelSize
    first_um: float
    lateral_scale: float


def solve(task: Task, progress: Progress) -> Solved:
    """Make the volume; raise `UserError` if views, optics and weights do not fit each other."""
    whole = serenet.load_microscope(task.source)
    pages = pages_of_views(len(task.views), whole, task.name)
    views = serenet.subtract_background(task.views[pages], task.background)
    views = np.ascontiguousarray(views[(slice(None), *task.place)])
    first, end = task.planes or (0, len(whole.depths_um))
    cut = whole if task.planes is None else whole.with_depths(whole.depths_um[first:end])
    optics = _Optics(task.source, whole, cut, slice(first, end))

    device = choose_device("auto")
    refocused = None
    if task.method == DECONVOLVED:
        progress.begin("deconvolving")
        volume = serenet.deconvolve(
            views, optics.psf(), task.sweeps, microscope=optics.told, device=device,
            on_progress=progress,
        )  # fmt: skip
    else:
        progress.begin("reading the weights")
        model = serenet.load_checkpoint(task.weights, device)
        if not isinstance(model, VolumeNetwork):
            raise UserError(f"{task.weights}: a {model.published_name} makes no volumes")
        fixed = model.n_depths is not None
        if fixed and task.planes is not None:
            raise UserError(
                f"{task.weights}: makes all its planes at once: choose the whole range of planes"
            )
        progress.begin("finding where the planes appear in the views")
        shift = cut if fixed else optics.shift()
        progress.begin("reconstructing")
        volume = serenet.reconstruct(views, model, shift, cut.lateral_scale, on_progress=progress)
        if task.method == REFINED:
            progress.begin("refining")
            volume = serenet.refine(
                volume, views, optics.psf(), task.updates, microscope=optics.told, device=device,
                on_progress=progress,
            )  # fmt: skip
    if task.with_refocused:
        progress.begin("refocusing the views")
        refocused = _refocused(views, optics.shift() / cut.lateral_scale, progress)
    return Solved(
        task, np.asarray(volume), refocused, whole.voxel_um, cut.depths_um[0], cut.lateral_scale
    )


class _Optics:
    """The PSF and its shift for some planes, from what tells the optics."""

    def __init__(
        self,
        source: str | Path,
        whole: LightFieldMicroscope,
        cut: LightFieldMicroscope,
        kept: slice,
    ) -> None:
        self._file = open_psf(source) if is_psf_file(source) else None
        self._cut, self._kept, self._is_whole = cut, kept, cut is whole
        self._shift: NDArray[np.float32] | None = None

    @property
    def told(self) -> LightFieldMicroscope | None:
        """The microscope, where the PSF alone does not tell it."""
        return None if self._file is None or self._is_whole else self._cut

    def psf(self) -> LightFieldMicroscope | Path | torch.Tensor:
        """Return what tells the PSF of these planes: of a file, only what is needed of it."""
        if self._file is None:
            return self._cut
        if self._is_whole:
            return self._file.path
        channels = range(self._file.n_views)
        return torch.cat([self._file.read([a])[:, self._kept].clone() for a in channels])

    def shift(self) -> NDArray[np.float32]:
        """Return the PSF shift (A, D, 2) in object pixels; it is found once."""
        if self._shift is None:
            if self._file is not None:
                table = self._file.read_shift()[:, self._kept]
            else:
                table, _ = shift_for_model(None, None, None, self._cut)
            self._shift = table.numpy()
        return self._shift


def _refocused(
    views: NDArray[np.float32], shift: NDArray[np.float32], progress: Progress
) -> NDArray[np.float32]:
    """Return the mean of the views refocused to each plane, (D, h, w)."""
    total = np.zeros((shift.shape[1], *views.shape[1:]), np.float32)
    for a in range(len(views)):
        total += serenet.decompose(views[a : a + 1], shift[a : a + 1])[0]
        progress(a + 1, len(views))
    total /= len(views)
    return total
