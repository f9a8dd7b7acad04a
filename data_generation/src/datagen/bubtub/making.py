"""``datagen bubtub``: volumes of tubes, bubbles and beads, and their light fields, on disk."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datagen.bubtub.groups import PARTS, VOLUMES, GroupMaker, group_name
from datagen.bubtub.scenes import full_field
from datagen.bubtub.summary import is_summarised, summarise
from datagen.bubtub.views import find_psf
from datagen.folders.dataset import SETTINGS_NAME, Dataset, require_same_settings
from datagen.folders.workers import make_in_parts
from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.memory import choose_device
from scopekit.outputs import claimed


@dataclass(frozen=True)
class BubtubOptions:
    """The command's options, see ``datagen bubtub --help``."""

    out: Path
    microscope: str | None = None
    psf: Path | None = None
    groups: int = 15
    first: int = 1
    size: int | None = None
    seed: int = 0
    jobs: int = 1
    device: str = "auto"
    overwrite: bool = False


def make_bubtub(options: BubtubOptions) -> None:
    """Make the groups of a dataset that do not exist yet, then its table and contact sheet.

    Raises
    ------
    UserError
        If nothing is missing, if the folder holds groups of other settings, or if an option or
        the PSF does not fit.
    """
    psf = find_psf(options.microscope, options.psf)
    maker = GroupMaker(
        out=options.out,
        psf=psf,
        size=_lateral_size(options.size, psf.microscope),
        seed=options.seed,
        device=choose_device(options.device).type,
        threads=max(torch.get_num_threads() // options.jobs, 1),
    )
    with claimed(options.out / "dataset"):
        _make(maker, options)


def _make(maker: GroupMaker, options: BubtubOptions) -> None:
    dataset = _dataset(maker, range(options.first, options.first + options.groups))
    missing = dataset.open(overwrite=options.overwrite)
    if not missing and is_summarised(options.out, maker.volume_files()):
        dataset.require_missing(missing)
    make_in_parts(
        maker,
        [options.first + i for i in missing],
        parts=1 + len(maker.batches),
        jobs=options.jobs,
        description="groups",
    )
    with suppress(OSError):
        (options.out / PARTS).rmdir()  # unless it holds parts of other groups
    heading = f"bubtub, n_num {maker.psf.microscope.n_num}, size {maker.size}, seed {maker.seed}"
    summarise(options.out, maker.volume_files(), maker.voxel_um, heading)


def _lateral_size(size: int | None, microscope: LightFieldMicroscope) -> int:
    """Return the lateral size, checked: a whole number of lenses, at most the full field."""
    side, n_num = full_field(microscope).side, microscope.n_num
    if size is None:
        return side
    if n_num <= size <= side and size % n_num == 0:
        return size
    lower = min(max(size // n_num, 1), side // n_num) * n_num
    nearest = sorted({lower, min(lower + n_num, side)})
    raise UserError(
        f"`size={size}`: give a multiple of {n_num} (whole microlenses) up to {side}; nearest: "
        + " or ".join(str(n) for n in nearest)
    )


def _dataset(maker: GroupMaker, groups: range) -> Dataset:
    settings = maker.settings()
    depths, side, _ = maker.shape
    views, height, width = maker.views_shape
    n_bytes = 2 * (depths * side**2 + 2 * views * height * width)
    # The volume takes its name last.
    items = [(maker.views_file(g), maker.volume_file(g)) for g in groups]
    return Dataset(maker.out, settings, items, _replaced(maker.out, settings, groups), n_bytes)


def _replaced(out: Path, settings: dict[str, Any], groups: range) -> list[str]:
    """Return the patterns of what --overwrite removes: all groups if they are of other settings."""
    try:
        require_same_settings(out / SETTINGS_NAME, settings)
        names = [group_name(group) for group in groups]
    except UserError:
        names = ["group*"]
    return [
        f"{folder}/{name}{ending}"
        for name in names
        for folder, ending in ((VOLUMES, ".tif"), ("x*_synthetic", "_*.tif"), (PARTS, "_*"))
    ]
