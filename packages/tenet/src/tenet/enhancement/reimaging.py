"""Structure and brightness imaged again by the model's microscope, window by window."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.cuts import Span, least_work, possible_cuts, smallest_part, with_surround
from scopekit.errors import Page, UserError
from scopekit.images.plane_file import Planes
from scopekit.memory import GB, MemoryBudget
from tenet.network.jnet import JNet

Array = NDArray[np.float32]
_PLANNED = 0.7
_WORK_SPACE = 100_000_000
# Numbers held at once per voxel of the window: the volume, its phases, three spectra.
_VALUES = 8.0


@dataclass(frozen=True)
class Window:
    """A part of the reconstruction.

    Attributes
    ----------
    core
        First and last (exclusive) voxel on each axis (z, y, x).
    voxels
        How many there are with the surround that its light comes from.
    """

    core: tuple[Span, Span, Span]
    voxels: int

    def place(self) -> tuple[slice, ...]:
        """Return where the part lies in the reconstruction."""
        return tuple(slice(*span) for span in self.core)


def _reach(model: JNet) -> tuple[tuple[int, int], ...]:
    """Return how many voxels of the result the kernel reaches before and behind, on each axis."""
    image = model.image
    axes = zip(image.size_zyx, image.padding, strict=True)
    return tuple((before, size - 1 - before) for size, before in axes)


def plan_windows(
    model: JNet,
    shape: tuple[int, ...],
    budget: MemoryBudget,
    blocks: tuple[int, int, int] = (1, 1, 1),
) -> list[Window]:
    """Cut a reconstruction into windows whose blur fits the memory budget.

    Parameters
    ----------
    model
        The network, with its microscope.
    shape
        (Z, Y, X) of the reconstruction.
    budget
        What may be allocated.
    blocks
        What the reconstruction is stored in blocks of: windows are to be made of whole ones.

    Raises
    ------
    UserError
        If not even the smallest window fits.
    """
    scale = model.image.scale
    (before, behind), *lateral = _reach(model)
    halos = [math.ceil(max(before, behind) / scale), *(max(pair) for pair in lateral)]
    smallest = [max(1, halos[0] // 2), *(max(8, halo // 2) for halo in halos[1:])]
    possible = [
        possible_cuts(n, halo, step, max(least, step))
        for n, halo, step, least in zip(shape, halos, blocks, smallest, strict=True)
    ]
    largest = (budget.available * _PLANNED - _WORK_SPACE) / (4 * _VALUES * scale)
    cuts = least_work(possible, largest)
    if cuts is None:
        least = bytes_for_window(model, smallest_part(possible))
        needed = math.ceil((budget.total - budget.available + least) / GB * 20) / 20
        raise UserError(
            f"`max_memory_gb={budget.total / GB:.2f}` is too small for a PSF of "
            f"{model.image.size_zyx} voxels; give at least {needed:.2f}",
            page=Page.memory,
        )
    windows = []
    for z, y, x in itertools.product(*(cut.cores for cut in cuts)):
        spans = map(with_surround, (z, y, x), shape, halos)
        windows.append(Window((z, y, x), math.prod(stop - start for start, stop in spans)))
    return windows


def bytes_for_window(model: JNet, voxels: float) -> float:
    """Return the memory that a window of so many voxels, surround included, takes."""
    return (voxels * 4 * _VALUES * model.image.scale + _WORK_SPACE) / _PLANNED


def reimage_window(
    model: JNet, section: Tensor, structure: Planes, brightness: Planes, window: Window
) -> Array:
    """Return a window of the image of structure times brightness, clamped to [0, 1].

    All that the PSF reaches is taken into account, so windows fit without a seam.

    Parameters
    ----------
    model
        The network, in evaluation mode.
    section
        Of its PSF, ``model.image.section()``.
    structure, brightness
        (Z scale, Y, X), whole; only what the window needs is read.
    window
        From `plan_windows`.
    """
    scale = model.image.scale
    spans, inner = [], []
    for (start, stop), (before, behind), n, step in zip(
        window.core, _reach(model), structure.shape, (scale, 1, 1), strict=True
    ):
        first = max(start * step - before, 0) // step
        last = min((stop - 1) * step + behind + 1, n)
        last = min(math.ceil(last / step), n // step)
        # Whole recorded planes: the blur takes its first plane for the first of one.
        spans.append(slice(first * step, max(last, stop) * step))
        inner.append(slice(start - first, stop - first))
    device = section.device
    bright, light = (
        torch.from_numpy(np.ascontiguousarray(volume[tuple(spans)])).to(device)
        for volume in (structure, brightness)
    )
    if model.params.use_x_quantized:
        bright = (bright >= model.params.threshold).float()
    image = model.image((bright * light)[None, None], section).clamp_(0, 1)
    part: Array = image[(0, 0, *inner)].cpu().numpy()
    return part
