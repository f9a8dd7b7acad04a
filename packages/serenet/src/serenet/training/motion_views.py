"""Central views of 3 x 3-scanned light fields, to train motion correction with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import PartialVoxelSize, StackFile, stack_stem
from scopekit.progress import say
from serenet.motion.correction import brightness_range
from serenet.training.sections import Data
from serenet.views.files import find_stacks, open_scanned

Image = NDArray[np.float32]
_PEAK_QUANTILE = 0.9999
_ALL = slice(None)


@dataclass(frozen=True)
class ScannedView:
    """The central view of one time point, and the same of the sample at rest, if known.

    Attributes
    ----------
    source
        The file's name, for messages.
    voxel_um
        (z, y, x) step, um; 1 where the file does not tell.
    view
        (H, W), divided by its 99.99 percentile.
    dark_and_bright
        What the network takes as 0 and 1, see `serenet.motion.correction.brightness_range`.
    still
        (H, W), divided by the same.
    """

    source: str
    voxel_um: PartialVoxelSize
    view: Image
    dark_and_bright: tuple[float, float]
    still: Image | None


def read_scanned_views(data: Data, crop: int) -> list[ScannedView]:
    """Read the central views of all time points of all stacks in a folder.

    The central view is the middle page of a stack, which may hold one page or many.

    Parameters
    ----------
    data
        ``views``: the folder; ``volumes``: that of the views of the samples at rest,
        ``NAME.tif`` or ``NAME_still.tif`` for ``NAME.tif``.
    crop
        Side of the crops that will be taken, view pixels.

    Raises
    ------
    UserError
        If a folder is missing or empty, or a file is not a stack of scanned views, is smaller
        than a crop, or does not pair with its views at rest.
    """
    assert data.views is not None
    files = find_stacks([data.views])[: data.first]
    if data.last is not None:
        files = files[-data.last :]
    at_rest = {stack_stem(p): p for p in find_stacks([data.volumes])} if data.volumes else {}
    found = []
    for path in files:
        stack = open_scanned(path)
        if min(stack.shape[-2:]) < crop:
            raise UserError(
                f"{path}: views of {stack.shape[-2]} x {stack.shape[-1]} pixels, the crop is "
                f"{crop}: lower crop to {min(stack.shape[-2:])}"
            )
        still = _at_rest(stack, at_rest, data.volumes) if data.volumes else None
        found += [_scanned_view(stack, frame, still) for frame in range(stack.n_frames)]
    return found


def _at_rest(stack: StackFile, at_rest: dict[str, Path], folder: Path) -> StackFile:
    stem = stack_stem(stack.path)
    path = at_rest.get(stem) or at_rest.get(f"{stem}_still")
    if path is None:
        raise UserError(f"{stack.path}: no views at rest, {stem}.tif, in {folder}")
    still = open_scanned(path)
    if still.n_frames != stack.n_frames or still.shape[-2:] != stack.shape[-2:]:
        raise UserError(
            f"{path}: shape {still.shape} does not pair with {stack.path} {stack.shape}"
        )
    return still


def _scanned_view(stack: StackFile, frame: int, still: StackFile | None) -> ScannedView:
    view = _central_view(stack, frame)
    if not np.isfinite(view).all():
        say(f"warning: {stack.path}: NaN or infinite values count as 0")
        view = np.nan_to_num(view, nan=0, posinf=0, neginf=0)
    peak = np.float32(np.quantile(view, _PEAK_QUANTILE))
    if peak <= 0:
        say(f"warning: {stack.path}: empty, there is nothing to learn from")
        peak = np.float32(1)
    view = view / peak
    at_rest = None if still is None else np.nan_to_num(_central_view(still, frame)) / peak
    voxel_um = (None, stack.steps.y_um, stack.steps.x_um)
    return ScannedView(stack.frame_name(frame), voxel_um, view, brightness_range(view), at_rest)


def _central_view(stack: StackFile, frame: int) -> Image:
    view: Image = stack.read_window([stack.shape[-3] // 2], _ALL, _ALL, frame)[0]
    return view
