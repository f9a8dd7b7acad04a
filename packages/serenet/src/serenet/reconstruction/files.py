"""``serenet reconstruct``: view stacks on disk to volumes on disk."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.inputs import run_all
from scopekit.memory import return_freed_memory
from scopekit.progress import say
from scopekit.series.dask import require_scheduler, spread_frames
from scopekit.series.store import FrameSeries
from serenet import __version__
from serenet.networks.shipped import checkpoint_file
from serenet.reconstruction.frame import FrameReconstructor, draw_shifts
from serenet.reconstruction.setup import ReconstructOptions, Setup, set_up
from serenet.reconstruction.workers import frame_job
from serenet.results.contents import digests, fingerprint
from serenet.results.writer import ResultWriter
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
                "`dask`: workers write OME-Zarr, frame by frame; leave `format=tif` out"
            )
        require_scheduler(options.dask)
        options = replace(options, format="zarr")
    sources = find_stacks(inputs, folders_are_series=options.format == "zarr")
    # The workers of a cluster load their own.
    setup = set_up(replace(options, device="cpu") if options.dask else options)
    microscope = setup.microscope
    files = digests(
        checkpoint=checkpoint_file(options.checkpoint),
        psf=options.psf,
        psf_shift=options.psf_shift,
        virtual_scan=options.virtual_scan and checkpoint_file(options.virtual_scan),
    )
    writer = ResultWriter(
        options,
        setup.model.method,
        {**_settings(setup), **files},
        finish=partial(draw_shifts, microscope),
    )

    def spread(stack: StackFile, series: FrameSeries, frames: Sequence[int]) -> dict[int, str]:
        job = frame_job(stack.path, options, series, files, fingerprint(stack))
        return spread_frames(str(options.dask), job, frames, stack.path.name)

    def work(path: Path) -> Path:
        stack, pages = open_views(path, setup.recorded, options.selection)
        _check_scanned(stack, setup)
        return writer.write(
            stack,
            setup.volume_shape(stack.shape[-2:]),
            microscope.voxel_um,
            FrameReconstructor(setup, pages),
            spread=spread if options.dask else None,
        )

    return run_all(writer.pending(sources), work)


def _settings(setup: Setup) -> dict[str, Any]:
    options = setup.options
    return {
        "method": setup.model.method,
        "serenet_version": __version__,
        "checkpoint": str(options.checkpoint),
        "psf": str(options.psf or options.psf_shift or "computed from the optics"),
        "optics": setup.microscope.model_dump(mode="json"),
        "background": _background(setup),
        **options.selection.settings(),
        "virtual_scan": str(options.virtual_scan) if options.virtual_scan else None,
        "predao": options.predao,
        "refine_view_updates": options.refine,
        "precision": "half" if options.half else "float32",
        "device": f"workers of {options.dask}" if options.dask else str(setup.model.device),
        "dtype": options.dtype,
    }


def _background(setup: Setup) -> str | float:
    if not setup.subtracts_background:
        return f"kept: {setup.model.method} takes it"
    told = setup.options.background
    return "1 % quantile" if told is None else told


def _check_scanned(stack: StackFile, setup: Setup) -> None:
    """Warn if the pixel size says that a light field to be scanned virtually is scanned, or not."""
    microscope = setup.microscope
    scanned_um = microscope.view_pixel_um
    found_um, unscanned_um = stack.steps.x_um, scanned_um * microscope.scanning
    if found_um is None or microscope.scanning == 1:
        return
    expected_um, other_um = scanned_um, unscanned_um
    remedy = "not scanned, it seems: give `virtual_scan`"
    if setup.scan is not None:
        expected_um, other_um = unscanned_um, scanned_um
        remedy = "scanned already, it seems: leave `virtual_scan` out"
    if abs(found_um - other_um) < 0.1 * other_um:
        say(
            f"warning: {stack.path} has pixels of {found_um:.3g} um, not {expected_um:.3g}; "
            + remedy
        )
