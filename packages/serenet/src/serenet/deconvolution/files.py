"""``serenet deconvolve``: view stacks on disk to deconvolved volumes on disk, resumable."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optics import LightFieldMicroscope
from scopekit.images.files import StackFile
from scopekit.inputs import run_all
from scopekit.memory import return_freed_memory
from scopekit.progress import say
from scopekit.series.store import FrameSeries
from serenet import __version__
from serenet.deconvolution.earlier import earlier_result, tell
from serenet.deconvolution.fit import FIT, draw_fit
from serenet.deconvolution.frame import FrameDeconvolver
from serenet.deconvolution.resume import SavedSweeps
from serenet.deconvolution.setup import DeconvolveOptions, set_up
from serenet.deconvolution.stopping import FOUND
from serenet.deconvolution.subsets import EXPONENT
from serenet.deconvolution.workers import DeconvolvedFrames
from serenet.networks.shipped import checkpoint_file
from serenet.results.contents import digests
from serenet.results.workers import absolute_options, require_series, spread_series
from serenet.results.writer import ResultWriter
from serenet.views.files import find_stacks, open_views
from serenet.virtual_scanning.frame import warn_of_sampling

__all__ = ["DeconvolveOptions", "deconvolve_files"]


def deconvolve_files(inputs: list[Path], options: DeconvolveOptions) -> list[Path]:
    """Deconvolve every view stack among the inputs; return the volumes' paths.

    Volumes that land as TIFF are made file by file. Those that land as OME-Zarr are made frame by
    frame, here or by the workers of a dask cluster.
    """
    return_freed_memory()
    if options.dask is not None:
        require_series(options.dask, options.format)
        options = replace(options, format="zarr")
    sources = find_stacks(inputs, folders_are_series=options.format == "zarr")
    # The workers of a cluster have their own device.
    setup = set_up(replace(options, device="cpu") if options.dask else options)
    microscope = setup.microscope
    settings = {
        "method": "deconvolved",
        "serenet_version": __version__,
        "psf": str(options.psf or "computed from the optics"),
        "virtual_scan": str(options.virtual_scan) if options.virtual_scan else None,
        **digests(
            psf=options.psf,
            virtual_scan=options.virtual_scan and checkpoint_file(options.virtual_scan),
        ),
        "optics": microscope.model_dump(mode="json"),
        "iterations": options.iterations or FOUND,
        "step_exponent": EXPONENT,
        "smooth": setup.is_smooth,
        "tv": options.tv,
        "stop_at_change": options.stop_at_change,
        **options.selection.settings(),
        "background": _background(options, microscope),
        "device": f"workers of {options.dask}" if options.dask else str(setup.device),
        "dtype": options.dtype,
    }

    def finish(stem: Path, frame: int, n_frames: int, record: dict[str, Any]) -> None:
        fit = record.get(FIT)
        if fit is not None:
            if options.preview:
                draw_fit(microscope, stem.with_name(f"{stem.name}_fit.png"), fit)
            record[FIT] = fit["deviance"]  # the maps are in the picture

    writer = ResultWriter(
        options,
        "deconvolved",
        settings,
        finish=finish,
        may_go_on=lambda result: earlier_result(result, settings) is not None,
    )

    def work(path: Path) -> Path:
        stack, pages = open_views(path, setup.recorded, options.selection)
        warn_of_sampling(stack, microscope, scans=setup.scan is not None)
        state = SavedSweeps.of_run(writer.result(path), writer.stamp(stack))
        earlier = None if options.overwrite else earlier_result(writer.result(path), settings)
        if earlier is not None and setup.is_smooth:
            say(f"{earlier.path}: smoother than what it was made of, so begun anew")
            earlier = None
        if earlier is not None:
            tell(earlier)

        def spread(stack: StackFile, series: FrameSeries, frames: Sequence[int]) -> dict[int, str]:
            state.begin()
            source = DeconvolvedFrames(
                stack.path.resolve(),
                absolute_options(options),
                series.result.resolve(),
                state.text,
                str(settings),
            )
            failures: dict[int, str] = {}
            waiting = list(frames)
            while waiting and options.iterations is None and state.sweeps() is None:
                # The first finds how many sweeps all have.
                first = waiting.pop(0)
                failures |= spread_series(str(options.dask), source, series, [first])
            if waiting:
                failures |= spread_series(str(options.dask), source, series, waiting)
            return failures

        result = writer.write(
            stack,
            setup.volume_shape(stack.shape[-2:]),
            microscope.voxel_um,
            FrameDeconvolver(setup, pages, state, earlier),
            spread=spread if options.dask else None,
            kept=state.forget,
        )
        state.remove()
        return result

    return run_all(writer.pending(sources), work)


def _background(options: DeconvolveOptions, microscope: LightFieldMicroscope) -> float | str:
    if options.background is not None:
        return options.background
    return "1 % quantile of each view" if microscope.scanning == 1 else "1 % quantile"
