"""``serenet reconstruct``: view stacks on disk to volumes on disk."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.inputs import run_all
from scopekit.memory import choose_device, return_freed_memory
from scopekit.series.store import FrameSeries
from serenet import __version__
from serenet.networks.checkpoints import load_checkpoint
from serenet.networks.shipped import checkpoint_file
from serenet.networks.vsnet import VsNet
from serenet.reconstruction.frame import FrameReconstructor, draw_shifts
from serenet.reconstruction.setup import ReconstructOptions, Setup, set_up
from serenet.reconstruction.workers import ReconstructedFrames
from serenet.results.contents import digests, fingerprint
from serenet.results.workers import absolute_options, require_series, spread_series
from serenet.results.writer import ResultWriter
from serenet.views.files import find_stacks, open_views
from serenet.virtual_scanning.files import ScanOptions, scan_files
from serenet.virtual_scanning.frame import warn_of_sampling

__all__ = ["ReconstructOptions", "reconstruct_files"]


def reconstruct_files(inputs: list[Path], options: ReconstructOptions) -> list[Path]:
    """Reconstruct every view stack among the inputs; return the volumes' paths.

    Volumes that land as TIFF are made file by file. Those that land as OME-Zarr are made frame by
    frame, here or by the workers of a dask cluster. A vsnet makes finer views instead, see
    `serenet.virtual_scanning.files`.
    """
    return_freed_memory()
    # The workers of a cluster load their own.
    device = choose_device("cpu" if options.dask else options.device)
    model = load_checkpoint(options.checkpoint, device)
    if isinstance(model, VsNet):
        return scan_files(inputs, model, _scan_options(options))
    if options.dask is not None:
        require_series(options.dask, options.format)
        options = replace(options, format="zarr")
    sources = find_stacks(inputs, folders_are_series=options.format == "zarr")
    setup = set_up(options, model)
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
        source = ReconstructedFrames(
            stack.path.resolve(),
            absolute_options(options),
            str(writer.settings),
            str(fingerprint(stack)),
        )
        return spread_series(str(options.dask), source, series, frames)

    def work(path: Path) -> Path:
        stack, pages = open_views(path, setup.recorded, options.selection)
        warn_of_sampling(stack, microscope, scans=setup.scan is not None)
        return writer.write(
            stack,
            setup.volume_shape(stack.shape[-2:]),
            microscope.voxel_um,
            FrameReconstructor(setup, pages),
            spread=spread if options.dask else None,
        )

    return run_all(writer.pending(sources), work)


def _scan_options(options: ReconstructOptions) -> ScanOptions:
    """Return the options of a virtual scan; refuse those of volumes."""
    unset = {f.name: f.default for f in fields(ReconstructOptions)}
    for name in ("psf", "psf_shift", "virtual_scan", "predao", "refine", "dask"):
        if getattr(options, name) != unset[name]:
            raise UserError(f"`{name}`: a vsnet gives finer views, no volume; leave it out")
    return ScanOptions(**{f.name: getattr(options, f.name) for f in fields(ScanOptions)})


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
