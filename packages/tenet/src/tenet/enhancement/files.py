"""``tenet enhance``: recordings on disk to structure, brightness and objects on disk."""

from pathlib import Path
from typing import Any

import torch

from scopekit.errors import UserError, worded
from scopekit.images.files import SUFFIXES, WHOLE_FILE, Selection, VoxelSize, stack_stem
from scopekit.inputs import find_inputs, input_record, require_same_input, run_all
from scopekit.memory import return_freed_memory
from scopekit.outputs import (
    require_names,
    require_new,
    require_no_input,
    require_writable,
    whole_files,
)
from scopekit.progress import say
from scopekit.settings import read_yaml
from tenet import __version__
from tenet.config.files import Config, as_config
from tenet.data.recordings import RecordingFile, is_result, open_recording, voxel_of
from tenet.data.value_range import ValueRange, require_range
from tenet.enhancement.chunks import halo
from tenet.enhancement.results import ENDINGS, StackOptions, StackTask, enhance_stack
from tenet.network.jnet import JNet
from tenet.network.weights import load_evaluated, weights_file
from tenet.objects.labelling import CONNECTIVITY


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
    dtype: str = "float32",
    overwrite: bool = False,
) -> None:
    """Enhance every time point of every recording among the inputs.

    See ``tenet enhance --help``; a threshold that is not given is the configuration's.

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
    model = load_evaluated(weights, config, threshold=threshold, device=device)
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
    )
    work = _Work(
        config, model, weights, options, out, time_points, selection, sources, overwrite=overwrite
    )
    done = run_all(sources, work)
    if not work.enhanced:
        raise UserError(
            f"{out}: all results exist ({len(done)} inputs): add `overwrite=True` to "
            "replace them, or choose another `out`"
        )


class _Work:
    """Enhances the time points of one file.

    Attributes
    ----------
    enhanced
        How many time points were.
    """

    def __init__(
        self,
        config: Config,
        model: JNet,
        weights: Path,
        options: StackOptions,
        out: Path,
        time_points: tuple[int, ...] | None,
        selection: Selection,
        sources: list[Path],
        *,
        overwrite: bool,
    ) -> None:
        self._config, self._model, self._weights = config, model, weights
        self._options, self._out, self._time_points = options, out, time_points
        self._selection, self._sources, self._overwrite = selection, sources, overwrite
        self.enhanced = 0

    def __call__(self, path: Path) -> Path:
        recording = open_recording(path, self._selection)
        voxel_um, origin = self._voxel(recording)
        known = self._options.value_range is not None or self._model.params.any_scale
        if recording.full_scale is not None and not known:
            say(
                f"{path.name}: 0 and {recording.full_scale:g}, the range of its camera, count as 0 "
                "and 1; name what was recorded with `value_range`, if that is far less"
            )
        frames = self._time_points or range(recording.n_frames)
        for frame in frames:
            recording.require_time_point(frame)
        failures = []
        for frame in frames:
            name = stack_stem(path)
            if recording.n_frames > 1:
                name += f"_t{frame:0{max(len(str(recording.n_frames - 1)), 3)}d}"
            try:
                self._one(recording, frame, f"{name}_tenet", voxel_um, origin)
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

    def _one(
        self, recording: RecordingFile, frame: int, name: str, voxel_um: VoxelSize, origin: str
    ) -> None:
        out = self._out
        last = out / f"{name}{ENDINGS[-1]}"
        require_names(out / name, ENDINGS)
        noted = self._noted(recording, frame, origin)
        for ending in ENDINGS:
            require_no_input(out / f"{name}{ending}", self._sources)
        if last.exists() and not self._overwrite:
            require_same_input(out / f"{name}.yaml", last, recording.path)
            other = ", ".join(_other_settings(out / f"{name}.yaml", noted))
            say(f"{last} exists{f', made with another {other}' if other else ''}: skipped")
            return
        task = StackTask(recording, frame, voxel_um, self._options, noted)
        with whole_files(out / name, ENDINGS) as folder:
            require_new(last, overwrite=self._overwrite)  # another run may have finished it
            enhance_stack(self._model, task, folder)
        self.enhanced += 1
        say(str(last))

    def _voxel(self, recording: RecordingFile) -> tuple[VoxelSize, str]:
        """Return the (z, y, x) step of the recording in um, and who tells it."""
        steps, trained = recording.steps, self._model.recorded_voxel_um
        told = "the network was not trained for such voxels; resample the stack, or train for it"
        found = voxel_of(recording.path, steps, trained, told)
        origin = "the file" if steps.source else "the configuration"
        unknown = [axis for axis in "zyx" if getattr(steps, f"{axis}_um") is None]
        if steps.source and unknown:
            origin += f", {' and '.join(unknown)} from the configuration"
        return found, origin

    def _noted(self, recording: RecordingFile, frame: int, origin: str) -> dict[str, Any]:
        options = self._options
        return {
            "method": "tenet",
            "tenet_version": __version__,
            **input_record(recording.path),
            "time_point": frame,
            "recorded_shape": list(recording.shape),
            "voxel_size_from": origin,
            "checkpoint": str(self._weights),
            "configuration": self._config.name,
            "threshold": options.threshold,
            "value_range": options.value_range and list(options.value_range),
            **self._selection.settings(),
            "dtype": options.dtype,
            "params": self._model.params.model_dump(mode="json"),
            "connectivity": CONNECTIVITY,
            "halo_voxels": list(halo(self._config.params)),
            "device": str(self._model.device),
            "torch_version": str(torch.__version__),
        }


def _other_settings(path: Path, settings: dict[str, Any]) -> list[str]:
    """Return in which of the options that shape results those of a settings file differ."""
    try:
        found = read_yaml(path)
    except UserError:
        return []
    names = ["configuration", "checkpoint", "value_range", "threshold", "dtype"]
    names += ["channel", "position", "frames_are"]
    return [name for name in names if found.get(name) != settings.get(name)]
