"""``serenet correct-motion``: scanned view stacks on disk to still ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, PartialVoxelSize, Selection, StackFile
from scopekit.images.target import Target
from scopekit.inputs import run_all
from scopekit.memory import choose_device, return_freed_memory
from scopekit.progress import progress_bar
from serenet import __version__
from serenet.motion.correction import correct_motion
from serenet.motion.picture import save_motion_picture
from serenet.networks.checkpoints import load_checkpoint
from serenet.networks.shipped import checkpoint_file
from serenet.networks.twnet import TWNet
from serenet.results.contents import digests
from serenet.results.landing import Planes
from serenet.results.writer import ResultOptions, ResultWriter
from serenet.views.files import find_stacks, open_scanned
from serenet.views.scan import require_order

_VIEWS_READ_AT_ONCE = 16
_ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class MotionOptions(ResultOptions):
    """The command's options, see ``serenet correct-motion --help``."""

    checkpoint: Path
    format: str | None = "tif"
    scan_order: Sequence[int] | None = None
    selection: Selection = WHOLE_FILE
    max_memory_gb: float | None = None
    device: str = "auto"


def _draw_middle_view(
    picture: Path,
    title: str,
    source: StackFile,
    planes: Callable[[], Planes],
    voxel_um: PartialVoxelSize,
) -> None:
    """Draw the central view of the first frame before and after, and the difference."""
    middle = source.shape[-3] // 2
    (before,) = source.read_window([middle], _ALL, _ALL)
    (after,) = islice(planes(), middle, middle + 1)
    save_motion_picture(picture, before, after, voxel_um)


def correct_files(inputs: list[Path], options: MotionOptions) -> list[Path]:
    """Correct every view stack among the inputs; return the results' paths."""
    return_freed_memory()
    sources = find_stacks(inputs)
    order = require_order(options.scan_order)
    device = choose_device(options.device)
    model = load_checkpoint(options.checkpoint, device)
    if not isinstance(model, TWNet):
        raise UserError(
            f"{options.checkpoint}: a {model.published_name} does not correct motion; give a "
            "twnet, such as demo_twnet, or train one: serenet train --list"
        )
    settings = {
        "method": model.method,
        "serenet_version": __version__,
        "checkpoint": str(options.checkpoint),
        **digests(checkpoint=checkpoint_file(options.checkpoint)),
        "scan_order": list(order),
        **options.selection.settings(),
        "device": str(device),
    }

    writer = ResultWriter(
        options,
        model.method,
        settings,
        draw=_draw_middle_view,
    )

    def solve(stack: StackFile, frame: int, target: Target) -> dict[str, Any]:
        n_views = target.shape[0]
        squares = 0.0
        with progress_bar(stack.frame_name(frame), n_views) as advance:
            for first in range(0, n_views, _VIEWS_READ_AT_ONCE):
                pages = range(first, min(first + _VIEWS_READ_AT_ONCE, n_views))
                views = _read(stack, pages, frame)
                corrected = correct_motion(
                    views,
                    model,
                    scan_order=order,
                    max_memory_gb=options.max_memory_gb,
                    advance=advance,
                )
                target.put(slice(pages.start, pages.stop), corrected.numpy())
                squares += float((corrected - views).square().sum(dtype=torch.float64))
        return {"frame": frame, "rms_change": math.sqrt(squares / math.prod(target.shape))}

    def work(path: Path) -> Path:
        stack = open_scanned(path, options.selection)
        n_views, height, width = stack.shape[-3:]
        steps = (None, stack.steps.y_um, stack.steps.x_um)
        return writer.write(stack, (n_views, height, width), steps, solve)

    return run_all(writer.pending(sources), work)


def _read(stack: StackFile, pages: range, frame: int) -> torch.Tensor:
    views = stack.read_window(pages, _ALL, _ALL, frame)
    for page, view in zip(pages, views, strict=True):
        if not np.isfinite(view).all():
            where = f"frame {frame}, page {page}" if stack.n_frames > 1 else f"page {page}"
            raise UserError(
                f"{stack.path}: NaN or infinite values ({where}, counted from 0); "
                "replace them by numbers first"
            )
    return torch.from_numpy(views)
