"""``serenet correct-motion``: scanned view stacks on disk to still ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.inputs import run_all
from scopekit.memory import choose_device, memory_budget, return_freed_memory
from scopekit.progress import progress_bar
from serenet import __version__
from serenet.motion.correction import correct_motion
from serenet.motion.picture import save_motion_picture
from serenet.networks.checkpoints import load_checkpoint
from serenet.networks.twnet import TWNet
from serenet.results.batch import Batch
from serenet.views.files import find_stacks, open_scanned
from serenet.views.scan import require_order

_VIEWS_READ_AT_ONCE = 16
_ALL = slice(None)


@dataclass(frozen=True)
class MotionOptions:
    """The command's options, see ``serenet correct-motion --help``."""

    checkpoint: Path
    out: Path
    scan_order: Sequence[int] | None = None
    max_memory_gb: float | None = None
    device: str = "auto"
    overwrite: bool = False


class _ViewBatch(Batch):
    """Lands views instead of volumes, with a picture of the central one."""

    def draw(
        self,
        picture: Path,
        source: StackFile,
        volume: NDArray[np.float32],
        release: Callable[[], None],
    ) -> None:
        """Draw the central view of the first frame before and after, and the difference."""
        middle = len(volume) // 2
        (before,) = source.read_window([middle], _ALL, _ALL)
        save_motion_picture(picture, before, volume[middle].copy(), source.voxel_um)
        release()


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
        "scan_order": list(order),
        "device": str(device),
    }

    def batch(voxel_um: tuple[float, float, float]) -> Batch:
        return _ViewBatch(
            out=options.out,
            method=model.method,
            voxel_um=voxel_um,
            settings=settings,
            dtype="float32",
            preview=True,
            overwrite=options.overwrite,
            format="tif",
        )

    def solve(
        stack: StackFile,
        frame: int,
        target: NDArray[np.float32],
        release: Callable[[], None],
    ) -> dict[str, Any]:
        label = stack.frame_name(frame)
        squares = 0.0
        with progress_bar(label, len(target)) as advance:
            for first in range(0, len(target), _VIEWS_READ_AT_ONCE):
                pages = range(first, min(first + _VIEWS_READ_AT_ONCE, len(target)))
                views = _read(stack, pages, frame)
                budget = memory_budget(device, options.max_memory_gb)
                corrected = correct_motion(
                    views, model, scan_order=order, budget=budget, advance=advance
                )
                target[pages.start : pages.stop] = corrected.numpy()
                release()
                squares += float((corrected - views).square().sum(dtype=torch.float64))
        return {"frame": frame, "rms_change": math.sqrt(squares / target.size)}

    def work(path: Path) -> Path:
        stack = open_scanned(path)
        n_views, height, width = stack.shape[-3:]
        return batch(stack.voxel_um or (1.0, 1.0, 1.0)).run(stack, (n_views, height, width), solve)

    return run_all(batch((1.0, 1.0, 1.0)).pending(sources), work)


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
