"""Runs a reconstruction over many files and frames and lands whole results.

Every input gives ``<stem>_<method>.tif`` (or ``.ome.zarr``), a picture ``.png`` and the settings
``.yaml``. The volume takes its name last, so where it exists the result is complete.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import (
    StackFile,
    VolumeWriter,
    VoxelSize,
    is_zarr,
    scale_to_uint16,
    stack_stem,
)
from scopekit.outputs import require_writable
from scopekit.preview import save_preview
from scopekit.progress import progress_bar, say
from scopekit.series.pipeline import FrameSolver
from scopekit.series.store import is_whole
from scopekit.settings import write_yaml

# The volume last.
_SUFFIXES = (".png", ".yaml", ".tif")


@dataclass(frozen=True)
class Batch:
    """What all files of a run share.

    Attributes
    ----------
    out
        Folder of the results.
    method
        Ending of their names.
    voxel_um
        (z, y, x) step of the volumes, um.
    settings
        The resolved settings, saved beside every result.
    dtype
        ``float32`` or ``uint16``.
    preview
        Whether to draw pictures.
    overwrite
        Whether to replace existing results.
    format
        ``tif`` or ``zarr``; ``None`` is that of the input.
    """

    out: Path
    method: str
    voxel_um: VoxelSize
    settings: Mapping[str, Any]
    dtype: str
    preview: bool
    overwrite: bool
    format: str | None = None

    def lands_as_zarr(self, source: Path) -> bool:
        """Whether the volume made from ``source`` is an OME-Zarr store."""
        return is_zarr(source) if self.format is None else self.format == "zarr"

    def result(self, source: Path) -> Path:
        """Return the name of the volume made from ``source``."""
        return self.beside(source, ".ome.zarr" if self.lands_as_zarr(source) else ".tif")

    def beside(self, source: Path, ending: str) -> Path:
        """Return the name of what lies beside that volume."""
        return self.out / f"{stack_stem(source)}_{self.method}{ending}"

    def pending(self, sources: list[Path]) -> list[Path]:
        """Return the sources without a result; raise `UserError` if there is none."""
        require_writable(self.out)
        if self.dtype != "float32" and any(map(self.lands_as_zarr, sources)):
            raise UserError(
                f"--dtype {self.dtype}: the scale is known when all frames are, and OME-Zarr is "
                "written frame by frame: leave it out, or give --format tif"
            )
        if self.overwrite:
            return sources
        pending = [s for s in sources if not self._is_done(s)]
        if not pending:
            raise UserError(
                f"{self.result(sources[0])} exists"
                + (f" (as do all {len(sources)} results)" if len(sources) > 1 else "")
                + ": add --overwrite to replace it, or choose another --out"
            )
        for source in sources:
            if source not in pending:
                say(f"{self.result(source)} exists: skipped")
        return pending

    def _is_done(self, source: Path) -> bool:
        result = self.result(source)
        return is_whole(result) if self.lands_as_zarr(source) else result.exists()

    def describe(
        self, source: StackFile, volume_shape: tuple[int, int, int]
    ) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Return the shape of the result, (Z, Y, X) or (T, Z, Y, X), and its settings."""
        shape = (source.n_frames, *volume_shape) if len(source.shape) == 4 else volume_shape
        return shape, {
            "input": str(source.path),
            **self.settings,
            "voxel_um": {axis: float(n) for axis, n in zip("zyx", self.voxel_um, strict=True)},
            "volume_shape": list(shape),
        }

    def run(
        self,
        source: StackFile,
        volume_shape: tuple[int, int, int],
        solve: FrameSolver,
    ) -> Path:
        """Reconstruct all frames of one file and write its results as TIFF.

        Parameters
        ----------
        source
            The view stack.
        volume_shape
            (Z, Y, X) of one frame's volume.
        solve
            ``solve(source, frame, target, release)`` fills ``target`` and calls ``release()``
            after every part; returns what to record about the frame.
        """
        result = self.result(source.path)
        landing = result.with_name(f".{result.name}")
        is_new = not self.out.exists()
        shape, settings = self.describe(source, volume_shape)
        try:
            with VolumeWriter(landing, shape, self.voxel_um, overwrite=True) as writer:
                frames = writer.array.reshape(source.n_frames, *volume_shape)
                settings["frames"] = []
                several = source.n_frames > 1
                bar = progress_bar(source.path.name, source.n_frames) if several else nullcontext()
                with bar as advance:
                    for frame in range(source.n_frames):
                        record = solve(source, frame, frames[frame], writer.release)
                        settings["frames"].append(record)
                        if advance is not None:
                            advance()
                if self.preview:
                    self.draw(landing.with_suffix(".png"), source, frames[0], writer.release)
                del frames
            if self.dtype == "uint16":
                settings["uint16_factor"] = scale_to_uint16(landing, self.voxel_um)
                say(f"{result.name}: stored value = {settings['uint16_factor']:.6g} x value")
            write_yaml(landing.with_suffix(".yaml"), settings, overwrite=True)
            result.with_suffix(".png").unlink(missing_ok=True)  # of an earlier result
            for suffix in _SUFFIXES:
                if landing.with_suffix(suffix).exists():
                    landing.with_suffix(suffix).replace(result.with_suffix(suffix))
        except BaseException:
            for suffix in _SUFFIXES:
                landing.with_suffix(suffix).unlink(missing_ok=True)
            if is_new and self.out.is_dir() and not any(self.out.iterdir()):
                self.out.rmdir()
            raise
        say(str(result))
        return result

    def draw(
        self,
        picture: Path,
        source: StackFile,
        volume: NDArray[np.float32],
        release: Callable[[], None],
    ) -> None:
        """Draw the first frame's result."""
        volumes = {self.result(source.path).stem: _planes(volume, release)}
        save_preview(picture, volumes, self.voxel_um, overwrite=True)


def _planes(
    volume: NDArray[np.float32], release: Callable[[], None]
) -> Iterator[NDArray[np.float32]]:
    """Yield copies of the planes of a volume on disk, holding one at a time."""
    for plane in volume:
        yield plane.copy()
        release()
