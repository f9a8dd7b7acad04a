"""The files of a bubtub group, made part by part.

Finished parts of a group, its volume and batches of its views, wait in a hidden folder beside
the results, so that an interrupted run is continued without making them again.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from datagen import __version__
from datagen.bubtub.scenes import Field, full_field, make_scene
from datagen.bubtub.views import ViewPSF, plan_batches, project
from datagen.bubtub.volumes import choose_window, draw_volume
from scopekit.images.files import VoxelSize, open_stack
from scopekit.images.tiff_metadata import imagej_arguments
from scopekit.outputs import whole_file

VOLUMES = "GT_synthetic"
PARTS = ".bubtub_parts"
# More would not fit a full-size group into 8 GiB.
_BATCHES_AT_ONCE = 4


@dataclass(frozen=True)
class GroupMaker:
    """Makes groups; it is sent to the worker processes.

    Attributes
    ----------
    out
        Folder of the dataset.
    psf
        Of all views.
    size
        Lateral side of the volumes, in voxels.
    seed
        Of the dataset.
    device
        Where to project.
    threads
        Of this process.
    """

    out: Path
    psf: ViewPSF
    size: int
    seed: int
    device: str
    threads: int

    @cached_property
    def field(self) -> Field:
        """The full field."""
        return full_field(self.psf.microscope)

    @property
    def voxel_um(self) -> VoxelSize:
        """(z, y, x) step of the volumes."""
        return self.psf.microscope.voxel_um

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a volume."""
        return len(self.psf.microscope.depths_um), self.size, self.size

    @property
    def views_shape(self) -> tuple[int, int, int]:
        """Of a view stack."""
        microscope = self.psf.microscope
        side = self.size * microscope.scanning // microscope.n_num
        return microscope.n_num**2, side, side

    @cached_property
    def batches(self) -> list[list[int]]:
        """The views that are projected together."""
        return plan_batches(self.psf.microscope.n_num)

    def volume_file(self, group: int) -> Path:
        """Return the name of a group's volume."""
        return self.out / VOLUMES / f"{group_name(group)}.tif"

    def views_file(self, group: int) -> Path:
        """Return the name of a group's views."""
        s = self.psf.microscope.scanning
        return self.out / f"x{s}_synthetic" / f"{group_name(group)}_{s}x{s}.tif"

    def volume_files(self) -> dict[int, Path]:
        """Return the volumes that exist, by group."""
        found = (self.out / VOLUMES).glob("group[0-9]*.tif")
        return {int(path.stem.removeprefix("group")): path for path in found}

    def part_file(self, group: int, part: str) -> Path:
        """Return the name of a finished part of a group."""
        return self.out / PARTS / f"{group_name(group)}_{part}"

    def settings(self) -> dict[str, Any]:
        """Return all that shapes the results, in plain values."""
        return {
            "dataset": "bubtub",
            "datagen_version": __version__,
            "seed": self.seed,
            "size": self.size,
            "device": self.device,
            **self.psf.settings(),
        }

    def __call__(self, group: int, advance: Callable[[], None]) -> None:
        """Make what is missing of a group; tell ``advance`` of every part."""
        volume = self._volume(group)
        advance()
        if not self.views_file(group).exists():
            self._views(group, volume, advance)
        finished = self.volume_file(group)
        finished.parent.mkdir(exist_ok=True)
        volume.replace(finished)
        # With what a killed run had not finished writing.
        for part in (self.out / PARTS).glob(f"*{group_name(group)}_*"):
            part.unlink()

    def _volume(self, group: int) -> Path:
        """Draw the volume if it does not exist yet, and return where it is."""
        finished, part = self.volume_file(group), self.part_file(group, "volume.tif")
        if finished.exists():
            return finished
        if not part.exists():
            scene = make_scene(self.field, self.seed, group)
            window = choose_window(self.field, scene, self.shape)
            _write_tiff(part, draw_volume(self.field, scene, window, self.threads), self.voxel_um)
        return part

    def _views(self, group: int, volume: Path, advance: Callable[[], None]) -> None:
        """Project the batches of views that do not exist yet, and join all to one stack."""
        parts = [self.part_file(group, f"views{n:02d}.npy") for n in range(len(self.batches))]
        missing = [i for i, part in enumerate(parts) if not part.exists()]
        for _ in range(len(parts) - len(missing)):
            advance()
        if missing:
            self._batches(volume, [(self.batches[i], parts[i]) for i in missing], advance)
        stack = np.empty(self.views_shape, np.uint16)
        for views, part in zip(self.batches, parts, strict=True):
            stack[views] = np.load(part)
        step = self.psf.microscope.view_pixel_um
        _write_tiff(self.views_file(group), stack, (1.0, step, step))

    def _batches(
        self, volume: Path, batches: list[tuple[list[int], Path]], advance: Callable[[], None]
    ) -> None:
        """Project batches of views, each to its file, as many at a time as there are cores."""
        loaded = torch.from_numpy(open_stack(volume).read()).to(self.device)

        def make(batch: tuple[list[int], Path]) -> None:
            views, part = batch
            images = project(loaded, self.psf.read(views).to(self.device), self.psf.microscope)
            with whole_file(part, overwrite=True) as partial, partial.open("wb") as handle:
                np.save(handle, images)

        # Cores that share one batch wait for each other most of the time.
        at_once = min(self.threads, _BATCHES_AT_ONCE) if self.device == "cpu" else 1
        threads = self.threads // at_once
        with ThreadPoolExecutor(
            at_once, initializer=lambda: torch.set_num_threads(threads)
        ) as pool:
            for _ in pool.map(make, batches):
                advance()


def group_name(group: int) -> str:
    """Return how the files of a group are called, but for their endings."""
    return f"group{group:03d}"


def _write_tiff(path: Path, stack: NDArray[np.uint16], voxel_um: VoxelSize) -> None:
    with whole_file(path, overwrite=True) as partial:
        tifffile.imwrite(partial, stack, **imagej_arguments(stack.shape, stack.dtype, voxel_um))
