"""``serenet reconstruct``: view stacks on disk to volumes on disk."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.inputs import run_all
from scopekit.memory import return_freed_memory
from scopekit.progress import say
from scopekit.series.dask import require_scheduler, spread_frames
from scopekit.series.pipeline import run_frames
from scopekit.series.store import FrameSeries
from serenet import __version__
from serenet.reconstruction.frame import (
    FrameReconstructor,
    ReconstructOptions,
    Setup,
    draw_shifts,
    set_up,
)
from serenet.reconstruction.workers import frame_job
from serenet.results.batch import Batch
from serenet.results.zarr import run_as_series
from serenet.views.files import find_stacks, open_views

__all__ = ["ReconstructOptions", "reconstruct_files"]


def reconstruct_files(inputs: list[Path], options: ReconstructOptions) -> list[Path]:
    """Reconstruct every view stack among the inputs; return the volumes' paths.

    Volumes that land as TIFF are made file by file. Those that land as OME-Zarr are made frame by
    frame, here or by the workers of a dask cluster.
    """
    return_freed_memory()
    if options.dask is not None:
        if options.format == "tif":
            raise UserError(
                "--dask: workers write OME-Zarr, frame by frame; leave --format tif out"
            )
        require_scheduler(options.dask)
        options = replace(options, format="zarr")
    sources = find_stacks(inputs, folders_are_series=options.format == "zarr")
    # The workers of a cluster load their own.
    setup = set_up(replace(options, device="cpu") if options.dask else options)
    microscope = setup.microscope
    batch = Batch(
        out=options.out,
        method=setup.model.method,
        voxel_um=microscope.voxel_um,
        settings=_settings(setup),
        dtype=options.dtype,
        preview=options.preview,
        overwrite=options.overwrite,
        format=options.format,
    )

    def work(path: Path) -> Path:
        stack, pages = open_views(path, setup.recorded)
        _check_scanned(stack, setup)
        solver = FrameReconstructor(setup, pages)
        shape = setup.volume_shape(stack.shape[-2:])
        stem = batch.beside(path, "")

        def solve(
            source: StackFile,
            frame: int,
            target: NDArray[np.float32],
            release: Callable[[], None],
        ) -> dict[str, Any]:
            record = solver(source, frame, target, release)
            draw_shifts(solver, setup, stem, frame, stack.n_frames)
            return record

        def make(series: FrameSeries, frames: Sequence[int]) -> dict[int, str]:
            if options.dask is None or not frames:
                return run_frames(stack, series, frames, solve)
            job = frame_job(path, options, series, stem)
            return spread_frames(options.dask, job, frames, stack.path.name)

        if batch.lands_as_zarr(path):
            return run_as_series(batch, stack, shape, make)
        result = batch.run(stack, shape, solver)
        for frame in range(stack.n_frames):
            draw_shifts(solver, setup, stem, frame, stack.n_frames)
        return result

    return run_all(batch.pending(sources), work)


def _settings(setup: Setup) -> dict[str, Any]:
    options = setup.options
    return {
        "method": setup.model.method,
        "serenet_version": __version__,
        "checkpoint": str(options.checkpoint),
        "psf": str(options.psf or options.psf_shift or "computed from the optics"),
        "optics": setup.microscope.model_dump(mode="json"),
        "background": "1 % quantile" if options.background is None else options.background,
        "virtual_scan": str(options.virtual_scan) if options.virtual_scan else None,
        "predao": options.predao,
        "refine_view_updates": options.refine,
        "precision": "half" if options.half else "float32",
        "device": f"workers of {options.dask}" if options.dask else str(setup.device),
        "dtype": options.dtype,
    }


def _check_scanned(stack: StackFile, setup: Setup) -> None:
    """Warn if the pixel size says that a light field to be scanned virtually is scanned, or not."""
    microscope = setup.microscope
    scanned_um = microscope.view_pixel_um
    if stack.voxel_um is None or microscope.scanning == 1:
        return
    found_um, unscanned_um = stack.voxel_um[2], scanned_um * microscope.scanning
    expected_um, other_um = scanned_um, unscanned_um
    remedy = "not scanned, it seems: give --virtual-scan"
    if setup.scan is not None:
        expected_um, other_um = unscanned_um, scanned_um
        remedy = "scanned already, it seems: leave --virtual-scan out"
    if abs(found_um - other_um) < 0.1 * other_um:
        say(
            f"warning: {stack.path} has pixels of {found_um:.3g} um, not {expected_um:.3g}; "
            + remedy
        )
