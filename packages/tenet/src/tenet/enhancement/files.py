"""``tenet enhance``: recordings on disk to structure, brightness and objects on disk."""

from dataclasses import replace
from pathlib import Path

from scopekit.errors import UserError, worded
from scopekit.images.files import SUFFIXES, WHOLE_FILE, Selection
from scopekit.images.zarr_import import zarr
from scopekit.inputs import find_inputs, run_all, sha256_of
from scopekit.memory import GB, return_freed_memory
from scopekit.outputs import require_writable
from scopekit.progress import say
from scopekit.series.dask import require_scheduler, spread_frames, worker_share
from tenet.config.files import Config, as_config
from tenet.data.recordings import is_result
from tenet.data.value_range import ValueRange, require_range
from tenet.enhancement.recording import Enhancer, OpenRecording
from tenet.enhancement.results import StackOptions
from tenet.enhancement.series import MakeFrames
from tenet.enhancement.workers import EnhanceJob, EnhanceSetting, make_on_workers
from tenet.network.weights import load_evaluated, weights_file


def enhance_files(
    inputs: list[Path],
    config: Config | str | Path,
    checkpoint: str | Path,
    out: Path,
    *,
    time_points: tuple[int, ...] | None = None,
    threshold: float | None = None,
    value_range: ValueRange | None = None,
    selection: Selection = WHOLE_FILE,
    max_memory_gb: float | None = None,
    device: str = "auto",
    dask: str | None = None,
    dtype: str = "float32",
    format: str | None = None,
    overwrite: bool = False,
) -> None:
    """Enhance every time point of every recording among the inputs.

    See ``tenet enhance --help``; a threshold that is not given is the configuration's. Time points
    are enhanced one after the other here, or by the workers of a dask cluster. ``format`` is
    ``tif`` or ``zarr``, by default that of each recording.

    Raises
    ------
    UserError
        At once if nothing can be done; at the end, if some could not be.
    """
    require_range(value_range)
    return_freed_memory()
    sources = find_inputs(inputs, SUFFIXES, is_result)
    config = as_config(config)
    weights = weights_file(checkpoint)
    if dask is not None:
        require_scheduler(dask)
    # The workers of a cluster load their own.
    where = "cpu" if dask else device
    model = load_evaluated(weights, config, threshold=threshold, device=where)
    require_writable(out)
    known = value_range is not None or model.params.any_scale
    if not known and weights.stem == config.pretrained_model:
        told = (
            f"warning: {checkpoint} was only pre-trained, on the brightness of simulated "
            "images: stacks scaled to their own maximum may come out too thick; fine-tune, or name "
            "with `value_range` the recorded values that were 0 and 1 there"
        )
        say(worded(told))
    options = StackOptions(
        model.params.threshold,
        value_range,
        max_memory_gb,
        dtype,
        format,
    )
    stores = any(map(options.lands_as_zarr, sources))
    if dtype != "float32" and stores:
        raise UserError(
            f"`dtype={dtype}`: the scale is known when all is done, and OME-Zarr is written part "
            "by part: leave it out, or give `format=tif`"
        )
    if stores:
        zarr()  # before any work, and no fault of an input
    setting = EnhanceSetting(
        config,
        config.model_dump_json(),
        weights.resolve(),
        sha256_of(weights),
        device,
        options,
        out.resolve(),
        selection,
        overwrite,
    )
    make = None if dask is None else make_on_workers(dask, setting, model)
    if dask is not None and stores and max_memory_gb is None:
        # Parts are planned here, and made there.
        share = worker_share(dask)
        options = replace(options, max_memory_gb=share and share / GB)
    enhancer = Enhancer(
        config, model, weights, options, out, selection, sources, overwrite=overwrite
    )
    work = _Work(enhancer, time_points, make, knows_range=known)
    try:
        run_all(sources, work)
    except UserError as failure:
        if not work.todo:
            raise
        work.failures.append(str(failure))
    if work.todo:
        _spread(str(dask), setting, work)
    if not work.enhanced:
        raise UserError(
            f"{out}: all results exist ({len(sources)} inputs): add `overwrite=True` to "
            "replace them, or choose another `out`"
        )


def _spread(scheduler: str, setting: EnhanceSetting, work: "_Work") -> None:
    """Enhance the time points that are left to do on the workers of a cluster."""
    job = EnhanceJob(setting, tuple((path.resolve(), frame) for path, frame in work.todo))
    failed = spread_frames(scheduler, job, range(len(job.tasks)), "enhance")
    made = len(job.tasks) - len(failed)
    work.enhanced += made
    say(f"{setting.out}: {made} time points enhanced")
    if failed:
        named = []
        for number, reason in failed.items():
            path, frame = work.todo[number]
            where = "" if path.name in reason else f"{path}, time point {frame}: "
            named.append(f"{where}{reason}")
        work.failures.append(
            f"{len(failed)} of {len(job.tasks)} time points failed, the rest is done: "
            + "; ".join(named)
        )
    if work.failures:
        raise UserError("; ".join(work.failures))


class _Work:
    """Enhances the time points of one file, or gathers them for the workers of a cluster.

    Those that become OME-Zarr are made at once, by ``make`` if there is a cluster.

    Attributes
    ----------
    enhanced
        How many time points were.
    todo
        File and time point of those that are left to workers.
    failures
        What failed before they began.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        time_points: tuple[int, ...] | None,
        make: MakeFrames | None,
        *,
        knows_range: bool,
    ) -> None:
        self._enhancer, self._time_points, self._make = enhancer, time_points, make
        self._knows_range = knows_range
        self.enhanced = 0
        self.todo: list[tuple[Path, int]] = []
        self.failures: list[str] = []

    def __call__(self, path: Path) -> Path:
        opened = self._enhancer.open(path)
        recording = opened.file
        if recording.full_scale is not None and not self._knows_range:
            say(
                f"{path.name}: 0 and {recording.full_scale:g}, the range of its camera, count as 0 "
                "and 1; name what was recorded with `value_range`, if that is far less"
            )
        frames = self._time_points or range(recording.n_frames)
        for frame in frames:
            recording.require_time_point(frame)
        if self._enhancer.options.lands_as_zarr(path):
            if not self._enhancer.is_series_done(opened):
                self.enhanced += self._enhancer.enhance_series(opened, frames, self._make)
            return path
        failures = []
        for frame in frames:
            try:
                self._one(opened, frame)
            except UserError as failure:
                if len(frames) == 1:
                    raise
                say(f"error: {failure}")
                failures.append(str(frame))
        if failures:
            raise UserError(
                f"{path}: {len(failures)} of {len(frames)} time points failed (time point "
                f"{', '.join(failures)}), the rest is done"
            )
        return path

    def _one(self, opened: OpenRecording, frame: int) -> None:
        if self._enhancer.is_done(opened, frame):
            return
        if self._make is not None:
            self.todo.append((opened.file.path, frame))
            return
        self._enhancer.enhance(opened, frame)
        self.enhanced += 1
