"""Views of many time points as one OME-Zarr store, made one by one, here or on a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import PartialVoxelSize, Selection, StackFile, open_frames
from scopekit.images.target import Target
from scopekit.inputs import input_record
from scopekit.progress import say
from scopekit.series.pipeline import run_frames
from scopekit.series.store import begin_series
from serenet.rectification.calibration import Calibration, mean_frame
from serenet.rectification.lattice import Lattice
from serenet.rectification.resampling import flat_field, rectify_series
from serenet.results.workers import OpenFrames, spread_series


@dataclass(frozen=True)
class RectifiedFrames:
    """Time points to be rectified, see `serenet.results.workers.FrameSource`.

    Attributes
    ----------
    raw
        Camera files, all in the order of exposure.
    calibration
        A `Calibration`, as JSON.
    n_num
        Views a microlens side.
    order
        The scan position at each exposure of a time point.
    selection
        Channel and position.
    contents
        What tells the camera files and the dark frame from earlier ones of the same names.
    """

    raw: tuple[Path, ...]
    calibration: str
    n_num: int
    order: tuple[int, ...]
    selection: Selection
    contents: str

    @property
    def path(self) -> Path:
        """The first of the files."""
        return self.raw[0]

    def open(self) -> OpenFrames:
        """Read what all time points share."""
        setting = Calibration.model_validate_json(self.calibration)
        lattice, still = setting.lattice, replace(self.selection, where_several=True)
        dark = mean_frame(setting.dark, still, lattice.frame_shape) if setting.dark else None
        bright = None
        if setting.radiometry is not None:
            bright = mean_frame(setting.radiometry, still, lattice.frame_shape)
        flat = flat_field(bright, lattice, self.n_num, dark)
        stacks = tuple(open_frames(path, self.selection) for path in self.raw)
        side = round(len(self.order) ** 0.5)
        shape = (self.n_num**2, lattice.rows * side, lattice.columns * side)
        return OpenFrames(stacks[0], shape, _Rectifier(stacks, lattice, flat, self.order, dark))


@dataclass(frozen=True)
class _Rectifier:
    """Rectifies the exposures of a time point."""

    stacks: tuple[StackFile, ...]
    lattice: Lattice
    flat: NDArray[np.float32]
    order: tuple[int, ...]
    dark: NDArray[np.float32] | None

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(stack.n_frames for stack in self.stacks))

    def __call__(self, _: StackFile, time_point: int, target: Target) -> dict[str, Any]:
        count = len(self.order)
        exposures = (self._read(time_point * count + n) for n in range(count))
        (views,) = rectify_series(exposures, self.lattice, self.flat, self.order, self.dark)
        target.put(slice(None), views)
        return {"frame": time_point}

    def _read(self, exposure: int) -> NDArray[np.float32]:
        number = int(np.searchsorted(self._ends, exposure, side="right"))
        stack = self.stacks[number]
        (frame,) = stack.read(exposure - (self._ends[number] - stack.n_frames))
        exposed: NDArray[np.float32] = frame
        return exposed


def rectified_frames(
    raw: Sequence[Path],
    microscope: LightFieldMicroscope,
    setting: Calibration,
    order: Sequence[int],
    selection: Selection,
) -> RectifiedFrames:
    """Return the time points of camera files, for this process and for others."""
    files = [path.resolve() for path in (*raw, setting.dark) if path is not None]
    return RectifiedFrames(
        tuple(path.resolve() for path in raw),
        setting.model_dump_json(),
        microscope.n_num,
        tuple(order),
        selection,
        str([input_record(path) for path in files]),
    )


def write_series(
    out: Path,
    source: RectifiedFrames,
    n_times: int,
    voxel_um: PartialVoxelSize,
    *,
    dask: str | None,
    overwrite: bool,
) -> None:
    """Rectify time points into an OME-Zarr store; interrupted runs go on.

    Parameters
    ----------
    out
        The store.
    source, n_times
        The time points, and how many there are.
    voxel_um
        (z, y, x) step of the views, um.
    dask
        Scheduler of the cluster whose workers do it; ``None``: here.
    overwrite
        Whether an existing store may be replaced.

    Raises
    ------
    UserError
        If time points failed; the others have landed then, unless there are none.
    """
    opened = source.open()
    shape = opened.volume_shape if n_times == 1 else (n_times, *opened.volume_shape)
    stamp = {
        "calibration": source.calibration,
        "order": list(source.order),
        "inputs": source.contents,
        "voxel_um": list(voxel_um),
        **source.selection.settings(),
    }
    series = begin_series(out, shape, voxel_um, stamp, overwrite=overwrite)
    finished = series.records()
    missing = [n for n in range(n_times) if n not in finished]
    if dask is not None and missing:
        failures = spread_series(dask, source, series, missing)
    else:
        failures = run_frames(opened.stack, series, missing, opened.solve)
    if not series.records():
        series.discard()
        raise UserError(next(iter(failures.values())))
    series.land(sorted(failures))
    if failures:
        raise UserError(
            f"{out}: {len(failures)} of {n_times} time points failed "
            f"({', '.join(map(str, sorted(failures)))}), the others are there; give the command "
            "again to make up for them"
        )
    say(str(out))
